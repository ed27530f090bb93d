"""Damaged artefacts, given to the commands that read them, in this process."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fuzzing.artefact_kinds import KINDS
from fuzzing.kinds import ArtefactKind
from fuzzing.watching import FAULT, METER, REFUSED, SOUND, USER_FOLDERS, Sentry
from fuzzing.world import make_world
from rrid_edge.errors import printable
from support.commands import Outcome, rrid_edge

_FORESEEN_CODES: Final = (0, 1, 2, 3, 4)
_LINKED_BYTES: Final = 1 << 20
"""Larger files of the world are linked into a case's folder, not copied."""


class ArtefactCases:
    """Case ``number`` damages an artefact of one kind, and runs one command.

    Args:
        seed: of all cases.
        count: how many there are.
        world: an empty folder, which receives the sound artefacts.
        whole: also fuzz whole networks and trainings.
        kinds: fuzz these kinds only; all if empty.
    """

    def __init__(self, seed: int, count: int, world: Path, *, whole: bool, kinds: Sequence[str] = ()) -> None:
        self.count = count
        self.only_reads = False
        self._seed, self._world = seed, world
        wanted = {name: KINDS[name] for name in kinds or KINDS}
        self._kinds = [name for name, kind in wanted.items() for _ in range(kind.weight) if whole or not kind.is_large]
        self._sentry: Sentry | None = None
        self._folder = Path()
        self._sound: dict[tuple[str, str], Outcome] = {}
        make_world(world, whole=whole)

    def start(self, folder: Path) -> None:
        """Take a folder for the cases; what commands keep for a user goes there too."""
        self._folder = folder
        self._sentry = self._sentry or Sentry()
        for name in USER_FOLDERS:
            os.environ[name] = str(folder)

    def stop(self) -> None:
        """Nothing is left to end."""

    def kind(self, number: int) -> str:
        """The kind of a case."""
        return self._kinds[number % len(self._kinds)]

    def save(self, number: int, folder: Path) -> None:
        """Write the files of a case, and its command."""
        kind = KINDS[self.kind(number)]
        shutil.rmtree(folder)
        _, _, command = self._made(number, kind, folder)
        (folder / "command.txt").write_text(f"rrid-edge {command}\n")

    def _made(self, number: int, kind: ArtefactKind, folder: Path) -> tuple[str, str, str]:
        """Make a case in a folder. Returns the damaged file, the damage and the command."""
        generator = random.Random(f"artefact {self._seed} {number}")
        command = generator.choice(kind.commands)
        self._copy(kind, folder)
        victim, damage = kind.damage(folder, generator)
        return victim, damage, command

    def _copy(self, kind: ArtefactKind, folder: Path) -> None:
        folder.mkdir()
        for name in kind.files:
            source = self._world / name
            if source.is_dir():
                shutil.copytree(source, folder / name, copy_function=_copied)
            else:
                _copied(source, folder / name)

    def check(self, number: int) -> tuple[str, str]:
        """Run the command of a case, and judge how it ended."""
        name = self.kind(number)
        kind = KINDS[name]
        folder = self._folder / "case"
        try:
            victim, damage, command = self._made(number, kind, folder)
            METER.start()
            outcome, offences = self._run(command, folder)
            if (folder / "ran").exists():
                offences.append("the file ran code")
        finally:
            _removed(folder)
        what = f"{damage!r:.120} of {victim}, {command}"
        if offences:
            return FAULT, f"{what}: {offences[0]}"
        return _judged(outcome, self._sound_outcome(name, command), victim, what)

    def _run(self, command: str, folder: Path) -> tuple[Outcome, list[str]]:
        assert self._sentry is not None
        before = Path.cwd()
        os.chdir(folder)
        try:
            with self._sentry.watching(self._folder) as offences:
                return rrid_edge(*command.split()), offences
        finally:
            os.chdir(before)

    def _sound_outcome(self, name: str, command: str) -> Outcome:
        """How the command ends with the sound artefact."""
        if (name, command) not in self._sound:
            folder = self._folder / "sound"
            try:
                self._copy(KINDS[name], folder)
                self._sound[name, command] = self._run(command, folder)[0]
            finally:
                _removed(folder)
        return self._sound[name, command]


def _copied(source: str | Path, target: str | Path) -> None:
    if Path(source).stat().st_size > _LINKED_BYTES:
        with contextlib.suppress(OSError):  # a folder on another file system takes no links
            os.link(source, target)
            return
    shutil.copy2(source, target)


def _removed(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _reported_place(line: str) -> str:
    """The innermost line of this package in the report that a line of an unforeseen error names."""
    found = re.search(r"please send (\S+) to", line)
    if found is None or not Path(found[1]).is_file():
        return ""
    places = re.findall(r'File ".*/(rrid_\w+/[^"]+)", line (\d+)', Path(found[1]).read_text(encoding="utf-8"))
    return ":".join(places[-1]) if places else ""


def _judged(outcome: Outcome, sound: Outcome, victim: str, what: str) -> tuple[str, str]:
    lines = outcome.err.strip().splitlines() or [""]
    last = lines[-1]
    if outcome.code not in _FORESEEN_CODES:
        return FAULT, f"{what}: exit code {outcome.code}: {last} {_reported_place(last)}"
    if "Traceback (most recent call last)" in outcome.err:
        return FAULT, f"{what}: a traceback: {last}"
    printed = f"{outcome.out}\n{outcome.err}".split("\n")
    if odd := next((line for line in printed if not line.isprintable()), None):
        return FAULT, f"{what}: control characters: {odd!r:.200}"
    if outcome.code == 0 or (outcome.code, last) == (sound.code, (sound.err.strip().splitlines() or [""])[-1]):
        return SOUND, what
    if not last.startswith("rrid-edge: "):
        return FAULT, f"{what}: exit code {outcome.code} without a reason: {last}"
    names = [printable(path) for path in (Path(victim), *Path(victim).parents) if path != Path()]
    if outcome.code != 1 and not any(name in last for name in names):
        return FAULT, f"{what}: exit code {outcome.code}: the refusal does not name {victim}: {last}"
    return REFUSED, f"{what}: {last}"
