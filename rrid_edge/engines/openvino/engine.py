"""The OpenVINO engine: the fastest runtime on x86 CPUs, in bfloat16 if the processor supports it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.base import BatchEngine
from rrid_edge.engines.compiled_cache import CompiledCache
from rrid_edge.engines.openvino.parts import backbone_and_head
from rrid_edge.errors import ModelFileError, UsageError, printable
from rrid_edge.machine.advice import import_failure
from rrid_edge.machine.processor import threads_for
from rrid_edge.model.ir_sidecar import IrSidecar
from rrid_edge.model.names import Kind, ir_weights_path, kind_of
from rrid_edge.model.onnx_header import read_model_header, read_spec
from rrid_edge.model.spec import HOW_MADE
from rrid_edge.model.weights import check_weights

_CHECKED = "compiled after a check of the weights"  # part of the cache's keys
_HINT = "INFERENCE_PRECISION_HINT"
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_NAMES = {"float32": "fp32", "f32": "fp32", "bfloat16": "bf16", "bf16": "bf16", "float16": "fp16", "f16": "fp16"}


class OpenVinoEngine(BatchEngine):
    """Runs a model file on OpenVINO.

    Args:
        path: the ONNX file, or an adopted OpenVINO IR (``.xml``).
        precision: arithmetic of the backbone: ``fp32``, ``bf16`` or ``fp16``. None means bf16 on CPUs with AMX or
            AVX-512 bf16, else fp32; for an int8 file, fp32 in the layers that are not int8. With bf16 the head computes
            in fp32.
        threads: CPU threads; 0 takes what this process may use.
        max_batch: images per call.
        device: OpenVINO's device name: ``CPU``, ``GPU`` (integrated graphics) or ``NPU``.
        cache: cache of compiled models for a faster start on the CPU, or None.

    Raises:
        MissingDependencyError: openvino is not installed.
        UsageError: this machine lacks the device, or the device lacks the precision.
        ModelFileError: the file does not follow the model contract, its weights changed, or the runtime refuses it.
    """

    def __init__(
        self,
        path: Path,
        *,
        precision: str | None = None,
        threads: int = 0,
        max_batch: int = 32,
        device: str = "CPU",
        cache: CompiledCache | None = None,
    ) -> None:
        sidecar = IrSidecar.read(path) if kind_of(path) is Kind.IR else None
        spec = read_spec(path) if sidecar is None else sidecar.spec
        core = openvino_core()
        _check_device(core, device)
        if precision is None and device == "CPU" and spec.precision == "int8":
            precision = "fp32"  # for the layers that are not int8; docs/decisions/precision.md compares bfloat16 there
        file = _File(path, spec.preprocessing.features if spec.preprocessing else None, sidecar)
        plan = _Plan(core, file, device, _settings(core, device, precision, threads))
        parts = plan.from_cache(cache)
        self.from_cache = bool(parts)
        parts = parts or plan.compiled(cache)
        used = _precision_name(parts[0].compiled.get_property(_HINT))
        arithmetic = spec.precision if spec.precision == "int8" or used == "fp32" else used
        told = arithmetic if used in (arithmetic, "fp32") else f"{arithmetic} and {used}"
        super().__init__(spec, f"openvino {device} {told}", max_batch, arithmetic=arithmetic, path=path)
        self._file = path
        self._requests: list[Any] = [part.compiled.create_infer_request() for part in parts]
        self._mapped: list[Any] = [part.memory for part in parts]

    def _run_batch(self, images: NDArray[Any]) -> NDArray[np.float32]:
        values: NDArray[Any] = images
        try:
            for request in self._requests:
                values = request.infer({0: values}, share_inputs=True, share_outputs=True)[0]
        except Exception as error:  # the runtime does not say what it raises
            raise _refused(self._file, "run", error) from error
        return np.array(values, dtype=np.float32)  # a copy, because the runtime reuses its output buffer

    def _release(self) -> None:
        self._requests = []
        self._mapped = []  # after what reads them


def import_openvino() -> Any:  # noqa: ANN401 - the package has no types
    """The package openvino.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise import_failure(error, "openvino", "openvino", "running a model on OpenVINO") from error
    return openvino


def openvino_core() -> Any:  # noqa: ANN401 - as above
    """The only core of this process. It is never freed.

    OpenVINO's CPU plugin gives its thread another stack for signals with each core, and takes it back when the core
    ends. If two cores end in the order of their making, the thread is left with a stack that is freed, and the next
    signal kills the process: Ctrl-C, SIGTERM, or the end of a child.

    Raises:
        MissingDependencyError: openvino is not installed.
    """
    return _core_of(import_openvino())


@functools.cache
def _core_of(openvino: Any) -> Any:  # noqa: ANN401 - as above
    return openvino.Core()


@dataclass(frozen=True)
class _Part:
    """A compiled model and the mapped memory that it reads, if any."""

    compiled: Any
    memory: Any = None


@dataclass(frozen=True)
class _File:
    """A model file.

    Attributes:
        path: the ONNX file or the network of an IR.
        features: name of the tensor behind which the head begins; None for the last pooling.
        sidecar: of an IR; None for an ONNX file.
    """

    path: Path
    features: str | None
    sidecar: IrSidecar | None

    def check(self) -> None:
        """Refuse files whose weights changed since they were written."""
        if self.sidecar is None:
            check_weights(self.path)
        else:
            self.sidecar.check_files(self.path)

    @property
    def key(self) -> tuple[Path, tuple[str, ...]] | None:
        """The largest file, and what tells other contents apart; None if the key of one file does not cover them."""
        if self.sidecar is None:
            return None if read_model_header(self.path).external_files else (self.path, ())
        return ir_weights_path(self.path), (self.sidecar.network.sha256, self.sidecar.weights.sha256)


