"""Walk the first ten minutes: see ``tools/first_ten_minutes.sh``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from first_ten_minutes.desk import furnish
from first_ten_minutes.documents import pages
from first_ten_minutes.environment import programs_of_suite, variables
from first_ten_minutes.reasons import Extras, Reasons
from first_ten_minutes.walking import Walk, compare, record

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "tests" / "data" / "first_ten_minutes"
QUICK = {"first": ("README.md", "docs/galleries.md", "docs/getting-started.md"), "extras": ("docs/serving.md",)}


@dataclass(frozen=True)
class _Plan:
    """One walk.

    Attributes:
        name: ``first`` or ``extras``.
        chosen: pages.
        columns: widths of the terminals.
        is_recording: the record is written, not compared.
    """

    name: str
    chosen: Sequence[str]
    columns: Sequence[int]
    is_recording: bool


def main() -> int:
    """Walk the pages; return 0 if they print what is recorded, 1 if not."""
    parser = argparse.ArgumentParser(prog="tools/first_ten_minutes.sh", description=__doc__)
    parser.add_argument("--programs", type=Path, help="folder with the program rrid-edge; default: made of this Python")
    parser.add_argument("--programs-with-extras", type=Path, help="the same with the extras of extras.toml")
    parser.add_argument("--walk", choices=("first", "extras"), help="only the walk without, or with further extras")
    parser.add_argument("--record", action="store_true", help="write the record instead of comparing with it")
    parser.add_argument("--quick", action="store_true", help="four pages, and no terminal of 120 columns")
    parser.add_argument("--page", action="append", default=[], help="walk this page only, for example README.md")
    parser.add_argument("--requirements", action="store_true", help="print what the second environment needs")
    asked = parser.parse_args()
    extras, first = Extras.read(_beside("extras.toml")), Reasons.read(_beside("reasons.toml"))
    if asked.requirements:
        print(*extras.requirements, sep="\n")
        return 0
    told = extras.faults(ROOT, pages(ROOT))
    with tempfile.TemporaryDirectory(prefix="first-ten-minutes-") as work:
        if asked.walk != "extras":
            told += _first_walk(asked, first, Path(work).resolve() / "first")
        if asked.walk != "first":
            told += _extras_walk(asked, extras, first, Path(work).resolve() / "extras")
    done = "recorded" if asked.record else "nothing differs from the record"
    print(*(told or [done]), sep=os.linesep)
    return 1 if told else 0


def _beside(name: str) -> Path:
    return Path(__file__).with_name(name)


def _first_walk(asked: argparse.Namespace, reasons: Reasons, work: Path) -> list[str]:
    """Walk with the extra ``cpu`` alone; return what is wrong."""
    programs = asked.programs or programs_of_suite(ROOT, work / "suite")
    environment = variables(programs.resolve(), work / "home")
    told = _walked(_plan(asked, "first", pages(ROOT)), reasons, environment, work)
    if not asked.page and not asked.quick:
        told += [f"reasons.toml: no page needs {key!r}: remove it" for key in reasons.unused()]
    return told


def _extras_walk(asked: argparse.Namespace, extras: Extras, first: Reasons, work: Path) -> list[str]:
    """Walk with further extras; return what is wrong."""
    plan = _plan(asked, "extras", list(extras.pages))
    needed = ["cpu", *dict.fromkeys(extra for page in plan.chosen for extra in extras.pages[page])]
    programs = asked.programs_with_extras or programs_of_suite(ROOT, work / "suite", *needed)
    environment = variables(programs.resolve(), work / "home") | dict(extras.environment)
    reasons = extras.beside(first)
    told = _walked(plan, reasons, environment, work, extras.without)
    if not asked.page and not asked.quick:
        told += [f"extras.toml: no page needs {key!r}: remove it" for key in extras.unused(reasons)]
    return told


def _plan(asked: argparse.Namespace, name: str, own: Sequence[str]) -> _Plan:
    chosen = [page for page in asked.page or (QUICK[name] if asked.quick else own) if page in own]
    return _Plan(name, chosen, (80,) if asked.quick else (80, 120), asked.record)


def _walked(
    plan: _Plan,
    reasons: Reasons,
    environment: Mapping[str, str],
    work: Path,
    without: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """Walk the pages of a plan in the folder ``work``; return what is wrong."""
    if not plan.chosen:
        return []
    (work / "desk").mkdir(parents=True)
    furnish(work / "desk", RECORDS, environment)
    kind = "" if plan.name == "first" else plan.name
    walk = Walk(ROOT, RECORDS, work / "desk", work / "pages", environment, plan.columns, kind, without or {})
    told: list[str] = []
    for page in plan.chosen:
        entries, faults = walk.run(page, reasons)
        if plan.is_recording:
            record(walk, page, entries)
        told += faults + ([] if plan.is_recording else compare(walk, page, entries))
        print(f"{page}{' with extras' if kind else ''}: {len(entries)} commands", flush=True)
    return told


if __name__ == "__main__":
    sys.exit(main())
