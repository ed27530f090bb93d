"""How long work tells how far it is: one protocol, which the command line draws and a test counts."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Somebody who wants to know how far some work is; called from the thread that does it."""

    def start(self, total: int | None) -> None:
        """Work on ``total`` items begins; None where their number is not known. Called once, before the first item."""

    def advance(self, count: int) -> None:
        """``count`` more items are done since the last call."""


class NoProgress:
    """Nobody wants to know."""

    def start(self, total: int | None) -> None:
        """Nothing happens."""

    def advance(self, count: int) -> None:
        """Nothing happens."""


NO_PROGRESS = NoProgress()
"""The default of functions that take a :class:`Progress`."""
