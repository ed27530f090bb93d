"""Running an engine on TensorRT for RTX: validity on this GPU, and the kernels that it compiles at the first load.

Functions that end in ``_rtx`` use the API that only TensorRT for RTX has (1.4.0.76 and 1.7.1.116 were recorded).
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rrid_edge.engines.compiled_cache import CompiledCache, cache_folder
from rrid_edge.model.engine_sidecar import Machine
from rrid_edge.model.rtx_target import RTX_RUNTIME

if TYPE_CHECKING:
    import tensorrt_rtx as trt


class KernelCache:
    """Kernels that TensorRT for RTX compiled for an engine on one GPU, kept beside the compiled models.

    TensorRT itself refuses kernels of another GPU, driver or version.

    Args:
        engine: the engine file.
        machine: the version of TensorRT for RTX, and the GPU.
    """

    def __init__(self, engine: Path, machine: Machine) -> None:
        folder = cache_folder()
        self._cache = CompiledCache(folder) if folder is not None else None
        facts = (RTX_RUNTIME, machine.tensorrt, machine.gpu, machine.compute_capability)
        self._key = self._cache.key(engine, *facts) if self._cache is not None else None
        self._loaded = b""

    def load(self) -> bytes:
        """The kept kernels; empty if there are none."""
        if self._cache is not None and self._key is not None:
            content = self._cache.load(self._key)
            self._loaded = content.tobytes() if content is not None else b""
        return self._loaded

    def keep(self, content: bytes) -> None:
        """Keep the kernels, if there are others than before."""
        if self._cache is not None and self._key is not None and content and content != self._loaded:
            self._cache.keep(self._key, lambda: content)
            self._loaded = content


def make_context_rtx(
    trt: ModuleType, engine: trt.ICudaEngine, kernels: KernelCache
) -> tuple[trt.IExecutionContext, trt.IRuntimeCache]:
    """Make the execution context of an engine, with the kernels that were compiled before.

    Returns:
        The context (None if TensorRT refuses), and its cache of kernels, which must be freed after it.
    """
    config = engine.create_runtime_config()
    # Compile before the first answer of a batch size. By default RTX answers with other kernels meanwhile, so that
    # parity would prove kernels that later calls do not use.
    config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    cache = config.create_runtime_cache()
    if content := kernels.load():
        cache.deserialize(content)  # False: compiled for another GPU or driver; they are compiled again
    config.set_runtime_cache(cache)
    return engine.create_execution_context(config), cache


def keep_kernels_rtx(cache: trt.IRuntimeCache, kernels: KernelCache) -> None:
    """Keep the kernels that a context compiled since it was made."""
    content = cache.serialize()
    if content is not None:
        kernels.keep(bytes(content))


def is_valid_rtx(trt: ModuleType, runtime: trt.Runtime, plan: bytes) -> bool:
    """Whether TensorRT says that this version and GPU run the plan."""
    validity = runtime.get_engine_validity(plan)[0]
    return bool(validity != trt.EngineValidity.INVALID)
