"""``rrid-edge parity``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json, require, say
from rrid_edge.cli.options import PrecisionOption, RuntimeOption, ThreadsOption
from rrid_edge.cli.steps import open_model
from rrid_edge.errors import CheckFailedError, ImageError, UsageError, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from rrid_edge.engines.base import Engine
    from rrid_edge.model.spec import ModelSpec
    from rrid_edge.parity.check import ParityReport
    from rrid_edge.parity.diagnosis import Diagnosis, Run
    from rrid_edge.parity.goldens import Goldens
    from rrid_edge.ranking.labels import Labels


@app.command(
    epilog="Example: rrid-edge parity demo/models/rrid.onnx --reference runs/demo/best.safetensors --images demo/gallery",
    help="Prove that an engine answers as its reference does; exit 1 where it does not. The reference is a checkpoint "
    "(PyTorch runs it), another model file, or goldens that export saved (no PyTorch needed).",
)
def parity(
    model: Annotated[
        Path | None, typer.Argument(help="Model file under test; the one commands would choose if left out.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Checkpoint, model file or goldens (.npz); the goldens beside the model if left out."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of real crops. Goldens bring their own: with them, the folder they were read from."),
    ] = None,
    count: Annotated[int, typer.Option(min=2, help="Crops to take at most, evenly spaced.")] = 200,
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = None,
    threads: ThreadsOption = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Report to write; beside the model if left out: parity.json for rrid.onnx, else FILE.parity.json."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.files import write_json
    from rrid_edge.model.names import chart_path, parity_report_path
    from rrid_edge.parity.chart import write_parity_chart
    from rrid_edge.parity.check import check_parity, refuse_other_network
    from rrid_edge.parity.diagnosis import pixel_mistake

    path, engine = open_model(model, None, runtime, precision, threads)
    with engine:
        goldens, name = _reference(reference, path, engine, images, count)
        refuse_other_network(engine, goldens.fingerprint)
        sources = _sources(goldens, images) if _is_goldens(reference) and images is not None else None
        descriptors = engine.run(goldens.images)
        report = check_parity(
            engine,
            goldens.images,
            goldens.descriptors,
            reference_name=name,
            reference_fingerprint=goldens.fingerprint,
            labels=goldens.labels,
            descriptors=descriptors,
        )
        diagnosis = None if report.passed else _diagnose(engine, path, goldens, descriptors, sources)
    wrong_pixels = pixel_mistake(goldens.images, sources) if sources is not None else None
    facts = report.to_dict() | {
        "passed": report.passed and wrong_pixels is None,
        "pixels": wrong_pixels,
        "diagnosis": diagnosis.to_dict() if diagnosis is not None else None,
    }
    report_path = output or parity_report_path(path)
    write_json(report_path, facts)
    write_parity_chart(chart_path(report_path), report, goldens.descriptors, descriptors)
    if as_json:
        print_json(facts)
    else:
        _print(report, report_path, diagnosis)
    if not report.passed:
        cause = f" ({diagnosis.sentence()})" if diagnosis is not None else ""
        raise CheckFailedError(
            f"parity failed: {'; '.join(report.failures)}{cause}; do not deploy {printable(path)} as it runs here"
        )
    if wrong_pixels is not None:
        raise CheckFailedError(
            f"the goldens do not belong to {printable(images or '')}: {wrong_pixels}; make them with rrid-edge export "
            "--crops, or read images as rrid_edge.crops.images does"
        )


def _is_goldens(reference: Path | None) -> bool:
    from rrid_edge.model.names import Kind, kind_of

    return reference is None or kind_of(reference) is Kind.GOLDENS


def _sources(goldens: Goldens, folder: Path) -> list[Image]:
    """The pictures that goldens were read from, decoded at their own size.

    Raises:
        UsageError: one of them is not in the folder.
        ImageError: one of them cannot be read.
    """
    from rrid_edge.crops.images import load_rgb

    missing = [name for name in goldens.names if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            f"{printable(folder)}: {len(missing)} of {len(goldens.names)} images of the goldens are not there, the first is "
            f"{printable(missing[0])}; give the folder that export --crops read, or leave out --images"
        )
    return [load_rgb(folder / name) for name in goldens.names]


def _diagnose(
    engine: Engine, path: Path, goldens: Goldens, descriptors: NDArray[np.float32], sources: list[Image] | None
) -> Diagnosis:
    """Imitate the usual mistakes; say which could not be tried."""
    from rrid_edge.parity.diagnosis import diagnose

    untried = (
        [] if sources is not None else ["of the resize (give goldens, and --images with the folder they come from)"]
    )
    networks: dict[str, Run] = {}
    graph = _graph_beside(path, engine)
    try:
        from rrid_export.mistakes import mistaken_networks
    except ModuleNotFoundError as error:
        untried.append(f"of scaling and mirroring (pip install {error.name})")
    else:
        if graph is None:
            untried.append("of scaling and mirroring (no ONNX file of this network lies beside the engine)")
        else:
            networks = mistaken_networks(graph)
    if untried:
        say(f"not tried: mistakes {' and '.join(untried)}")
    return diagnose(
        engine,
        goldens.images,
        goldens.descriptors,
        sources=sources,
        networks=networks,
        descriptors=descriptors,
    )


def _graph_beside(path: Path, engine: Engine) -> Path | None:
    """The ONNX file of the engine's network: the model itself, or the float32 one that lies beside it."""
    from rrid_edge.model.names import is_engine, onnx_beside
    from rrid_edge.model.onnx_header import read_spec

    if not is_engine(path):
        return path
    beside = onnx_beside(path, "fp32")
    return beside if beside.is_file() and read_spec(beside).fingerprint == engine.spec.fingerprint else None


