"""``rrid-edge info``: the facts of a model. Those of a gallery are in :mod:`rrid_edge.cli.gallery_info`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json, told_choice
from rrid_edge.cli.wrapping import show_facts
from rrid_edge.errors import printable

if TYPE_CHECKING:
    from rrid_edge.model.engine_sidecar import EngineSidecar
    from rrid_edge.model.spec import ModelSpec


@app.command(
    epilog="Example: rrid-edge info models/rrid.onnx",
    help="Print the facts of a model or a gallery. Of a model: input size, precision, fingerprint; of a TensorRT "
    "engine also where it runs and what it was built from. Of a gallery: its model, crops, people, cameras, times, "
    "size. No runtime is needed.",
)
def info(
    model: Annotated[
        str | None,
        typer.Argument(
            help="ONNX file, TensorRT engine, indexed folder of crops, or milvus+http://HOST:19530/COLLECTION; "
            "default: RRID_EDGE_MODEL or the best in models/."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.cli.gallery_info import gallery_asked, print_gallery

    if model is not None and (gallery := gallery_asked(model)) is not None:
        print_gallery(model, gallery, as_json=as_json)
    else:
        _print_model(None if model is None else Path(model), as_json=as_json)


def _print_model(model: Path | None, *, as_json: bool) -> None:
    """Print the facts of a model file; None is the one that commands would take."""
    from rrid_edge.engines import choose_runtime
    from rrid_edge.model.choice import choose_model
    from rrid_edge.model.engine_sidecar import EngineSidecar
    from rrid_edge.model.ir_sidecar import IrSidecar
    from rrid_edge.model.names import Kind, is_engine, kind_of
    from rrid_edge.model.onnx_header import read_model_header, read_spec
    from rrid_edge.model.weights import check_weights

    path, why = choose_model(model)
    if is_engine(path):
        sidecar = EngineSidecar.read(path)
        sidecar.read_plan(path)  # otherwise these facts could be of another plan
        spec, kind = sidecar.spec, kind_of(path)
        rows = _engine_rows(sidecar)
        facts: dict[str, object] = {"engine": _engine_facts(sidecar)}
    elif kind_of(path) is Kind.IR:
        files = IrSidecar.read(path)
        files.check_files(path)
        spec, kind, facts = (
            files.spec,
            Kind.IR,
            {"ir": {"network": asdict(files.network), "weights": asdict(files.weights)}},
        )
        told = f"sha256 {files.weights.sha256}, checked"
        rows = [("weights", told), ("written by", f"rrid-edge {spec.version}, runs on OpenVINO")]
    else:
        spec, header = read_spec(path), read_model_header(path)
        total = check_weights(path)
        kind, facts = Kind.ONNX, {"opset": header.opset, "weights_sha256": total}
        told = f"sha256 {total}, checked" if total else "not vouched for (the file has format 1): export it again"
        rows = [("weights", told), ("written by", f"rrid-edge {spec.version}, operator set {header.opset}")]
    choice = choose_runtime(path)
    rows.append(("auto takes", told_choice(choice).removeprefix("runtime ")))
    facts["auto"] = {"runtime": choice.runtime, "reason": choice.reason}
    if as_json:
        print_json({"model": str(path), "kind": kind.name.lower(), **_spec_facts(spec), **facts})
        return
    chosen = f" ({why})" if model is None else ""
    show_facts([("model", f"{printable(path)}{chosen}"), *_spec_rows(spec), *rows], name_width=13)


def _spec_facts(spec: ModelSpec) -> dict[str, object]:
    """The spec as JSON values, without what its family does not have."""
    others = ("stripes",) if spec.preprocessing is not None else ("preprocessing", "origin")
    values = {name: value for name, value in asdict(spec).items() if name not in others}
    return {**values, "blocks": list(spec.blocks), "dimension": spec.dimension}


def _spec_rows(spec: ModelSpec) -> list[tuple[str, str]]:
    """Facts that an ONNX file and its engine share."""
    stripes = f", stripes {', '.join(map(str, spec.stripes))}" if spec.stripes else ""
    return [
        *_family_rows(spec),
        ("input", f"images, {spec.input_dtype} (batch, {', '.join(map(str, spec.input_shape))}), RGB, 0 to 255"),
        ("output", f"descriptors, float32 (batch, {spec.dimension}), unit length"),
        ("blocks", f"{len(spec.blocks)} x {spec.block_width}{stripes}"),
        ("mirrored", "mean with the mirrored image" if spec.flip else "no"),
        ("precision", spec.precision),
        *([("backbone", spec.backbone)] if spec.preprocessing is None else []),
        ("trained on", spec.training_data),
        ("fingerprint", spec.fingerprint),
        ("source", f"sha256 {spec.source_sha256}"),
    ]


def _family_rows(spec: ModelSpec) -> list[tuple[str, str]]:
    """Which network it is, and of an adopted one where it came from and what it is fed."""
    given = spec.preprocessing
    if given is None:
        return [("family", "RRID")]
    length = "brought to unit length in the file" if given.normalise == "l2" else "of unit length by the network"
    return [
        ("family", f"adopted, the network {printable(spec.backbone)} of another program"),
        ("origin", printable(spec.origin) or "unknown"),
        ("preprocessing", f"{given.describe()}; descriptors {length}"),
    ]


def _engine_rows(sidecar: EngineSidecar) -> list[tuple[str, str]]:
    """Facts of an engine only: machine, batch sizes, layers and build."""
    profile, proof = sidecar.profile, sidecar.proof
    chosen = [name.replace("_", " ") for name, value in asdict(sidecar.flags).items() if value is True]
    if sidecar.flags.optimization_level is not None:
        chosen.append(f"optimization level {sidecar.flags.optimization_level}")
    return [
        ("built from", f"{printable(sidecar.onnx_name)}, sha256 {sidecar.onnx_sha256}, {_built(sidecar)}"),
        ("runs on", _where(sidecar)),
        ("batches", f"{profile.min_batch} to {profile.max_batch} images, tuned for {profile.opt_batch}"),
        ("layers", proof.in_words()),
        ("built as", ", ".join(chosen) or "plain"),
        *([("state", sidecar.rtx.note)] if sidecar.rtx is not None else []),
        ("plan", f"{sidecar.plan_bytes / 1e6:.1f} MB, sha256 {sidecar.plan_sha256}"),
        ("written by", f"rrid-edge {sidecar.spec.version}"),
    ]


def _where(sidecar: EngineSidecar) -> str:
    """The version of TensorRT and the GPU that the engine needs."""
    machine = sidecar.machine
    if sidecar.rtx is not None:
        return f"TensorRT for RTX {machine.tensorrt}, {sidecar.rtx.target.describe()}"
    gpu = f"{machine.gpu}, compute capability {machine.compute_capability}"
    if machine.multiprocessors is not None:
        gpu += f", {machine.multiprocessors} multiprocessors"
    return f"TensorRT {machine.tensorrt}, {gpu}"


def _built(sidecar: EngineSidecar) -> str:
    """How long the build took, or which other program built the plan."""
    return f"by {printable(sidecar.built_by)}" if sidecar.build_s is None else f"in {sidecar.build_s:.0f} s"


def _engine_facts(sidecar: EngineSidecar) -> dict[str, object]:
    """The entries of the sidecar that are not in the spec."""
    names = ("tensorrt", "gpu", "compute_capability", "multiprocessors", "profile", "source_onnx", "plan", "build_s")
    values = sidecar.to_json()
    return {name: values[name] for name in (*names, "flags", "precision_proof", "built_by", "runtime", "rtx")}
