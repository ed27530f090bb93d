"""A model repository for NVIDIA Triton Inference Server, which serves descriptors past one machine.

Layout: ``<repository>/<name>/config.pbtxt`` and ``<repository>/<name>/<version>/model.onnx`` or ``model.plan``. There
are no labels: the output is a descriptor, not a class.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.errors import UsageError, printable
from rrid_edge.files import atomic_output, write_text
from rrid_edge.model.engine_sidecar import EngineSidecar
from rrid_edge.model.names import ENGINE_SUFFIXES
from rrid_edge.model.onnx_header import read_model_header, read_spec
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec

KINDS = ("auto", "gpu", "cpu")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class TritonSettings:
    """How Triton serves the model.

    Attributes:
        name: the model's name on the server, and its folder.
        version: the version folder to write; others beside it are left alone.
        max_batch: largest batch that Triton forms; None for the plan's own, or 32 for an ONNX file.
        max_queue_delay_us: microseconds that a request may wait for others to share its batch.
        instances: copies of the model on each device.
        kind: ``auto`` (a GPU where there is one), ``gpu`` or ``cpu``; a plan always runs on a GPU.
        gpus: numbers of the GPUs to use; all of them if empty.
    """

    name: str = "rrid"
    version: int = 1
    max_batch: int | None = None
    max_queue_delay_us: int = 2000
    instances: int = 1
    kind: str = "auto"
    gpus: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"model name {self.name!r} does not work: expected letters, digits, '_', '.' and '-'")
        if self.kind not in KINDS:
            raise UsageError(f"kind {self.kind!r} is none of {', '.join(KINDS)}")
        if self.gpus and self.kind == "cpu":
            raise UsageError("GPU numbers do not go with kind cpu: leave one of them out")
        if min(self.version, self.instances, 1 if self.max_batch is None else self.max_batch) < 1:
            raise UsageError("version, instances and largest batch of a Triton model must be at least 1")
        if self.max_queue_delay_us < 0 or any(gpu < 0 for gpu in self.gpus):
            raise UsageError("the queue delay and GPU numbers of a Triton model must not be negative")


def write_triton_repository(model: Path, out: Path, settings: TritonSettings | None = None) -> Path:
    """Write a model into a Triton model repository.

    Args:
        model: an ONNX file of this package, or a TensorRT plan with its sidecar.
        out: the repository's folder; made when it is missing, other models in it are left alone.
        settings: how to serve it; the defaults if None.

    Returns:
        The model's folder, ``out/<name>``.

    Raises:
        UsageError: no such file, or a plan that Triton cannot serve with these settings.
        ModelFileError: the file or its sidecar is damaged.
        OutputError: the repository cannot be written.
    """
    settings = settings or TritonSettings()
    is_plan = model.suffix in ENGINE_SUFFIXES
    folder = out / settings.name
    version_folder = folder / str(settings.version)
    if is_plan:
        if not model.is_file():
            raise UsageError(f"{printable(model)}: no such engine file; make one with: rrid-edge export MODEL.onnx")
        sidecar = EngineSidecar.read(model)
        sidecar.check_plan(model.read_bytes(), model)
        config = _plan_config(model, sidecar, settings)
        files = {"model.plan": model}
    else:
        config = _onnx_config(read_spec(model), settings)
        external = read_model_header(model).external_files
        files = {"model.onnx": model} | {name: model.parent / name for name in external}
    for name, source in files.items():
        with atomic_output(version_folder / name) as partial:
            shutil.copyfile(source, partial)
    # Last: a server that polls the folder takes the model when its configuration appears.
    write_text(folder / "config.pbtxt", config)
    return folder


def _plan_config(model: Path, sidecar: EngineSidecar, settings: TritonSettings) -> str:
    profile = sidecar.profile
    if sidecar.flags.strip_weights:
        raise UsageError(f"{printable(model)}: Triton cannot serve a plan without weights; build it without stripping")
    if profile.min_batch > 1:
        raise UsageError(
            f"{printable(model)}: this plan takes at least {profile.min_batch} images, and Triton sends single ones too; "
            "build it with a smallest batch of 1"
        )
    if settings.kind == "cpu":
        raise UsageError(f"{printable(model)}: a TensorRT plan does not run on a CPU; give the ONNX file")
    largest = profile.max_batch if settings.max_batch is None else settings.max_batch
    if largest > profile.max_batch:
        raise UsageError(
            f"{printable(model)}: this plan takes at most {profile.max_batch} images, not {largest}; build it with a "
            "larger batch"
        )
    preferred = profile.opt_batch if profile.opt_batch <= largest else None
    graphs = "optimization { cuda { graphs: true } }"
    parameters = {"tensorrt.version": sidecar.machine.tensorrt, "tensorrt.gpu": sidecar.machine.gpu}
    head = ['backend: "tensorrt"', 'platform: "tensorrt_plan"']
    return _config(sidecar.spec, settings, head, "KIND_GPU", largest, preferred, [graphs], parameters)


def _onnx_config(spec: ModelSpec, settings: TritonSettings) -> str:
    kind = "KIND_GPU" if settings.gpus else f"KIND_{settings.kind.upper()}"
    head = ['backend: "onnxruntime"', 'platform: "onnxruntime_onnx"']
    largest = 32 if settings.max_batch is None else settings.max_batch
    return _config(spec, settings, head, kind, largest, None, [], {})


def _config(
    spec: ModelSpec,
    settings: TritonSettings,
    head: list[str],
    kind: str,
    max_batch: int,
    preferred_batch: int | None,
    extra: list[str],
    parameters: dict[str, str],
) -> str:
    """The text of ``config.pbtxt``; shapes are without the batch, which Triton adds for ``max_batch_size`` > 0."""
    batching = [f"max_queue_delay_microseconds: {settings.max_queue_delay_us}"]
    if preferred_batch is not None:
        batching.insert(0, f"preferred_batch_size: [ {preferred_batch} ]")
    group = [f"count: {settings.instances}", f"kind: {kind}"]
    if settings.gpus:
        group.append(f"gpus: [ {', '.join(map(str, settings.gpus))} ]")
    lines = [
        f"name: {_quoted(settings.name)}",
        *head,
        f"max_batch_size: {max_batch}",
        f"input [ {{ name: {_quoted(INPUT_NAME)} data_type: TYPE_UINT8 "
        f"dims: [ {spec.height_px}, {spec.width_px}, 3 ] }} ]",
        f"output [ {{ name: {_quoted(OUTPUT_NAME)} data_type: TYPE_FP32 dims: [ {spec.dimension} ] }} ]",
        f"instance_group [ {{ {' '.join(group)} }} ]",
        f"dynamic_batching {{ {' '.join(batching)} }}",
        *extra,
    ]
    # A client reads here whose descriptors these are: those of two fingerprints must never be compared.
    values = {"rrid.fingerprint": spec.fingerprint, "rrid.precision": spec.precision} | parameters
    lines += [
        f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
        for key, value in values.items()
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
