"""Memory and CUDA graphs of the TensorRT stand-in's execution contexts.

A captured graph is defined only while its context stays as it was: NVIDIA's documentation says that changing it makes
the graph's results undefined. Here such a graph fails an assertion.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.tensorrt_behaviour import TensorRTStandin

_USER_MANAGED = SimpleNamespace(name="USER_MANAGED")


def contexts(world: TensorRTStandin) -> dict[str, Callable[..., Any]]:
    """Return the behaviour of making contexts and of their memory."""

    def new_context(self: Any, strategy: Any = None) -> Any:
        if world.context_error is not None:
            world.error(self.fake_runtime.fake_logger, world.context_error)
            return None
        world.contexts_made += 1
        has_memory = strategy is None or strategy.name != "USER_MANAGED"
        users = self.__dict__.setdefault("profile_users", weakref.WeakSet())
        profile = 0 if self.fake_plan["shares_profile"] or not users else -1
        made = world.make(
            "IExecutionContext", engine=self, addresses={}, memory=None, own_memory=has_memory, profile=profile
        )
        users.add(made)
        return made

    def give_memory(self: Any, memory: int, size: int) -> None:
        assert not self.fake_own_memory, "this context has memory of its own"
        assert len(world.cuda.device_memory[memory]) >= size >= world.activation_bytes
        self.fake_memory = memory

    return {
        "ICudaEngine.create_execution_context": new_context,
        "ICudaEngine.create_execution_context_without_device_memory": lambda self: new_context(self, _USER_MANAGED),
        "ICudaEngine.device_memory_size": lambda self: world.activation_bytes,
        "ICudaEngine.device_memory_size_v2": lambda self: world.activation_bytes,
        "IExecutionContext.active_optimization_profile": lambda self: self.fake_profile,
        "IExecutionContext.device_memory=": lambda self, value: give_memory(self, value, world.activation_bytes),
        "IExecutionContext.set_device_memory": give_memory,
    }


def enqueued(world: TensorRTStandin, context: Any, work: Callable[[], None], *, captured: bool) -> Callable[[], None]:
    """Return the work of one enqueue with the activations that it overwrites, in a graph or not."""
    memory = context.fake_memory
    assert context.fake_own_memory or memory is not None, "the context has no memory for activations"

    def run() -> None:
        if memory is not None:
            activations = world.cuda.device_buffer(memory, world.activation_bytes)
            ctypes.memset(activations, context_batch, len(activations))
        work()

    context_batch = context.fake_batch
    return CapturedWork(context, run) if captured else run


class CapturedWork:
    """The work of one enqueue in a CUDA graph."""

    def __init__(self, context: Any, work: Callable[[], None]) -> None:
        self._context, self._work, self._captured = weakref.ref(context), work, _state(context)

    def __call__(self) -> None:
        self.check()
        self._work()

    def check(self) -> None:
        """Assert that the context is alive and unchanged."""
        context = self._context()
        assert context is not None, "a context was freed before its graph"
        assert _state(context) == self._captured, "a graph's context has changed since it was captured"


def _state(context: Any) -> tuple[Any, ...]:
    return context.fake_batch, dict(context.fake_addresses), context.fake_memory
