"""Run the Python code of docs/plan-without-rrid-edge.md on an engine, and compare its descriptors with the engine's.

Run: python tools/check_plain_code.py ENGINE     # exit code 1 if they differ
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from rrid_edge.engines.tensorrt.engine import TensorRTEngine
from rrid_edge.errors import RridEdgeError

PAGE = Path(__file__).parents[1] / "docs" / "plan-without-rrid-edge.md"
LIMIT = 1e-5


def code_of(page: str) -> str:
    """The only Python code of the page."""
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return str(code)


def largest_difference(path: Path) -> float:
    """The largest difference of a descriptor's value over batches of random pixels."""
    names: dict[str, Any] = {}
    exec(compile(code_of(PAGE.read_text(encoding="utf-8")), str(PAGE), "exec"), names)
    generator = np.random.default_rng(0)
    found = [0.0]
    with TensorRTEngine(path) as engine:
        for size in (1, engine.max_batch):
            shape = (size, engine.spec.height_px, engine.spec.width_px, 3)
            images = generator.integers(0, 256, shape, dtype=np.uint8)
            found.append(float(np.abs(names["describe"](path, images) - engine.run(images)).max()))
    return float(np.max(found))


def main() -> int:
    """Print the difference; returns the exit code."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    try:
        difference = largest_difference(Path(sys.argv[1]))
    except RridEdgeError as error:
        print(f"check_plain_code: {error.message}")
        return error.exit_code
    print(f"largest difference {difference:.3g}, allowed {LIMIT:g}")
    return 0 if difference <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
