"""Kill a service under load. Check after each kill that the gallery verifies, and that what was acknowledged holds.

Usage: python tools/kill_serve.py 100 [SEED]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.killed_service import kill_and_check

if __name__ == "__main__":
    kills, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    print(f"{kills} kills, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as root:
        answers = kill_and_check(Path(root), kills=kills, seed=seed)
    print(f"the gallery verified and everything acknowledged held; answers: {dict(sorted(answers.items()))}")
