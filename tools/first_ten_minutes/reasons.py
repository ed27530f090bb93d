"""What is not run as the pages show it, and why: ``reasons.toml``, and ``extras.toml`` for the second walk."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_NAMED = re.compile(r"(?<!-> )pip install 'rrid-edge\[([a-z0-9,-]+)\]'")
"""What a page tells its readers to install. Behind an arrow it is what ``doctor`` prints."""
OF_THE_FIRST_WALK = frozenset({"cpu", "onnxruntime", "openvino"})


@dataclass(frozen=True)
class Reasons:
    """What is not run as the pages show it.

    Attributes:
        programs: why a program does not run, by the first word of the command.
        commands: why a command does not run.
        smaller: what runs instead of a command.
        machine: why the output of a command is not recorded.
        until: what a command prints once it is ready. Then it is stopped.
        processor: lines of a command that depend on the processor, as a regular expression. They are not recorded.
        used: entries that a page needed.
    """

    programs: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    smaller: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    until: Mapping[str, str] = field(default_factory=dict)
    processor: Mapping[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> Reasons:
        """Read ``reasons.toml``."""
        return cls(**_table(path))

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

    def ready(self, command: str) -> str | None:
        """What a command prints once it is ready to be stopped; None if it ends by itself."""
        self.used.update({command} & self.until.keys())
        return self.until.get(command)

    def dropped(self, command: str) -> list[re.Pattern[str]]:
        """Lines of a command that are not recorded, as regular expressions."""
        self.used.update({command} & self.processor.keys())
        return [re.compile(self.processor[command])] if command in self.processor else []

    def known(self) -> set[str]:
        """The keys of all entries."""
        return {*self.programs, *self.commands, *self.smaller, *self.machine, *self.until, *self.processor}

    def unused(self) -> list[str]:
        """Entries that no page needed."""
        return sorted(self.known() - self.used)


@dataclass(frozen=True)
class Extras:
    """The second walk: pages whose readers install extras, with these extras.

    Attributes:
        install: extras of the environment, beside ``cpu``.
        packages: other packages that a page names.
        environment: variables of the commands.
        pages: the extras that each page tells its readers to install.
        without: what is missing on the desk of a page, because its commands make it.
        excused: extras that neither walk installs, and why.
        runs: commands that the first walk does not run, and this one does.
        reasons: what this walk does not run as the pages show it.
    """

    install: Sequence[str]
    packages: Sequence[str]
    environment: Mapping[str, str]
    pages: Mapping[str, Sequence[str]]
    without: Mapping[str, Sequence[str]]
    excused: Mapping[str, str]
    runs: Mapping[str, str]
    reasons: Reasons

    @classmethod
    def read(cls, path: Path) -> Extras:
        """Read ``extras.toml``."""
        table = _table(path)
        reasons = Reasons(**{name: table.pop(name) for name in ("smaller", "until", "processor")})
        return cls(**table, reasons=reasons)

    @property
    def requirements(self) -> list[str]:
        """What ``pip install`` takes beside the wheel: the extras of the wheel in brackets, then other packages."""
        return [f"[{','.join(['cpu', *self.install])}]", *self.packages]

    def beside(self, first: Reasons) -> Reasons:
        """The reasons of this walk: those of the first one, and its own, which win. They note what a page needed."""
        own = self.reasons
        commands = {key: why for key, why in first.commands.items() if key not in self.runs}
        smaller = {**first.smaller, **own.smaller}
        return Reasons(first.programs, commands, smaller, first.machine, own.until, own.processor)

    def unused(self, walked: Reasons) -> list[str]:
        """Entries of ``extras.toml`` that no page needed: ``walked`` are the reasons of :meth:`beside` after a walk."""
        return sorted(self.reasons.known() - walked.used)

    def faults(self, root: Path, pages: Sequence[str]) -> list[str]:
        """Extras that a page tells its readers to install, and that no walk has for it."""
        told: list[str] = []
        known = {*self.install, *self.excused, *OF_THE_FIRST_WALK}
        for page in pages:
            text = (root / page).read_text(encoding="utf-8")
            named = {extra for found in _NAMED.finditer(text) for extra in found[1].split(",")}
            unknown = sorted(named - known)
            elsewhere = sorted((named & {*self.install}) - {*self.pages.get(page, ())})
            told += [f"{page}: no walk has the extra {one!r}: add it to 'install' or [excused]" for one in unknown]
            told += [f"{page}: names the extra {one!r}: add it to the page in [pages]" for one in elsewhere]
        told += [f"extras.toml: no such page: {page}" for page in self.pages if page not in pages]
        return told


def _table(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return table
