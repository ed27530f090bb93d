"""The OpenVINO engine: the fast way on x86 CPUs, in bfloat16 where the processor has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.base import BatchEngine
from rrid_edge.errors import MissingExtraError, ModelFileError, UsageError, printable
from rrid_edge.onnx_file import read_spec

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
        cache: folder in which compiled models are kept for a faster start, or None.

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
        cache: Path | None = None,
    ) -> None:
        spec = read_spec(path)
        core = import_openvino().Core()
        if device not in {name.split(".")[0] for name in core.available_devices}:
            found = ", ".join(core.available_devices) or "none"
            raise UsageError(f"OpenVINO has no device {device!r} on this machine: expected one of {found}")
        settings = _settings(core, device, precision, threads, cache)
        try:
            compiled = core.compile_model(core.read_model(str(path)), device, settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelFileError(
                f"{printable(path)}: OpenVINO cannot load this model ({reason}); export it again with: "
                "rrid-edge export CHECKPOINT"
            ) from error
        used = _precision_name(compiled.get_property("INFERENCE_PRECISION_HINT"))
        arithmetic = used if spec.precision == "fp32" else spec.precision
        super().__init__(spec, f"openvino {device} {arithmetic}", max_batch, arithmetic=arithmetic)
        self._request: Any = compiled.create_infer_request()

    def _run_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.array(self._request.infer({0: images}, share_inputs=True)[0], dtype=np.float32)

    def close(self) -> None:
        """Free the compiled model; safe to call twice."""
        self._request = None


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


def _settings(core: Any, device: str, precision: str | None, threads: int, cache: Path | None) -> dict[str, Any]:  # noqa: ANN401
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
    if cache is not None:
        settings["CACHE_DIR"] = str(cache)
    return settings


def _precision_name(hint: Any) -> str:  # noqa: ANN401
    name = hint.get_type_name() if hasattr(hint, "get_type_name") else str(hint)
    return _NAMES.get(name, name)
