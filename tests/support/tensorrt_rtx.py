"""The stand-in of TensorRT for RTX: it builds without a GPU, and compiles its kernels when an engine is loaded.

It does what 1.4.0.76 and 1.7.1.116 did on a CPU: builder and runtime need no GPU, loading an engine without one gives
None and an error. What it does on a GPU follows NVIDIA's documentation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from rrid_edge.machine.rtx import RTX_MODULES, RtxMachine
from support.cuda_standin import install_cuda
from support.tensorrt_behaviour import TensorRTStandin
from support.tensorrt_layers import logged

KERNELS = b"kernels of "


class RtxStandin(TensorRTStandin):
    """The module, with attributes that cause errors."""

    valid = True
    lists_layers = True

    def need_gpu(self) -> None:
        """Neither the builder nor the runtime of RTX asks for a GPU."""

    def _behaviour(self) -> dict[str, Callable[..., Any]]:
        found = super()._behaviour()
        load, timing = found["Runtime.deserialize_cuda_engine"], ("create", "set", "get")
        self.caches: list[Any] = []
        self.strategies: list[str] = []

        def load_on_gpu(runtime: Any, **plan: Any) -> Any:
            if self.cuda.devices < 1:
                self.error(runtime.fake_logger, "Error Code 1: Cuda Runtime (cudaError 35)")
                return None
            return load(runtime, **plan)

        def new_context(engine: Any, strategy: Any = None, runtime_config: Any = None) -> Any:
            if runtime_config is not None:
                self.strategies.append(runtime_config.fake_dynamic_shapes_kernel_specialization_strategy.name)
            assert strategy is None, "RTX manages the memory of its context"
            return self.make("IExecutionContext", engine=engine, addresses={}, memory=None, own_memory=True, profile=0)

        def no_timing(*_args: object, **_given: object) -> None:
            raise DeprecationWarning("Timing cache operations are no-ops in TensorRT-RTX")

        def take(config: Any, cache: Any) -> bool:
            self.caches.append(cache)
            return True

        def read(cache: Any, blob: Any) -> bool:
            cache.fake_given = bytes(blob)
            return cache.fake_given == KERNELS + self.version.encode()

        return (
            found
            | {f"IBuilderConfig.{name}_timing_cache": no_timing for name in timing}
            | {
                "Builder.build_serialized_network": self._listing(found["Builder.build_serialized_network"]),
                "Runtime.deserialize_cuda_engine": load_on_gpu,
                "Runtime.get_engine_validity": lambda runtime, buffer: (self._validity(), 0),
                "ICudaEngine.create_execution_context": new_context,
                "ICudaEngine.create_runtime_config": lambda engine: self.make("IRuntimeConfig"),
                "IRuntimeConfig.create_runtime_cache": lambda config: self.make("IRuntimeCache", given=b""),
                "IRuntimeConfig.set_runtime_cache": take,
                "IRuntimeCache.deserialize": read,
                "IRuntimeCache.serialize": lambda cache: self.host_memory(KERNELS + self.version.encode()),
                "IBuilderConfig.set_compute_capability": lambda config, compute_capability, index: bool(
                    config.fake_given.append(compute_capability.name) or True
                ),
            }
        )

    def _listing(self, build: Callable[..., Any]) -> Callable[..., Any]:
        """Return a build that logs the engine's layers at its end."""

        def build_and_list(builder: Any, network: Any, config: Any) -> Any:
            plan = build(builder, network, config)
            if plan is not None and self.lists_layers:
                precision = self.built_precision or network.fake_spec.precision
                self.say(builder.fake_logger, "VERBOSE", logged(precision))
            return plan

        return build_and_list

    def _validity(self) -> Any:
        kinds = self.module.EngineValidity
        return kinds.SUBOPTIMAL if self.valid else kinds.INVALID


def install_rtx(monkeypatch: pytest.MonkeyPatch, version: str, gpu: str | None = None) -> RtxStandin:
    """Replace CUDA and TensorRT for RTX by stand-ins for one test. Without ``gpu``, no GPU answers."""
    cuda = install_cuda(monkeypatch)
    cuda.devices = 0 if gpu is None else 1
    if gpu is not None:
        major, minor = gpu.split(".")
        cuda.capability = (int(major), int(minor))
    standin = RtxStandin(version, cuda)
    for name in RTX_MODULES:
        monkeypatch.setitem(sys.modules, name, standin.module)
    here = None if gpu is None else RtxMachine(standin.module.__version__, gpu)
    monkeypatch.setattr("rrid_export.tensorrt.rtx.rtx_machine", lambda: here)
    return standin
