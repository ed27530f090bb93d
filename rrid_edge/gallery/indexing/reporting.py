"""What a watch reports: each problem once, until it changes."""

from __future__ import annotations

from collections.abc import Callable

from rrid_edge.crops.folder import describe_endings, describe_outside
from rrid_edge.errors import printable
from rrid_edge.gallery.indexing.sync import IndexReport


class WatchWarnings:
    """Reports each problem once, until it changes.

    Args:
        warn: receives one line for each.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._files: frozenset[tuple[str, str]] = frozenset()
        self._left_out: tuple[str, str] = ("", "")
        self._problem = ""
        self._refused = ""

    def removals(self, reason: str) -> None:
        """Report that rows of vanished files stay; empty if none do."""
        if reason and reason != self._refused:
            self._warn(f"{reason}; still watching")
        self._refused = reason

    def problem(self, message: str) -> None:
        """Report what prevented a run; empty after a run that succeeded."""
        if message and message != self._problem:
            self._warn(f"{message}; still watching")
        self._problem = message

    def files(self, report: IndexReport) -> tuple[tuple[str, str], ...]:
        """Report files that were left out, except those of the last run; returns the new failures."""
        current = frozenset((*report.failed, *report.skipped))
        new = current - self._files
        self._files = current
        for path, reason in sorted(new):
            self._warn(f"left out {printable(path)}: {reason}")
        left_out = (describe_outside(report.outside), describe_endings(report.endings))
        for line, before in zip(left_out, self._left_out, strict=True):
            if line and line != before:
                self._warn(line)
        self._left_out = left_out
        return tuple(failure for failure in report.failed if failure in new)
