"""One parity run: find the reference, compare, and name the mistake if they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrid_edge.engines import Engine
from rrid_edge.errors import CheckFailedError, printable
from rrid_edge.files import write_json
from rrid_edge.model.names import Kind, chart_path, goldens_path, is_engine, kind_of, onnx_beside
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.parity.chart import write_parity_chart
from rrid_edge.parity.check import ParityReport, check_parity, refuse_other_network
from rrid_edge.parity.diagnosis import Diagnosis, Run, diagnose, pixel_mistake
from rrid_edge.parity.reference import OpenNetwork, Reference, ReferenceSettings, find_reference, read_sources

MistakenNetworks = Callable[[Path], Mapping[str, Run]]
"""From an ONNX file to copies with one mistake each, by its name; see ``rrid_export.mistakes.mistaken_networks``."""


@dataclass(frozen=True)
class ParityRun:
    """The result of a parity run.

    Attributes:
        model: the model file under test.
        images: the given folder of crops, or None.
        reference: the reference.
        report: the parity report.
        descriptors: the engine's descriptors of the reference's images, float32 (N, D).
        wrong_pixels: what is wrong with the pixels of the goldens; None if they are right or could not be checked.
        diagnosis: the mistake that explains the difference; None if the report passed.
        untried: one line per group of mistakes that could not be imitated, with what it needs.
    """

    model: Path
    images: Path | None
    reference: Reference
    report: ParityReport
    descriptors: NDArray[np.float32]
    wrong_pixels: str | None = None
    diagnosis: Diagnosis | None = None
    untried: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the engine agrees with the reference, and the goldens have the right pixels."""
        return self.report.passed and self.wrong_pixels is None

    def to_dict(self) -> dict[str, Any]:
        """The content of the parity report beside the model, as JSON-serialisable values."""
        return self.report.to_dict() | {
            "passed": self.passed,
            "sample": self.reference.sample.to_dict(),
            "pixels": self.wrong_pixels,
            "diagnosis": self.diagnosis.to_dict() if self.diagnosis is not None else None,
        }

    def write(self, path: Path) -> None:
        """Write the report, and its chart beside it.

        Raises:
            OutputError: a file cannot be written.
        """
        write_json(path, self.to_dict())
        write_parity_chart(chart_path(path), self.report, self.reference.goldens.descriptors, self.descriptors)

    def refuse_failure(self) -> None:
        """Raise an error if the run did not pass.

        Raises:
            CheckFailedError: the engine differs from the reference, or the goldens have wrong pixels.
        """
        if not self.report.passed:
            cause = f" ({self.diagnosis.sentence()})" if self.diagnosis is not None else ""
            raise CheckFailedError(
                f"parity failed: {'; '.join(self.report.failures)}{cause}; do not deploy {printable(self.model)} on "
                f"this runtime ({self.report.engine})"
            )
        if self.wrong_pixels is not None:
            raise CheckFailedError(
                f"the goldens do not belong to {printable(self.images or '')}: {self.wrong_pixels}; read images with "
                "rrid_edge.crops.images, or make the goldens with: rrid-edge export CHECKPOINT --crops FOLDER"
            )


def run_parity(
    engine: Engine,
    model: Path,
    settings: ReferenceSettings,
    *,
    open_network: OpenNetwork | None = None,
    mistaken_networks: MistakenNetworks | None = None,
) -> ParityRun:
    """Compare an engine with its reference. If they differ, look for the mistake.

    Args:
        engine: the engine under test.
        model: its model file.
        settings: what to compare it with.
        open_network: opens a checkpoint; None refuses a checkpoint as the reference.
        mistaken_networks: makes networks with mistakes of scaling and mirroring. These mistakes are not tried if it is
            None or raises ModuleNotFoundError.

    Raises:
        UsageError: the reference or its crops are missing, or there are too few crops.
        FingerprintMismatchError: the reference is another network.
        MissingDependencyError: the reference needs a package that is not installed.
        ModelFileError: a file is damaged.
    """
    reference = find_reference(model, engine.spec, settings, open_network)
    goldens = reference.goldens
    refuse_other_network(engine, goldens.fingerprint, reference.name)
    own_images = kind_of(settings.reference or goldens_path(model)) is Kind.GOLDENS
    sources = read_sources(goldens, settings.images) if own_images and settings.images is not None else None
    descriptors = engine.run(goldens.images)
    report = check_parity(engine, goldens, reference_name=reference.name, descriptors=descriptors)
    wrong_pixels = pixel_mistake(goldens.images, sources) if sources is not None else None
    run = ParityRun(model, settings.images, reference, report, descriptors, wrong_pixels)
    return run if report.passed else _diagnosed(run, engine, sources, mistaken_networks)


def _diagnosed(
    run: ParityRun, engine: Engine, sources: list[Image.Image] | None, mistaken_networks: MistakenNetworks | None
) -> ParityRun:
    """Add the diagnosis to a run, and the mistakes that could not be tried."""
    untried = []
    if sources is None:
        untried.append("resize mistakes (they need goldens and the folder of their source images)")
    networks: Mapping[str, Run] = {}
    graph = _graph_beside(run.model, engine)
    if graph is None:
        untried.append("mistakes of scaling and mirroring (they need the ONNX file of this network beside the engine)")
    elif mistaken_networks is None:
        untried.append("mistakes of scaling and mirroring (pip install 'rrid-edge[export]')")
    else:
        try:
            networks = mistaken_networks(graph)
        except ModuleNotFoundError as error:
            untried.append(f"mistakes of scaling and mirroring (pip install {error.name})")
    goldens = run.reference.goldens
    diagnosis = diagnose(
        engine,
        goldens.images,
        goldens.descriptors,
        sources=sources,
        networks=networks,
        descriptors=run.descriptors,
    )
    return replace(run, diagnosis=diagnosis, untried=tuple(untried))


def _graph_beside(model: Path, engine: Engine) -> Path | None:
    """The ONNX file of the engine's network: ``model`` itself, or the float32 file beside it; None if there is none."""
    if not is_engine(model):
        return model
    beside = onnx_beside(model, "fp32")
    return beside if beside.is_file() and read_spec(beside).fingerprint == engine.spec.fingerprint else None
