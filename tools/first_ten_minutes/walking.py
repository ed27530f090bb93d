"""Runs the commands of the pages and compares what they print with the record."""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from first_ten_minutes.documents import Command, commands_of
from first_ten_minutes.forms import forms_of, too_wide
from first_ten_minutes.records import differences, entry, file_of, read_record, write_record
from first_ten_minutes.screen import Seen, in_files, in_terminal

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ABOUT_THE_MACHINE = (re.compile(r"\bmeasured\b.* faster than"),)
"""Lines that some machines print and others do not."""


@dataclass(frozen=True)
class Reasons:
    """What is not run as the pages show it, from ``reasons.toml``.

    Attributes:
        programs: why a program does not run, by the first word of the command.
        commands: why a command does not run.
        smaller: what runs instead of a command.
        machine: why the output of a command is not recorded.
        used: entries that a page needed.
    """

    programs: Mapping[str, str]
    commands: Mapping[str, str]
    smaller: Mapping[str, str]
    machine: Mapping[str, str]
    used: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> Reasons:
        """Read the file."""
        return cls(**tomllib.loads(path.read_text(encoding="utf-8")))

    def why_not(self, command: str) -> str | None:
        """Why a command does not run here; None if it does."""
        word = command.split()[0]
        for key, reasons in ((command, self.commands), (word, self.programs)):
            if key in reasons:
                self.used.add(key)
                return reasons[key]
        return None

    def of_machine(self, command: str) -> bool:
        """Whether a command prints facts of the machine."""
        self.used.update({command} & self.machine.keys())
        return command in self.machine

    def as_run(self, command: str) -> str:
        """What runs for a command."""
        self.used.update({command} & self.smaller.keys())
        return self.smaller.get(command, command)

    def unused(self) -> list[str]:
        """Entries that no page needed."""
        known = {*self.programs, *self.commands, *self.smaller, *self.machine}
        return sorted(known - self.used)


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
        limit_s: time of a command.
    """

    root: Path
    records: Path
    desk: Path
    work: Path
    environment: Mapping[str, str]
    columns: Sequence[int]
    limit_s: float = 300.0

    def run(self, page: str, reasons: Reasons) -> tuple[list[tuple[str, list[str]]], list[str]]:
        """Run the commands of a page in order, once per way to run, each way in a folder of its own.

        Returns:
            The entries for the record, and the faults of form: each says command and way.
        """
        commands = [command for command in commands_of(self.root, page) if reasons.why_not(command.text) is None]
        if not commands:
            return [], []
        desks = {columns: self._new_desk(f"{Path(page).stem}-{columns or 'files'}") for columns in (0, *self.columns)}
        entries, faults = [], []
        for command in commands:
            seen = self._run_every_way(reasons.as_run(command.text), desks)
            faults += [f"{page}: {command.text}: {fault}" for fault in _faults(command, seen)]
            kept = [f"exit {seen[0].code}"] if reasons.of_machine(command.text) else self._entry(seen, desks)
            entries.append((command.text, kept))
        return entries, faults

    def _new_desk(self, name: str) -> Path:
        made: Path = shutil.copytree(self.desk, self.work / name / "desk")
        return made

    def _run_every_way(self, text: str, desks: Mapping[int, Path]) -> dict[int, Seen]:
        with ThreadPoolExecutor(len(desks)) as pool:
            running = {columns: pool.submit(self._run, text, desk, columns) for columns, desk in desks.items()}
        return {columns: one.result() for columns, one in running.items()}

    def _run(self, text: str, desk: Path, columns: int) -> Seen:
        if columns == 0:
            return in_files(text, desk, self.environment, self.limit_s)
        return in_terminal(text, desk, self.environment, self.limit_s, columns)

    def _entry(self, seen: Mapping[int, Seen], desks: Mapping[int, Path]) -> list[str]:
        def forms(lines: Sequence[str], columns: int) -> list[str]:
            names = {f"{desks[columns]}/": "", str(desks[columns]): "DESK", self.environment["HOME"]: "HOME"}
            return forms_of(lines, names, ABOUT_THE_MACHINE)

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
        if one.code == 3 and not any("pip install" in line or "GPU" in line for line in lines):
            yield f"{where}: exit code 3 without the command that mends it"
        if columns:
            yield from (f"{where}: a row of a table wraps: {line}" for line in too_wide(one.out, columns))
    if seen[0].code in (-1, 5) or seen[0].code > 128:
        yield f"exit code {seen[0].code}"


def compare(walk: Walk, page: str, entries: Sequence[tuple[str, list[str]]]) -> list[str]:
    """What differs between the entries of a page and its record."""
    recorded = read_record(file_of(walk.records, page))
    told = []
    if [command for command, _ in recorded] != [command for command, _ in entries]:
        lines = differences([command for command, _ in recorded], [command for command, _ in entries])
        told = [f"{page}: the page has other commands than the record:", *(f"  {line}" for line in lines)]
    known = _numbered(recorded)
    for (command, run), lines in _numbered(entries).items():
        if (command, run) in known and (found := differences(known[command, run], lines)):
            told += [f"{page}: this prints something else: {command}", *(f"  {line}" for line in found)]
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
    path = file_of(walk.records, page)
    if entries:
        write_record(path, entries)
    else:
        path.unlink(missing_ok=True)