def _reference(
    reference: Path | None, model: Path, engine: Engine, folder: Path | None, count: int
) -> tuple[Goldens, str]:
    """Images, the reference's descriptors of them, and its name."""
    import numpy as np

    from rrid_edge.model.names import CHECKPOINT_SUFFIXES, Kind, goldens_path, is_model, kind_of
    from rrid_edge.parity.goldens import Goldens, load_goldens

    path = reference or goldens_path(model)
    kind = kind_of(path)
    if kind is Kind.GOLDENS:
        return load_goldens(path), f"goldens {printable(path)}"
    if folder is None:
        raise UsageError(f"the reference {printable(path)} needs crops to look at: give --images FOLDER")
    pixels, names, labels = read_crops(folder, engine.spec, count)
    if kind is Kind.CHECKPOINT:
        other = reference_network(path, engine.spec)
    elif is_model(path):
        other = _exact_engine(path)
    else:
        raise UsageError(
            f"{printable(path)}: no reference: expected a checkpoint ({', '.join(CHECKPOINT_SUFFIXES)}), a model file or "
            "goldens (.npz)"
        )
    with other:
        same = other.spec.fingerprint == engine.spec.fingerprint  # if not, check_parity refuses it by name
        descriptors = other.run(pixels) if same else np.empty((0, 0), np.float32)
        goldens = Goldens(pixels, descriptors, names, other.spec.fingerprint, labels)
        return goldens, f"{printable(path)} on {other.runtime}"


def _exact_engine(path: Path) -> Engine:
    """A model file on the runtime that computes most exactly: a reference in bfloat16 would prove little."""
    import importlib.util

    from rrid_edge.engines import open_engine
    from rrid_edge.model.names import is_engine

    if is_engine(path):
        return open_engine(path)
    if importlib.util.find_spec("onnxruntime") is not None:
        return open_engine(path, "onnxruntime")
    return open_engine(path, "openvino", precision="fp32")


def reference_network(path: Path, spec: ModelSpec) -> Engine:
    require("rrid_export.torch_engine", "export", "running the reference in PyTorch")
    from rrid_export.source import load_source
    from rrid_export.torch_engine import TorchEngine
    from rrid_train.checkpoint import is_checkpoint

    size = {} if is_checkpoint(path) else {"height_px": spec.height_px, "width_px": spec.width_px}
    return TorchEngine(load_source(path, **size), flip=spec.flip, max_batch=16)


def read_crops(folder: Path, spec: ModelSpec, count: int) -> tuple[NDArray[np.uint8], tuple[str, ...], Labels]:
    """Up to ``count`` readable crops, evenly spaced; broken ones are named on stderr."""
    import numpy as np

    from rrid_edge.crops.folder import list_images
    from rrid_edge.crops.images import read_image
    from rrid_edge.crops.naming import read_labels
    from rrid_edge.ranking.labels import Labels

    paths = list_images(folder)
    taken = min(count, len(paths))
    pixels, names = [], []
    for path in (paths[index * len(paths) // taken] for index in range(taken)):
        try:
            pixels.append(read_image(path, spec.height_px, spec.width_px))
        except ImageError as error:
            say(f"left out {error.message}")
        else:
            names.append(path.relative_to(folder).as_posix())
    if len(pixels) < 2:
        raise UsageError(
            f"{printable(folder)}: {len(pixels)} readable image(s); expected a folder of at least 2 crops, better 100"
        )
    return np.stack(pixels), tuple(names), Labels(*read_labels(names))


def _print(report: ParityReport, path: Path, diagnosis: Diagnosis | None) -> None:
    agreement, tolerance = report.agreement, report.tolerance
    rows = [
        ("minimum cosine", f"{agreement.min_cosine:.7f}", f">= {tolerance.min_cosine}"),
        ("1st percentile", f"{agreement.p1_cosine:.7f}", ""),
        ("mean cosine", f"{agreement.mean_cosine:.7f}", ""),
        ("largest difference", f"{agreement.max_abs_difference:.2e}", ""),
        ("worst block", f"{agreement.worst_block_cosine:.7f}", agreement.worst_block),
        ("top-1 agreement", f"{agreement.top1_agreement:.2%}", f">= {tolerance.top1:.1%}"),
        ("top-10 agreement", f"{agreement.top10_agreement:.2%}", "identical" if tolerance.top10_identical else ""),
        ("Kendall tau", f"{agreement.kendall_tau:.6f}", ""),
        ("any batch", f"{report.batch_min_cosine:.7f}", f">= {tolerance.min_cosine}"),
    ]
    if report.map_change is not None and report.rank1_change is not None:
        rows.append(("mAP change", f"{report.map_change:+.4f}", f">= -{tolerance.max_map_loss}"))
        rows.append(("rank-1 change", f"{report.rank1_change:+.4f}", ""))
    print(f"engine     {report.engine} ({report.arithmetic})")
    print(f"reference  {report.reference}, {agreement.images} images")
    for name, value, limit in rows:
        print(f"{name:<20}{value:>12}  {limit}")
    if diagnosis is not None:
        print(f"cause      {diagnosis.sentence()}")
        for finding in diagnosis.tried[:3]:
            print(
                f"  imitating {finding.mistake:<24}mean cosine {finding.mean_cosine:.7f}, lowest {finding.min_cosine:.7f}"
            )
    print(f"{'PASSED' if report.passed else 'FAILED'}  ({printable(path)})")
