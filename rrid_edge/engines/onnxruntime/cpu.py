"""The ONNX Runtime engine on a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.base import BatchEngine, model_input
from rrid_edge.errors import MissingDependencyError, ModelFileError, printable, unforeseen
from rrid_edge.machine.advice import import_failure
from rrid_edge.machine.processor import sums_int8_in_32_bits, threads_for
from rrid_edge.model.spec import FLOAT32_NCHW, HOW_MADE, INPUT_NAME, OUTPUT_NAME, UINT8_NHWC
from rrid_edge.model.weights import read_checked_spec
from rrid_edge.progress import step

_PACKAGES = {"onnxruntime": "onnxruntime", "gpu": "onnxruntime-gpu"}


class OnnxRuntimeEngine(BatchEngine):
    """Runs a model file on ONNX Runtime's CPU provider, in the precision of the file.

    Args:
        path: the ONNX file.
        threads: threads per operator; 0 takes all cores that this process may use.
        max_batch: images per call.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        ModelFileError: the file does not follow the model contract, its weights changed, or the runtime refuses it.
    """

    def __init__(self, path: Path, *, threads: int = 0, max_batch: int = 32) -> None:
        spec = read_checked_spec(path)
        options = _options(threads)
        self._file, self._session = path, open_session(path, options, ["CPUExecutionProvider"], enable_fallback=0)
        super().__init__(spec, f"onnxruntime CPU {spec.precision}", max_batch, path=path)

    def _run_batch(self, images: NDArray[Any]) -> NDArray[np.float32]:
        try:
            result: NDArray[np.float32] = self._session.run([OUTPUT_NAME], {INPUT_NAME: images})[0]
        except Exception as error:  # the runtime's own exception classes are not public
            reason = unforeseen(error, known=str(self._file))
            raise ModelFileError(
                f"{printable(self._file)}: ONNX Runtime cannot run this model ({reason}); export it again with: "
                f"{HOW_MADE}"
            ) from error
        return result

    def _release(self) -> None:
        self._session = None


class MemorySession:
    """A model in memory on ONNX Runtime's CPU provider, for code that changes graphs.

    Args:
        content: the serialised ONNX model.
    """

    def __init__(self, content: bytes) -> None:
        runtime = import_onnxruntime()
        self._session: Any = runtime.InferenceSession(content, _options(0), providers=["CPUExecutionProvider"])
        kinds = {tensor.name: tensor.type for tensor in self._session.get_inputs()}
        self._form = FLOAT32_NCHW if kinds[INPUT_NAME] == "tensor(float)" else UINT8_NHWC

    def values(
        self, names: Sequence[str], images: NDArray[np.uint8], constants: Mapping[str, NDArray[Any]] | None = None
    ) -> list[NDArray[np.float32]]:
        """The named outputs for one batch of images, uint8 (B, height, width, 3).

        Args:
            names: names of the outputs.
            images: the batch.
            constants: values that replace constants of the graph, which must be inputs too.
        """
        feeds = {INPUT_NAME: model_input(images, self._form), **(constants or {})}
        outputs: list[NDArray[np.float32]] = self._session.run(list(names), feeds)
        return outputs

    def run(
        self, images: NDArray[np.uint8], *, batch: int = 8, constants: Mapping[str, NDArray[Any]] | None = None
    ) -> NDArray[np.float32]:
        """Descriptors float32 (N, D) of images uint8 (N, height, width, 3), in batches of ``batch``."""
        found = []
        with step("computing descriptors on onnxruntime CPU", len(images)) as computing:
            for start in range(0, len(images), batch):
                found.append(self.values([OUTPUT_NAME], images[start : start + batch], constants)[0])
                computing.advance(len(found[-1]))
        return np.concatenate(found)


def _options(threads: int) -> Any:  # noqa: ANN401 - the package has no types
    options = import_onnxruntime().SessionOptions()
    options.intra_op_num_threads = threads_for(threads)
    options.log_severity_level = 4  # errors are raised; the runtime would print them too, in colour
    if not sums_int8_in_32_bits():
        # int8 files then compute in float32 with rounded values: exact, and no slower than the runtime's int8 here.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def import_onnxruntime(extra: str = "onnxruntime") -> Any:  # noqa: ANN401 - the package has no types
    """The package onnxruntime.

    Args:
        extra: what to install where it is missing: ``onnxruntime`` or ``gpu``.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise import_failure(error, _PACKAGES[extra], extra, "running a model on ONNX Runtime") from error
    return onnxruntime


def open_session(path: Path, options: Any, providers: list[Any], **more: Any) -> Any:  # noqa: ANN401 - no types
    """Open an inference session on a model file.

    Args:
        path: the model file.
        options: the runtime's ``SessionOptions``.
        providers: execution providers.
        more: further arguments of ``InferenceSession``. Without ``enable_fallback=0`` it prints and tries again.

    Raises:
        ModelFileError: the runtime refuses the file.
    """
    try:
        return import_onnxruntime().InferenceSession(str(path), options, providers=providers, **more)
    except MissingDependencyError:
        raise
    except Exception as error:  # the runtime's own exception classes are not public
        reason = unforeseen(error, known=str(path))
        raise ModelFileError(
            f"{printable(path)}: ONNX Runtime cannot load this model ({reason}); export it again with: {HOW_MADE}"
        ) from error
