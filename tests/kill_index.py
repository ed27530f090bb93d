"""The long form of the kill test: python tests/kill_index.py 200 kills `index` 200 times and checks the gallery each time."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from test_gallery import kill_and_check

if __name__ == "__main__":
    kills, seed = int(sys.argv[1]), int(time.time())
    print(f"{kills} kills, seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        kill_and_check(Path(folder), kills=kills, seed=seed)
    print("nothing lost")
