"""Kill training, export and calibration at random moments. Check that the next run goes on exactly and leaves nothing.

Usage: python tools/kill_training.py 100 [SEED] [training-0 training-1 export calibration]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.killing_work import calibration_work, export_work, kill_and_check, training_work

if __name__ == "__main__":
    kills, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    chosen = sys.argv[3:] or ["training-0", "training-1", "export", "calibration"]
    print(f"{kills} kills of {', '.join(chosen)}, seed {seed}", flush=True)
    root = Path(tempfile.mkdtemp(prefix="kills-"))
    makers = {
        "training-0": lambda: training_work(root, workers=0),
        "training-1": lambda: training_work(root, workers=1),
        "export": lambda: export_work(root),
        "calibration": lambda: calibration_work(root, root / "export"),
    }
    struck = kill_and_check(root, [makers[name]() for name in chosen], kills=kills, seed=seed)
    shutil.rmtree(root)  # after a failure it stays, with the log of the runs
    print(f"every run went on exactly, nothing left; {dict(sorted(struck.items()))}")
