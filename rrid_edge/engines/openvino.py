"""The OpenVINO engine: the fast way on x86 CPUs, in bfloat16 where the processor has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.base import BatchEngine
from rrid_edge.engines.compiled_cache import CompiledCache
from rrid_edge.errors import MissingExtraError, ModelFileError, UsageError, printable
from rrid_edge.onnx_file import read_model_header, read_spec

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_NAMES = {"float32": "fp32", "f32": "fp32", "bfloat16": "bf16", "bf16": "bf16", "float16": "fp16", "f16": "fp16"}


class OpenVinoEngine(BatchEngine):
    """Runs a model file on OpenVINO.

    Args:
        path: the ONNX file.
        precision: arithmetic of the convolutions: ``fp32``, ``bf16`` or ``fp16``; None leaves it to the runtime, which
            takes bf16 on CPUs with AMX or AVX-512 bf16 and fp32 elsewhere.
        threads: threads; 0 lets the runtime choose.
        max_batch: images a call.
        device: OpenVINO's device name: ``CPU``, ``GPU`` (integrated graphics) or ``NPU``.
        cache: where compiled models are kept for a faster start, or None; used on the CPU.

    Raises:
        MissingExtraError: openvino is not installed.
        UsageError: a precision or device that this machine does not have.
        ModelFileError: the file does not keep the model contract, or the runtime refuses it.
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
        spec = read_spec(path)
        core = import_openvino().Core()
        if device not in {name.split(".")[0] for name in core.available_devices}:
            found = ", ".join(core.available_devices) or "none"
            raise UsageError(f"OpenVINO has no device {device!r} on this machine: expected one of {found}")
        settings = _settings(core, device, precision, threads)
        compiled, self._mapped, self.from_cache = None, None, False
        key = _cache_key(cache, path, precision, threads) if device == "CPU" else None
        if cache is not None and key is not None:
            compiled, self._mapped = _from_cache(core, cache, key, settings)
            self.from_cache = compiled is not None
        if compiled is None:
            compiled = _compile(core, path, device, settings)
            if cache is not None and key is not None:
                cache.keep(key, lambda: _exported(compiled))
        used = _precision_name(compiled.get_property("INFERENCE_PRECISION_HINT"))
        arithmetic = used if spec.precision == "fp32" else spec.precision
        super().__init__(spec, f"openvino {device} {arithmetic}", max_batch, arithmetic=arithmetic)
        self._request: Any = compiled.create_infer_request()

    def _run_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.array(self._request.infer({0: images}, share_inputs=True)[0], dtype=np.float32)

    def close(self) -> None:
        """Free the compiled model; safe to call twice."""
        self._request = None
        self._mapped = None  # after what reads it


def import_openvino() -> Any:  # noqa: ANN401 - the package has no types
    """The package openvino.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError.for_package("openvino", "cpu", "running a model on OpenVINO") from error
    return openvino


def _compile(core: Any, path: Path, device: str, settings: dict[str, Any]) -> Any:  # noqa: ANN401
    try:
        return core.compile_model(core.read_model(str(path)), device, settings)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelFileError(
            f"{printable(path)}: OpenVINO cannot load this model ({reason}); export it again with: "
            "rrid-edge export CHECKPOINT"
        ) from error


def _cache_key(cache: CompiledCache | None, path: Path, precision: str | None, threads: int) -> bytes | None:
    """What the compiled model is bound to; None where it is not cached: weights outside the file have their own times."""
    if cache is None or read_model_header(path).external_files:
        return None
    return cache.key(path, "openvino", import_openvino().__version__, "CPU", "LATENCY", precision, threads)


def _from_cache(core: Any, cache: CompiledCache, key: bytes, settings: dict[str, Any]) -> tuple[Any, Any]:  # noqa: ANN401
    """The compiled model and the memory that it may read from; nothing where there is none that works."""
    content = cache.load(key)
    if content is None:
        return None, None
    try:
        return core.import_model(import_openvino().Tensor(content, shared_memory=True), "CPU", settings), content
    except Exception:  # whatever the runtime dislikes about it, the model itself is still there
        cache.drop(key)
        return None, None


def _exported(compiled: Any) -> bytes | memoryview:  # noqa: ANN401
    stream = compiled.export_model()
    return stream if isinstance(stream, bytes) else memoryview(stream.getbuffer())


def _settings(core: Any, device: str, precision: str | None, threads: int) -> dict[str, Any]:  # noqa: ANN401
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if precision is not None:
        if precision not in _HINTS:
            raise UsageError(f"precision {precision!r} is unknown to OpenVINO: expected one of {', '.join(_HINTS)}")
        abilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
        if precision != "fp32" and {"bf16": "BF16", "fp16": "FP16"}[precision] not in abilities:
            raise UsageError(f"this {device} does not compute in {precision}: leave --precision out, or take fp32")
        settings["INFERENCE_PRECISION_HINT"] = _HINTS[precision]
    if threads and device == "CPU":
        settings["INFERENCE_NUM_THREADS"] = threads
    return settings


def _precision_name(hint: Any) -> str:  # noqa: ANN401
    name = hint.get_type_name() if hasattr(hint, "get_type_name") else str(hint)
    return _NAMES.get(name, name)
