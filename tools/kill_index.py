"""Kill indexing and compaction at random times. Check after each kill that no commit is lost.

Usage: python tools/kill_index.py 200
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.killing import kill_and_check

if __name__ == "__main__":
    kills, seed = int(sys.argv[1]), int(time.time())
    print(f"{kills} kills, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as root:
        print(f"no commit lost; kills by stage: {dict(kill_and_check(Path(root), kills=kills, seed=seed))}")
