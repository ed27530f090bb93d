"""Write a model repository for NVIDIA Triton Inference Server, which serves descriptors over the network.

Layout: ``<repository>/<name>/config.pbtxt`` and ``<repository>/<name>/<version>/model.onnx`` or ``model.plan``. There
is no label file, because the output is a descriptor and not a class. An ensemble adds ``<name>-decode``, which decodes
image files, and ``<name>-files``, which clients call with image files (:mod:`rrid_export.triton_ensemble`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rrid_edge.errors import UsageError, printable
from rrid_edge.file_kinds import why_no_file
from rrid_edge.files import atomic_output, write_text
from rrid_edge.model.engine_sidecar import EngineSidecar
from rrid_edge.model.names import DEFAULT_STEM, is_engine, is_rtx_engine
from rrid_edge.model.onnx_header import read_model_header
from rrid_edge.model.spec import OUTPUT_NAME, RRID, ModelSpec
from rrid_edge.model.weights import read_checked_spec
from rrid_export.triton_ensemble import Ensemble
from rrid_export.triton_text import images, numbers, parameters, quoted, tensor

KINDS = ("auto", "gpu", "cpu")
_ONNX_MAX_BATCH = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class TritonSettings:
    """How Triton serves the model.

    Attributes:
        name: the model's name on the server and the name of its folder. None means ``rrid``, or the name of an adopted
            network.
        version: the version folder to write; other versions stay unchanged.
        max_batch: largest batch that Triton forms, in images. None means the plan's largest batch, or 32 for ONNX.
        max_queue_delay_us: longest time that a request waits for others to share its batch, in microseconds.
        instances: copies of the model per device.
        kind: ``auto`` (a GPU if the server has one), ``gpu`` or ``cpu``. A plan always runs on a GPU.
        gpus: numbers of the GPUs to use; all GPUs if empty.
        ensemble: also write the ensemble that takes image files.
        decoders: processes of the ensemble that decode.

    Raises:
        UsageError: a setting is out of range, or two settings contradict each other.
    """

    name: str | None = None
    version: int = 1
    max_batch: int | None = None
    max_queue_delay_us: int = 2000
    instances: int = 1
    kind: str = "auto"
    gpus: tuple[int, ...] = ()
    ensemble: bool = False
    decoders: int = 2

    def __post_init__(self) -> None:
        if self.name is not None and not _NAME.fullmatch(self.name):
            raise UsageError(
                f"Triton model name {self.name!r} is invalid: expected letters, digits, '_', '.' and '-', with a "
                "letter or digit first"
            )
        if self.kind not in KINDS:
            raise UsageError(f"Triton kind {self.kind!r} is unknown: expected one of {', '.join(KINDS)}")
        if self.gpus and self.kind == "cpu":
            raise UsageError(f"GPU numbers {numbers(self.gpus)} contradict Triton kind cpu: leave one of the two out")
        counts = ("version", "instances", "max_batch", "decoders")
        for what, value in ((name, getattr(self, name)) for name in counts):
            if value is not None and value < 1:
                raise UsageError(f"Triton {what} {value} is too small: expected at least 1")
        if self.max_queue_delay_us < 0:
            raise UsageError(f"Triton queue delay {self.max_queue_delay_us} us is negative: expected 0 or more")
        if any(gpu < 0 for gpu in self.gpus):
            raise UsageError(f"GPU numbers {numbers(self.gpus)} are wrong: expected no negative number")


def write_triton_repository(model: Path, out: Path, settings: TritonSettings | None = None) -> Path:
    """Write a model into a Triton model repository.

    Args:
        model: an ONNX file of this package, or a TensorRT plan with its sidecar.
        out: the repository's folder. It is created if it is missing; other models in it stay unchanged.
        settings: how Triton serves the model; the defaults if None.

    Returns:
        The folder of the model that clients call: ``out/<name>``, or ``out/<name>-files`` with an ensemble.

    Raises:
        UsageError: the file does not exist, or Triton cannot serve the plan with these settings.
        ModelFileError: the file or its sidecar is damaged.
        OutputError: the repository cannot be written.
    """
    settings = settings or TritonSettings()
    if is_engine(model):
        if not model.is_file():
            raise UsageError(
                f"{printable(model)}: {why_no_file(model, 'engine file')}; build one with: rrid-edge export MODEL.onnx"
            )
        if is_rtx_engine(model):
            raise UsageError(
                f"{printable(model)}: Triton does not serve engines of TensorRT for RTX; give an ONNX file or an "
                "engine of TensorRT"
            )
        sidecar = EngineSidecar.read(model)
        sidecar.read_plan(model)
        spec, backend = sidecar.spec, _plan_backend(model, sidecar, settings)
        files = {"model.plan": model}
    else:
        spec, backend = read_checked_spec(model), _onnx_backend(settings)
        external = read_model_header(model).external_files
        files = {"model.onnx": model} | {name: model.parent / name for name in external}
    if settings.name is None:
        settings = replace(settings, name=DEFAULT_STEM if spec.family == RRID else spec.backbone)
    folder = out / str(settings.name)
    for name, source in files.items():
        with atomic_output(folder / str(settings.version) / name) as partial:
            shutil.copyfile(source, partial)
    # Written last: a server that polls the folder loads the model when its configuration appears.
    write_text(folder / "config.pbtxt", _config(spec, settings, backend))
    if not settings.ensemble:
        return folder
    return Ensemble(str(settings.name), spec, backend.max_batch, settings.version, settings.decoders).write(out)


@dataclass(frozen=True)
class _Backend:
    """What ``config.pbtxt`` says about the backend that runs the model.

    Attributes:
        name: Triton's name of the backend.
        platform: Triton's name of the file format.
        kind: where instances run: ``KIND_AUTO``, ``KIND_GPU`` or ``KIND_CPU``.
        max_batch: largest batch that Triton forms, in images.
        preferred_batch: batch that Triton forms if it can, or None.
        extra_lines: further lines of the configuration.
        parameters: further parameters, for clients to read.
    """

    name: str
    platform: str
    kind: str
    max_batch: int
    preferred_batch: int | None = None
    extra_lines: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)


def _plan_backend(model: Path, sidecar: EngineSidecar, settings: TritonSettings) -> _Backend:
    profile = sidecar.profile
    max_batch = profile.max_batch if settings.max_batch is None else settings.max_batch
    _check_plan(model, sidecar, settings.kind, max_batch)
    return _Backend(
        name="tensorrt",
        platform="tensorrt_plan",
        kind="KIND_GPU",
        max_batch=max_batch,
        preferred_batch=profile.opt_batch if profile.opt_batch <= max_batch else None,
        extra_lines=("optimization { cuda { graphs: true } }",),
        parameters={"tensorrt.version": sidecar.machine.tensorrt, "tensorrt.gpu": sidecar.machine.gpu},
    )


def _check_plan(model: Path, sidecar: EngineSidecar, kind: str, max_batch: int) -> None:
    """Refuse a plan that Triton cannot serve in batches of 1 to ``max_batch``."""
    profile = sidecar.profile
    if sidecar.flags.strip_weights:
        raise UsageError(f"{printable(model)}: Triton cannot serve a plan without weights; build it without stripping")
    if profile.min_batch > 1:
        raise UsageError(
            f"{printable(model)}: this plan takes at least {profile.min_batch} images, but Triton also sends single "
            "images; build it with a smallest batch of 1"
        )
    if kind == "cpu":
        raise UsageError(f"{printable(model)}: a TensorRT plan does not run on a CPU; give the ONNX file")
    if max_batch > profile.max_batch:
        raise UsageError(
            f"{printable(model)}: this plan takes at most {profile.max_batch} images, not {max_batch}; build it with a "
            "larger batch"
        )


def _onnx_backend(settings: TritonSettings) -> _Backend:
    return _Backend(
        name="onnxruntime",
        platform="onnxruntime_onnx",
        kind="KIND_GPU" if settings.gpus else f"KIND_{settings.kind.upper()}",
        max_batch=_ONNX_MAX_BATCH if settings.max_batch is None else settings.max_batch,
    )


def _config(spec: ModelSpec, settings: TritonSettings, backend: _Backend) -> str:
    """The text of ``config.pbtxt``. Shapes leave the batch out: Triton adds it for ``max_batch_size`` > 0."""
    batching = [f"max_queue_delay_microseconds: {settings.max_queue_delay_us}"]
    if backend.preferred_batch is not None:
        batching.insert(0, f"preferred_batch_size: [ {backend.preferred_batch} ]")
    group = [f"count: {settings.instances}", f"kind: {backend.kind}"]
    if settings.gpus:
        group.append(f"gpus: [ {numbers(settings.gpus)} ]")
    lines = [
        f"name: {quoted(str(settings.name))}",
        f"backend: {quoted(backend.name)}",
        f"platform: {quoted(backend.platform)}",
        f"max_batch_size: {backend.max_batch}",
        images("input", spec),
        tensor("output", OUTPUT_NAME, "TYPE_FP32", (spec.dimension,)),
        f"instance_group [ {{ {' '.join(group)} }} ]",
        f"dynamic_batching {{ {' '.join(batching)} }}",
        *backend.extra_lines,
    ]
    # Clients check the fingerprint: descriptors of two fingerprints must never be compared.
    lines += parameters({"rrid.fingerprint": spec.fingerprint, "rrid.precision": spec.precision, **backend.parameters})
    return "\n".join(lines) + "\n"
