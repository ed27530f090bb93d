"""Write the float16 file of an adopted network, proved against the goldens beside its float32 file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from rrid_edge.engines.onnxruntime.cpu import MemorySession, OnnxRuntimeEngine
from rrid_edge.errors import CheckFailedError, ModelFileError, UsageError, item_at_work, printable, unforeseen
from rrid_edge.files import atomic_output, write_json
from rrid_edge.model.names import chart_path, goldens_path, onnx_beside, parity_report_path
from rrid_edge.model.spec import ADOPTED, ModelSpec
from rrid_edge.model.weights import contract_file, read_checked_spec
from rrid_edge.parity.chart import write_parity_chart
from rrid_edge.parity.check import ParityReport, check_parity
from rrid_edge.parity.goldens import save_goldens
from rrid_edge.parity.reference import Reference
from rrid_edge.progress import step
from rrid_export.adopt.graphs import sort_nodes
from rrid_export.half.conversion import converted, emulated, with_types
from rrid_export.half.islands import LIMIT, PRODUCTS, SMALLEST, float32_nodes

_EMULATED_IMAGES: Final = 64
"""Golden images of the emulation, which takes up to twice the time of float32."""
_MOST_KEPT: Final = 0.75
"""Largest share of products in float32. With more of them, a float16 file is hardly smaller or faster."""
_FIRST: Final = (1 / 16, 1 / 8, 1 / 4, 1 / 2, _MOST_KEPT)
"""Shares of the products, the first ones of the graph, that are kept in float32 in turn until parity passes."""


@dataclass(frozen=True)
class HalfResult:
    """The float16 file that was written.

    Attributes:
        model: the file.
        spec: its spec.
        goldens: its goldens.
        report: its parity report as JSON.
        parity: the parity report as data.
        kept: names of convolutions and matrix products that stay in float32.
    """

    model: Path
    spec: ModelSpec
    goldens: Path
    report: Path
    parity: ParityReport
    kept: tuple[str, ...]


def write_half(source: Path, folder: Path | None = None) -> HalfResult:
    """Write ``<stem>.fp16.onnx`` of an adopted float32 file, with its goldens and parity report.

    The result of each float16 operation is emulated too, because a CPU computes float16 files in float32.

    Args:
        source: the float32 file, with its goldens beside it.
        folder: folder to write to; None takes that of ``source``.

    Raises:
        UsageError: the file is not an adopted float32 network, or has no goldens beside it.
        ModelFileError: a file is damaged.
        CheckFailedError: float16 cannot hold the network, or loses too much; nothing is written.
        OutputError: the folder cannot be written.
    """
    spec = _adopted_spec(source)
    reference = Reference.of_goldens(goldens_path(source), spec)
    target = onnx_beside((folder or source.parent) / source.name, "fp16")
    half_spec, goldens = spec.with_precision("fp16"), reference.goldens
    with item_at_work(target), atomic_output(target) as partial:
        model = with_types(_loaded(source))
        try:
            kept = float32_nodes(model, goldens.images)
        except Exception as error:  # the runtime's own exception classes are not public
            raise ModelFileError(
                f"{printable(source)}: ONNX Runtime cannot run this model ({unforeseen(error)}); adopt the network "
                "again"
            ) from error
        proved = _converted_within_parity(model, kept, partial, half_spec, reference)
    if goldens_path(target) != goldens_path(source):
        save_goldens(goldens_path(target), goldens)
    path = parity_report_path(target)
    write_json(path, proved.report.to_dict() | {"sample": reference.sample.to_dict()})
    write_parity_chart(chart_path(path), proved.report, goldens.descriptors, proved.descriptors)
    return HalfResult(target, half_spec, goldens_path(target), path, proved.report, proved.kept)


@dataclass(frozen=True)
class _Proof:
    """A float16 file that was tried.

    Attributes:
        kept: names of the products that stay in float32.
        report: its parity report.
        descriptors: its descriptors of the golden images, float32 (N, D).
        failures: why it, or the emulation of it, fails parity.
    """

    kept: tuple[str, ...]
    report: ParityReport
    descriptors: NDArray[np.float32]
    failures: tuple[str, ...]


@step("converting to float16")
def _converted_within_parity(
    model: Any,  # noqa: ANN401 - a protobuf message
    kept: Collection[str],
    path: Path,
    spec: ModelSpec,
    reference: Reference,
) -> _Proof:
    """Write a file within parity, with as few of the first products in float32 as that takes.

    An error of the first layers passes through all others. In a MobileNetV2 with random weights, the first 8 of 53
    products made three quarters of it, the last 27 a hundredth.

    Raises:
        CheckFailedError: no file passes.
    """
    tried: _Proof | None = None
    for names in _choices(model.graph, kept):
        products = _kept_products(model.graph, names)
        half = type(model)()
        half.CopyFrom(model)
        half = converted(half, names)
        path.write_bytes(contract_file(half.SerializeToString(), spec))
        _check(path)
        tried = _prove(path, reference, MemorySession(emulated(half).SerializeToString()), products)
        if not tried.failures:
            return tried
    assert tried is not None
    also = f", also with {len(tried.kept)} convolutions and matrix products in float32" if tried.kept else ""
    raise CheckFailedError(
        f"float16 loses too much of this network{also}: {'; '.join(tried.failures)}; nothing was written; use the "
        "float32 file"
    )


def _choices(graph: Any, kept: Collection[str]) -> Iterator[set[str]]:  # noqa: ANN401 - a protobuf message
    """Nodes to keep in float32: ``kept``, then also the nodes of more and more of the first products."""
    found = set(kept)
    yield found
    starts = [index for index, node in enumerate(graph.node) if node.op_type in PRODUCTS]
    for share in _FIRST:
        more = found.union(node.name for node in graph.node[: starts[int(share * len(starts))]])
        products = sum(graph.node[index].name in more for index in starts)
        if more != found and products <= _MOST_KEPT * len(starts):
            found = more
            yield found


def _adopted_spec(source: Path) -> ModelSpec:
    spec = read_checked_spec(source)
    if spec.family != ADOPTED:
        raise UsageError(
            f"{printable(source)}: float16 of a network that was trained here comes from its checkpoint: give that"
        )
    if spec.precision != "fp32":
        raise UsageError(f"{printable(source)}: precision {spec.precision}, expected the float32 file of this network")
    return spec


def _loaded(source: Path) -> Any:  # noqa: ANN401 - a protobuf message
    try:
        model = onnx.load_model(str(source))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's, the checker's and the system's own classes
        raise ModelFileError(
            f"{printable(source)}: not an ONNX file, or damaged ({str(error).splitlines()[0]}); adopt the network again"
        ) from error
    sort_nodes(model.graph)
    return model


def _check(path: Path) -> None:
    """Refuse a file that does not follow ONNX, which a rare operator may cause.

    Raises:
        CheckFailedError: says what is wrong.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # the checker's own classes
        reason = " ".join(str(error).split())[:200]
        raise CheckFailedError(
            f"this network cannot be converted to float16 ({reason}); nothing was written; use the float32 file"
        ) from error


