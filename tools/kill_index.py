"""Kill indexing, compaction, forgetting and copying at their writes. Check after each kill that nothing is lost.

Usage: python tools/kill_index.py 500 [SEED]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.killing import kill_and_check

if __name__ == "__main__":
    kills, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    print(f"{kills} kills, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as root:
        struck = kill_and_check(Path(root), kills=kills, seed=seed)
    print(f"nothing lost, every forgetting finished, no file left behind; runs by stage: {dict(struck)}")
