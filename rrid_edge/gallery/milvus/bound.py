"""A lower bound of a collection's number of rows that is right beside any number of writers.

A server that has lost a query node may answer from the remaining rows without saying so. Rows are therefore counted,
and the count is recorded in the collection's properties, which lie outside the query nodes. Later counts must reach it.
A record that is too high would make every reader refuse. So the record must fall *before* rows are removed, and a count
taken before a removal must not be recorded after it. Milvus has no transactions and no comparison before a write, only
properties of which the last writer wins. The protocol:

- A count is in force while ``count`` and ``counted`` name the same token.
- To count: write a new token to ``count``; read the properties; stop if a removal is marked or the token was replaced;
  count; write token and number to ``counted``.
- To remove: mark the removal and clear ``count``, in one write; remove; clear mark and ``count``, in one write; count.

A removal that was marked after the token was written has cleared it, so that count never comes into force. A removal
that was marked before is either seen as a mark, and the count is given up, or it ended before the count began. If two
removals take the same mark within one moment, a count may come into force between them; the end of the second clears
it, and readers ask again until then.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

REMOVAL_S = 3600
"""Seconds after which the mark of a removal belongs to a killed process."""
_SLOTS = 256
_MARK = "removing."


@dataclass(frozen=True)
class Bound:
    """What the properties say about the number of rows.

    Attributes:
        rows: at least so many rows exist; 0 if nothing is known.
        token: of the last count, complete or not.
        marks: running removals: (token, start in seconds since 1970) by slot.
    """

    rows: int = 0
    token: str = ""
    marks: Mapping[int, tuple[str, int]] = field(default_factory=dict)

    @classmethod
    def from_properties(cls, texts: Mapping[str, str]) -> Bound:
        """Parse properties, without their prefix.

        Raises:
            ValueError: a number is damaged.
        """
        token = texts.get("count", "")
        counted_token, _, number = texts.get("counted", "").partition(" ")
        marks = {}
        for name, value in texts.items():
            if name.startswith(_MARK) and value:
                owner, _, start = value.partition(" ")
                marks[_whole(name[len(_MARK) :])] = (owner, _whole(start))
        return cls(_whole(number) if token and token == counted_token else 0, token, marks)

    def running(self) -> dict[int, str]:
        """Tokens of removals that may still run, by slot."""
        now_s = time.time()
        return {slot: token for slot, (token, start) in self.marks.items() if abs(now_s - start) < REMOVAL_S}


def _whole(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ValueError(f"{text[:20]!r} is no whole number")
    return int(text)


class LowerBound:
    """Keeps the bound of one collection.

    Args:
        prefix: of the collection's properties.
        read: reads the bound from the server.
        write: changes some properties of the collection, in one call.
    """

    def __init__(self, prefix: str, read: Callable[[], Bound], write: Callable[[dict[str, str]], object]) -> None:
        self._prefix, self._read, self._alter = prefix, read, write

    def measure(self, count: Callable[[], int], least: int) -> None:
        """Count the rows and record the number, unless rows are being removed or fewer than ``least`` are counted."""
        token = secrets.token_hex(8)
        self._write({"count": token})
        bound = self._read()
        if bound.running() or bound.token != token:
            return
        total = count()
        if total >= least:
            self._write({"counted": f"{token} {total}"})

    @contextmanager
    def removing(self) -> Iterator[None]:
        """Rows may be removed inside. After an error the mark stays: the server may still be removing."""
        slot, token = self._mark()
        yield
        is_own = self._read().marks.get(slot, ("", 0))[0] == token
        self._write({"count": ""} | ({f"{_MARK}{slot}": ""} if is_own else {}))

    def _mark(self) -> tuple[int, str]:
        """Mark a removal in a slot that no running removal uses; returns slot and token."""
        token = secrets.token_hex(8)
        while True:
            taken = self._read().running()
            free = [slot for slot in range(_SLOTS) if slot not in taken] or list(range(_SLOTS))
            slot = secrets.choice(free)
            self._write({f"{_MARK}{slot}": f"{token} {int(time.time())}", "count": ""})
            if self._read().running().get(slot) == token:  # else another removal took the same slot at the same time
                return slot, token

    def _write(self, values: Mapping[str, str]) -> None:
        self._alter({self._prefix + name: value for name, value in values.items()})
