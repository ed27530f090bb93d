"""Write ``summary.txt`` of a first run on a GPU: a table of its steps, the figures, the last lines of failures.

Run: python tools/gpu_summary.py OUT     # a folder that tools/first_gpu_run.sh wrote; exit code 1 if a step failed
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

_LAST_LINES = 8
_FIGURES = {"02-device": r".", "22-parity-on-crops": r".", "30-bench": r".", "34-trtexec-load": r"Throughput:|Latency:"}
"""Steps whose logs have figures, and the lines that are shown."""
_MOST_FIGURES = 80
_WORDS = {"0": "ok", "3": "a package is missing", "124": "over its time limit", "137": "killed", "skipped": "skipped"}


@dataclass(frozen=True)
class Step:
    """One step of the run.

    Attributes:
        name: name of the step, and of its log.
        code: exit code, or ``skipped``: its program, package or engine is absent.
        seconds: duration.
        command: the command, or why it was skipped.
    """

    name: str
    code: str
    seconds: str
    command: str

    @property
    def failed(self) -> bool:
        """Whether the step ran and did not pass."""
        return self.code not in ("0", "skipped")


def read_steps(folder: Path) -> list[Step]:
    """The steps of ``steps.tsv``."""
    rows = (folder / "steps.tsv").read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    return [Step(*row.split("\t", 3)) for row in rows]


def summary(folder: Path, steps: list[Step]) -> str:
    """The text of the summary."""
    width = max((len(step.name) for step in steps), default=4)
    lines = [f"{'step':{width}}  {'code':>7}  {'seconds':>7}  result and last line of its log"]
    for step in steps:
        ending = (last_lines(folder, step, 1) or [step.command])[0]
        word = _WORDS.get(step.code, "failed")
        lines.append(f"{step.name:{width}}  {step.code:>7}  {step.seconds:>7}  {word}: {ending[:160]}")
    failed = [step for step in steps if step.failed]
    lines += [
        "",
        f"{len(steps)} steps, {len(failed)} failed{': ' if failed else ''}{', '.join(s.name for s in failed)}",
    ]
    for step in steps:
        if step.name in _FIGURES and step.code == "0":
            lines += ["", f"== {step.name}", *figures(folder, step)]
    for step in failed:
        lines += ["", f"== {step.name} (exit code {step.code}): {step.command}"]
        lines += [f"   {line[:300]}" for line in last_lines(folder, step, _LAST_LINES)]
    return "\n".join(lines) + "\n"


def figures(folder: Path, step: Step) -> list[str]:
    """The lines of a step's log that hold its figures."""
    lines = [line for line in last_lines(folder, step, 10_000) if re.search(_FIGURES[step.name], line)]
    return [f"   {line[:300]}" for line in lines[:_MOST_FIGURES]]


def last_lines(folder: Path, step: Step, count: int) -> list[str]:
    """The last lines of a step's log that are not empty."""
    log = folder / "logs" / f"{step.name}.txt"
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


def main() -> int:
    """Write and print the summary; returns the exit code."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    folder = Path(sys.argv[1])
    steps = read_steps(folder)
    text = summary(folder, steps)
    (folder / "summary.txt").write_text(text, encoding="utf-8")
    print(text)
    return 1 if any(step.failed for step in steps) else 0


if __name__ == "__main__":
    raise SystemExit(main())
