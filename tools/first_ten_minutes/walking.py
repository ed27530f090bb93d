"""Runs the commands of the pages and compares what they print with the record."""

from __future__ import annotations

import re
import shutil
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from first_ten_minutes.documents import Command, commands_of
from first_ten_minutes.forms import forms_of, too_wide
from first_ten_minutes.reasons import Reasons
from first_ten_minutes.records import differences, entry, file_of, read_record, write_record
from first_ten_minutes.running import Limits, Seen, in_files, in_terminal

ABOUT_THE_MACHINE = (re.compile(r"\bmeasured\b.* faster than"),)
"""Lines that some machines print and others do not."""
_HOST = socket.gethostname()
_REMEDY = re.compile(r"pip install|GPU|fetch it once online")
"""What a command says that lacks something."""


@dataclass(frozen=True)
class Walk:
    """How the pages are walked.

    Attributes:
        root: of the repository.
        records: folder of the records.
        desk: what the pages name; it is copied for each page and each way to run.
        work: folder for the copies.
        environment: variables of the commands.
        columns: widths of the terminals.
        kind: of the records: ``extras`` for the second walk.
        without: what is missing on the desk of a page, by the page.
        limit_s: time of a command.
    """

    root: Path
    records: Path
    desk: Path
    work: Path
    environment: Mapping[str, str]
    columns: Sequence[int]
    kind: str = ""
    without: Mapping[str, Sequence[str]] = field(default_factory=dict)
    limit_s: float = 300.0

    def run(self, page: str, reasons: Reasons) -> tuple[list[tuple[str, list[str]]], list[str]]:
        """Run the commands of a page in order, once per way to run, each way in a folder of its own.

        Returns:
            The entries for the record, and the faults of form: each says command and way.
        """
        commands = [command for command in commands_of(self.root, page) if reasons.why_not(command.text) is None]
        if not commands:
            return [], []
        desks = {columns: self._new_desk(page, columns) for columns in (0, *self.columns)}
        entries, faults = [], []
        for command in commands:
            limits = Limits(self.limit_s, reasons.ready(command.text))
            seen = self._run_every_way(reasons.as_run(command.text), desks, limits)
            faults += [f"{page}: {command.text}: {fault}" for fault in _faults(command, seen)]
            dropped = (*ABOUT_THE_MACHINE, *reasons.dropped(command.text))
            is_machine = reasons.of_machine(command.text)
            kept = [f"exit {seen[0].code}"] if is_machine else self._entry(seen, desks, dropped)
            entries.append((command.text, kept))
        return entries, faults

    def _new_desk(self, page: str, columns: int) -> Path:
        name = f"{Path(page).stem}-{columns or 'files'}"
        made: Path = shutil.copytree(self.desk, self.work / name / "desk")
        for missing in self.without.get(page, ()):
            shutil.rmtree(made / missing)
        return made

    def _run_every_way(self, text: str, desks: Mapping[int, Path], limits: Limits) -> dict[int, Seen]:
        with ThreadPoolExecutor(len(desks)) as pool:
            running = {columns: pool.submit(self._run, text, desks[columns], limits, columns) for columns in desks}
        return {columns: one.result() for columns, one in running.items()}

    def _run(self, text: str, desk: Path, limits: Limits, columns: int) -> Seen:
        if columns == 0:
            return in_files(text, desk, self.environment, limits)
        return in_terminal(text, desk, self.environment, limits, columns)

    def _entry(
        self, seen: Mapping[int, Seen], desks: Mapping[int, Path], dropped: Sequence[re.Pattern[str]]
    ) -> list[str]:
        def forms(lines: Sequence[str], columns: int) -> list[str]:
            desk = str(desks[columns])
            names = {f"{desk}/": "", desk: "DESK", f"{_HOST}:{desk}": "HOST:DESK", self.environment["HOME"]: "HOME"}
            return forms_of(lines, names, dropped)

        screens = {columns: forms(seen[columns].out, columns) for columns in seen if columns}
        return entry(seen[0].code, forms(seen[0].out, 0), forms(seen[0].err, 0), screens)


def _faults(command: Command, seen: Mapping[int, Seen]) -> Iterator[str]:
    """What is wrong with the form of a command's output, on any machine."""
    for columns, one in seen.items():
        where = f"at {columns} columns" if columns else "in files"
        lines = [*one.out, *one.err]
        yield from (f"{where}: {fault}" for fault in one.faults)
        if any(line.startswith("Traceback ") for line in lines):
            yield f"{where}: a traceback"
        if one.code != seen[0].code:
            yield f"{where}: exit code {one.code}, and {seen[0].code} in files"
        if one.code == 3 and not any(map(_REMEDY.search, lines)):
            yield f"{where}: exit code 3 without the command that mends it"
        if columns:
            yield from (f"{where}: a row of a table wraps: {line}" for line in too_wide(one.out, columns))
    if seen[0].code in (-1, 5) or seen[0].code > 128:
        yield f"exit code {seen[0].code}"


def compare(walk: Walk, page: str, entries: Sequence[tuple[str, list[str]]]) -> list[str]:
    """What differs between the entries of a page and its record."""
    where = f"{page} with extras" if walk.kind else page
    recorded = read_record(file_of(walk.records, page, walk.kind))
    told = []
    if [command for command, _ in recorded] != [command for command, _ in entries]:
        lines = differences([command for command, _ in recorded], [command for command, _ in entries])
        told = [f"{where}: the page has other commands than the record:", *(f"  {line}" for line in lines)]
    known = _numbered(recorded)
    for (command, run), lines in _numbered(entries).items():
        if (command, run) in known and (found := differences(known[command, run], lines)):
            told += [f"{where}: this prints something else: {command}", *(f"  {line}" for line in found)]
    return told


def _numbered(entries: Sequence[tuple[str, list[str]]]) -> dict[tuple[str, int], list[str]]:
    """The lines of each command, and of each time that a page shows the same command."""
    runs: Counter[str] = Counter()
    numbered = {}
    for command, lines in entries:
        runs[command] += 1
        numbered[command, runs[command]] = lines
    return numbered


def record(walk: Walk, page: str, entries: Sequence[tuple[str, list[str]]]) -> None:
    """Write the record of a page."""
    path = file_of(walk.records, page, walk.kind)
    if entries:
        write_record(path, entries)
    else:
        path.unlink(missing_ok=True)
