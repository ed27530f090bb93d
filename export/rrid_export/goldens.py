"""Golden descriptors: images and PyTorch's descriptors of them, to check parity on machines without PyTorch."""

from __future__ import annotations

from pathlib import Path

from rrid_edge.parity.reference import Reference, computed_reference, read_crops
from rrid_edge.progress import step
from rrid_export.drawn import drawn_patterns
from rrid_export.source import SourceNetwork
from rrid_export.torch_engine import TorchEngine

REFERENCE_NAME = "PyTorch, two passes"


@step("computing the goldens")
def make_goldens(source: SourceNetwork, *, flip: bool, crops: Path | None, count: int) -> Reference:
    """Run the trained network in PyTorch on crops.

    Args:
        source: the trained network.
        flip: average each image with its mirror.
        crops: folder of real crops, of which at most ``count`` are used: all crops of some people, and distractors (see
            :func:`rrid_edge.ranking.sampling.sample_people`). Unreadable ones are left out. None uses drawn patterns,
            which prove only a float32 model.
        count: largest number of crops.

    Raises:
        UsageError: the folder does not exist or has fewer than two readable images.
    """
    with TorchEngine(source, flip=flip, max_batch=8) as engine:
        spec = engine.spec
        read = drawn_patterns(spec) if crops is None else read_crops(crops, spec, count)
        return computed_reference(engine, REFERENCE_NAME, read, spec)