class _Plan:
    """How one file is compiled: whole, or in bfloat16 as backbone and head, with the head in float32."""

    def __init__(self, core: Any, file: _File, device: str, settings: dict[str, Any]) -> None:  # noqa: ANN401
        self._core, self._file, self._device = core, file, device
        whole = {"whole": settings}
        hint = settings.get(_HINT) or core.get_property(device, _HINT)
        self._divides = device == "CPU" and _precision_name(hint) == "bf16"
        apart = {"backbone": settings, "head": settings | {_HINT: _HINTS["fp32"]}}
        self._forms: tuple[dict[str, dict[str, Any]], ...] = (apart, whole) if self._divides else (whole,)

    def compiled(self, cache: CompiledCache | None) -> list[_Part]:
        """Compile the parts from the file and put them in the cache.

        Raises:
            ModelFileError: the weights changed after the export, or the runtime refuses the file.
        """
        self._file.check()  # a cached model needs no check: it was compiled from this version of the file
        try:
            model = self._core.read_model(str(self._file.path))
            models = backbone_and_head(import_openvino(), model, self._file.features) if self._divides else (model,)
            form = next(form for form in self._forms if len(form) == len(models))
            parts = [
                _Part(self._core.compile_model(part, self._device, settings))
                for part, settings in zip(models, form.values(), strict=True)
            ]
        except Exception as error:  # the runtime does not say what it raises
            raise _refused(self._file.path, "load", error) from error
        for key, part in zip(self._keys(cache, form), parts, strict=False):
            if cache is not None:
                cache.keep(key, lambda part=part: _exported(part.compiled))  # type: ignore[misc]
        return parts

    def from_cache(self, cache: CompiledCache | None) -> list[_Part]:
        """The cached parts; an empty list if one is missing or cannot be loaded."""
        found = (self._form_from_cache(cache, form) for form in self._forms) if cache is not None else ()
        return next((parts for parts in found if parts), [])

    def _form_from_cache(self, cache: CompiledCache, form: dict[str, dict[str, Any]]) -> list[_Part]:
        parts = []
        for key, settings in zip(self._keys(cache, form), form.values(), strict=False):
            content = cache.load(key)
            if content is None:
                return []
            try:
                tensor = import_openvino().Tensor(content, shared_memory=True)
                parts.append(_Part(self._core.import_model(tensor, self._device, settings), content))
            except Exception:  # any failure: the model is compiled from its file instead
                cache.drop(key)
                return []
        return parts

    def _keys(self, cache: CompiledCache | None, form: dict[str, dict[str, Any]]) -> list[bytes]:
        """Cache keys of all parts, or none. Models with external weights are not cached: the key covers one file."""
        file = self._file.key
        if cache is None or self._device != "CPU" or file is None:
            return []
        version = import_openvino().__version__
        keys = [
            cache.key(file[0], *file[1], _CHECKED, "openvino", version, name, sorted(settings.items()))
            for name, settings in form.items()
        ]
        return [key for key in keys if key is not None] if None not in keys else []


def _refused(path: Path, doing: str, error: Exception) -> ModelFileError:
    reason = printable((str(error).strip().splitlines() or [type(error).__name__])[-1])
    return ModelFileError(
        f"{printable(path)}: OpenVINO cannot {doing} this model ({reason}); export it again with: {HOW_MADE}"
    )


def _exported(compiled: Any) -> bytes | memoryview:  # noqa: ANN401
    stream = compiled.export_model()
    return stream if isinstance(stream, bytes) else memoryview(stream.getbuffer())


def _check_device(core: Any, device: str) -> None:  # noqa: ANN401
    """Refuse a device that this machine lacks.

    Raises:
        UsageError: there is no such device.
    """
    if device == "CPU":
        return  # OpenVINO always has it; listing the devices loads the libraries of all of them
    if device not in {name.split(".")[0] for name in core.available_devices}:
        found = ", ".join(core.available_devices) or "none"
        raise UsageError(f"OpenVINO has no device {device!r} on this machine: expected one of {found}")


def _settings(core: Any, device: str, precision: str | None, threads: int) -> dict[str, Any]:  # noqa: ANN401
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if precision is not None:
        if precision not in _HINTS:
            raise UsageError(
                f"precision {precision!r} is unknown to OpenVINO: expected one of {', '.join(_HINTS)}",
                parameter="precision",
            )
        abilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
        if precision != "fp32" and {"bf16": "BF16", "fp16": "FP16"}[precision] not in abilities:
            raise UsageError(
                f"this {device} does not compute in {precision}: leave the precision out, or take fp32",
                parameter="precision",
            )
        settings[_HINT] = _HINTS[precision]
    if device == "CPU" and (count := threads_for(threads)):
        settings["INFERENCE_NUM_THREADS"] = count
    return settings


def _precision_name(hint: Any) -> str:  # noqa: ANN401
    name = hint.get_type_name() if hasattr(hint, "get_type_name") else str(hint)
    return _NAMES.get(name, name)
