"""Compare a TensorRT engine that replays CUDA graphs with itself without graphs.

Batch sizes take turns, on both of the engine's slots. A difference means that graphs disturb each other or the ordinary
way. It exits with code 1 if there is one.

Run: python tools/compare_graphs.py ENGINE [--rounds 8] [--limit 1e-5]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rrid_edge.engines.tensorrt.engine import TensorRTEngine
from rrid_edge.errors import RridEdgeError


def batch_sizes(largest: int) -> list[int]:
    """The sizes of one round: small and large ones in turn, and splits that use both slots and leave rests.

    Args:
        largest: largest batch of the engine, in images.
    """
    parts = (1, largest, 1, largest // 4, largest + 1, largest // 4, 5, 2 * largest, 1, 2 * largest + 5, 2, largest)
    return [max(1, part) for part in parts]


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        worst: largest absolute difference of a value of a descriptor, per batch size.
        graph_batches: batch sizes that were replayed as graphs.
        memory_bytes: device memory for activations of the engine with graphs.
    """

    worst: Mapping[int, float]
    graph_batches: tuple[int, ...]
    memory_bytes: int

    def wrong(self, limit: float) -> list[int]:
        """Batch sizes whose difference exceeds the limit, or is not a number."""
        return sorted(size for size, difference in self.worst.items() if not difference <= limit)


def compare(path: Path, rounds: int) -> Comparison:
    """Run the same batches of random pixels with and without graphs."""
    generator = np.random.default_rng(0)
    worst: dict[int, float] = {}
    with TensorRTEngine(path) as replayed, TensorRTEngine(path, graphs=False) as ordinary:
        spec, sizes = replayed.spec, batch_sizes(replayed.max_batch)
        images = generator.integers(0, 256, (max(sizes), spec.height_px, spec.width_px, 3), dtype=np.uint8)
        for _ in range(rounds):
            for size in sizes:
                start = int(generator.integers(0, len(images) - size + 1))
                batch = images[start : start + size]
                difference = float(np.abs(replayed.run(batch) - ordinary.run(batch)).max())
                # Unlike max, np.maximum keeps a NaN.
                worst[size] = float(np.maximum(worst.get(size, 0.0), difference))
        return Comparison(worst, replayed.graph_batches, replayed.context_memory_bytes)


def main() -> int:
    """Print the differences; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", type=Path)
    parser.add_argument("--rounds", type=int, default=8, help="how often all sizes run; the third use replays")
    parser.add_argument("--limit", type=float, default=1e-5, help="largest difference of a value that passes")
    asked = parser.parse_args()
    try:
        found = compare(asked.engine, asked.rounds)
    except RridEdgeError as error:
        print(f"compare_graphs: {error.message}")
        return error.exit_code
    for size, difference in sorted(found.worst.items()):
        print(f"batch {size:4d}: largest difference {difference:.3g}")
    print(f"graphs of batch sizes {list(found.graph_batches)}; activations {found.memory_bytes:,} bytes")
    if not found.graph_batches:
        print("no graph was captured: nothing was compared")
        return 1
    wrong = found.wrong(asked.limit)
    print(f"wrong at batch sizes {wrong}" if wrong else f"all within {asked.limit:g}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
