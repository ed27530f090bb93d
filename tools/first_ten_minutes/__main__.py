"""Walk the first ten minutes: see ``tools/first_ten_minutes.sh``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from first_ten_minutes.desk import furnish
from first_ten_minutes.documents import pages
from first_ten_minutes.environment import programs_of_suite, variables
from first_ten_minutes.walking import Reasons, Walk, compare, record

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "tests" / "data" / "first_ten_minutes"
QUICK_PAGES = ("README.md", "docs/galleries.md", "docs/getting-started.md")


def main() -> int:
    """Walk the pages; return 0 if they print what is recorded, 1 if not."""
    parser = argparse.ArgumentParser(prog="tools/first_ten_minutes.sh", description=__doc__)
    parser.add_argument("--programs", type=Path, help="folder with the program rrid-edge; default: made of this Python")
    parser.add_argument("--record", action="store_true", help="write the record instead of comparing with it")
    parser.add_argument("--quick", action="store_true", help="three pages, and no terminal of 120 columns")
    parser.add_argument("--page", action="append", default=[], help="walk this page only, for example README.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="first-ten-minutes-") as work:
        return walked(asked, Path(work).resolve())


def walked(asked: argparse.Namespace, work: Path) -> int:
    """Walk the pages that were asked for, in the folder ``work``."""
    programs = asked.programs or programs_of_suite(ROOT, work / "suite")
    environment = variables(programs.resolve(), work / "home")
    (work / "desk").mkdir()
    furnish(work / "desk", RECORDS, environment)
    columns = (80,) if asked.quick else (80, 120)
    walk = Walk(ROOT, RECORDS, work / "desk", work / "pages", environment, columns)
    reasons = Reasons.read(Path(__file__).with_name("reasons.toml"))
    chosen = asked.page or (QUICK_PAGES if asked.quick else pages(ROOT))
    told: list[str] = []
    for page in chosen:
        entries, faults = walk.run(page, reasons)
        if asked.record:
            record(walk, page, entries)
        told += faults + ([] if asked.record else compare(walk, page, entries))
        print(f"{page}: {len(entries)} commands", flush=True)
    if not asked.page and not asked.quick:
        told += [f"reasons.toml: no page needs {key!r}: remove it" for key in reasons.unused()]
    print(*told, sep=os.linesep)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
