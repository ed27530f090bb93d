"""One parity run: find the reference, compare, and name the mistake where they differ."""

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
"""Copies of an ONNX file with a mistake built in; see ``rrid_export.mistakes.mistaken_networks``."""


@dataclass(frozen=True)
class ParityRun:
    """What a parity run found.

    Attributes:
        model: the file under test.
        images: folder of crops that was given, or None.
        reference: what the engine was compared with.
        report: the comparison.
        descriptors: float32 (N, D): the engine's, of the reference's images.
        wrong_pixels: what is wrong with the pixels of the goldens, in words; None where nothing is, or nobody can tell.
        diagnosis: the mistake that explains the difference; None where the report passed.
        untried: mistakes that could not be imitated, each with what is missing for it.
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
        """Whether the engine answers as the reference, and the reference saw the right pixels."""
        return self.report.passed and self.wrong_pixels is None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-serialisable values: the parity report that is kept beside the model."""
        return self.report.to_dict() | {
            "passed": self.passed,
            "pixels": self.wrong_pixels,
            "diagnosis": self.diagnosis.to_dict() if self.diagnosis is not None else None,
        }

    def write(self, path: Path) -> None:
        """Write the report, and its chart beside it.

        Raises:
            OutputError: they cannot be written.
        """
        write_json(path, self.to_dict())
        write_parity_chart(chart_path(path), self.report, self.reference.goldens.descriptors, self.descriptors)

    def refuse_failure(self) -> None:
        """Refuse a model that did not pass.

        Raises:
            CheckFailedError: it does not answer as the reference, or the goldens are of other pixels.
        """
        if not self.report.passed:
            cause = f" ({self.diagnosis.sentence()})" if self.diagnosis is not None else ""
            raise CheckFailedError(
                f"parity failed: {'; '.join(self.report.failures)}{cause}; do not deploy {printable(self.model)} as it runs "
                "here"
            )
        if self.wrong_pixels is not None:
            raise CheckFailedError(
                f"the goldens do not belong to {printable(self.images or '')}: {self.wrong_pixels}; make them with: rrid-edge "
                "export CHECKPOINT --crops FOLDER; or read images as rrid_edge.crops.images does"
            )


def run_parity(
    engine: Engine,
    model: Path,
    settings: ReferenceSettings,
    *,
    open_network: OpenNetwork | None = None,
    mistaken_networks: MistakenNetworks | None = None,
) -> ParityRun:
    """Compare an engine with its reference.

    Args:
        engine: the engine under test, of ``model``.
        model: the file.
        settings: what to compare it with.
        open_network: opens a checkpoint; without it the reference cannot be one.
        mistaken_networks: without it, or where it raises ModuleNotFoundError, mistakes of scaling and mirroring are not
            imitated.

    Raises:
        UsageError: no such reference, no crops, or too few.
        FingerprintMismatchError: the reference is another network.
        MissingDependencyError: the reference needs a package that is not installed.
        ModelFileError: a damaged file.
    """
    reference = find_reference(model, engine.spec, settings, open_network)
    goldens = reference.goldens
    refuse_other_network(engine, goldens.fingerprint)
    own_images = kind_of(settings.reference or goldens_path(model)) is Kind.GOLDENS
    sources = read_sources(goldens, settings.images) if own_images and settings.images is not None else None
    descriptors = engine.run(goldens.images)
    report = check_parity(
        engine,
        goldens.images,
        goldens.descriptors,
        reference_name=reference.name,
        reference_fingerprint=goldens.fingerprint,
        labels=goldens.labels,
        descriptors=descriptors,
    )
    wrong_pixels = pixel_mistake(goldens.images, sources) if sources is not None else None
    run = ParityRun(model, settings.images, reference, report, descriptors, wrong_pixels)
    return run if report.passed else _diagnosed(run, engine, sources, mistaken_networks)


def _diagnosed(
    run: ParityRun, engine: Engine, sources: list[Image.Image] | None, mistaken_networks: MistakenNetworks | None
) -> ParityRun:
    """The run with the mistake that explains its difference, and with what could not be tried."""
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
    """The ONNX file of the engine's network: the model itself, or the float32 one that lies beside it."""
    if not is_engine(model):
        return model
    beside = onnx_beside(model, "fp32")
    return beside if beside.is_file() and read_spec(beside).fingerprint == engine.spec.fingerprint else None