def _kept_products(graph: Any, kept: Collection[str]) -> tuple[str, ...]:  # noqa: ANN401 - a protobuf message
    """Names of the products that stay in float32.

    Raises:
        CheckFailedError: they are more than three quarters of all.
    """
    names = [node.name for node in graph.node if node.op_type in PRODUCTS]
    found = tuple(name for name in names if name in kept)
    if len(found) > _MOST_KEPT * len(names):
        raise CheckFailedError(
            f"{len(found)} of {len(names)} convolutions and matrix products make or read values above {LIMIT:,.0f} or "
            f"below {SMALLEST:.1g}, which float16 does not hold safely (first: {found[0][:100]!r}); nothing was "
            "written; use the float32 file"
        )
    return found


def _prove(path: Path, reference: Reference, emulation: MemorySession, kept: tuple[str, ...]) -> _Proof:
    """Compare the written file, and the emulation of it, with the goldens."""
    goldens, first, name = reference.goldens, reference.limited(_EMULATED_IMAGES).goldens, reference.name
    with OnnxRuntimeEngine(path) as engine:
        found = engine.run(goldens.images)
        report = check_parity(engine, goldens, reference_name=name, descriptors=found)
        rounded = emulation.run(first.images)
        computed = check_parity(engine, first, reference_name=name, descriptors=rounded, batches=())
    return _Proof(kept, report, found, tuple(dict.fromkeys((*computed.failures, *report.failures))))
