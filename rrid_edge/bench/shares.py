"""How near an engine comes to the machine's own limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from rrid_edge.bench.ceilings import Ceilings
from rrid_edge.bench.results import EngineRow
from rrid_edge.model.operations import Work

_WEIGHT_BYTES: Final = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}


@dataclass(frozen=True)
class Limits:
    """What the rows of a report are compared with.

    Attributes:
        ceilings: the fastest rates of this machine's CPU.
        work: what one image costs in the model that is measured; None if it could not be counted.
    """

    ceilings: Ceilings
    work: Work | None


def with_shares(row: EngineRow, limits: Limits, *, on_gpu: bool) -> EngineRow:
    """The row with its rate of operations and its shares of the limits, as far as they are known.

    Args:
        row: a row without them.
        limits: the limits, and the work of the row's network.
        on_gpu: whether the engine runs on a GPU, whose limits are not measured here.
    """
    work = limits.work
    if work is None:
        return replace(row, no_share="the operations of its network could not be counted")
    rate = row.best_images_per_s * work.operations
    row = replace(row, operations_per_s=rate)
    if on_gpu:
        return replace(row, no_share="it runs on a GPU, whose limits `python benchmarks/gpu.py` measures")
    ceiling = limits.ceilings.compute.get(row.arithmetic)
    if ceiling is None:
        return replace(row, no_share=f"no CPU runtime here computes in {row.arithmetic}, so no limit was measured")
    read = work.weights * _WEIGHT_BYTES[row.arithmetic] / (row.latency_p50_ms / 1000)
    return replace(row, of_ceiling=rate / ceiling.operations_per_s, of_memory=read / limits.ceilings.memory_bytes_per_s)
