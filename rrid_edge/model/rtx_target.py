"""The GPUs that an engine of TensorRT for RTX serves, and what its sidecar says of its build."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from rrid_edge.errors import UsageError

RTX_RUNTIME = "tensorrt-rtx"
_PORTABLE = ("8.0", "8.6", "8.9", "12.0")
_CAPABILITY = r"[0-9]{1,3}\.[0-9]"
_Capability = Annotated[str, Meta(pattern=rf"\A{_CAPABILITY}\Z")]
BUILT_NOT_RUN = (
    "built ahead of time and not run: the GPU that loads it first compiles its kernels; run parity there before use"
)


@dataclass(frozen=True)
class RtxTarget:
    """GPUs that an engine is built for.

    Attributes:
        compute_capabilities: their compute capabilities, for example ``8.9``. The default is TensorRT's own: RTX GPUs
            from Ampere on. Turing needs ``7.5`` by name.
        later: the engine also runs on GPUs with a higher compute capability than the last one.
    """

    compute_capabilities: Annotated[tuple[_Capability, ...], Meta(min_length=1, max_length=32)] = _PORTABLE
    later: bool = True

    @classmethod
    def of(cls, compute_capabilities: tuple[str, ...]) -> RtxTarget:
        """Exactly these compute capabilities; the default if there are none.

        Raises:
            UsageError: one of them is no compute capability.
        """
        for name in compute_capabilities:
            if not re.fullmatch(_CAPABILITY, name):
                raise UsageError(
                    f"compute capability {name!r} does not work: expected a number such as 8.9",
                    parameter="compute_capability",
                )
        if not compute_capabilities:
            return cls()
        return cls(tuple(sorted(set(compute_capabilities), key=_numbers)), later=False)

    def including(self, compute_capability: str) -> RtxTarget:
        """A target that also serves this GPU: the GPUs that were named and this one; of the default only this one."""
        return RtxTarget.of((compute_capability,) if self.later else (*self.compute_capabilities, compute_capability))

    def serves(self, compute_capability: str) -> bool:
        """Whether a GPU of this compute capability runs the engine."""
        last = max(map(_numbers, self.compute_capabilities))
        return compute_capability in self.compute_capabilities or (self.later and _numbers(compute_capability) > last)

    def describe(self) -> str:
        """The GPUs in a few words."""
        return f"RTX GPUs of compute capability {', '.join(self.compute_capabilities)}{' or later' * self.later}"


@dataclass(frozen=True)
class RtxBuild:
    """What a sidecar says of an engine of TensorRT for RTX.

    Attributes:
        target: GPUs that the engine was built for.
        inspected: the proof of precision counts the layers of the loaded engine; False if no GPU was there to load it,
            and the proof counts the layers that the builder logged, or those of the strongly typed network.
        note: what the engine still has to show.
    """

    target: RtxTarget
    inspected: bool
    note: Annotated[str, Meta(max_length=1024)] = BUILT_NOT_RUN


def _numbers(compute_capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in compute_capability.split("."))
