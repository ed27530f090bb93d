"""The meaning and the limits of one setting of a training. Neither PyTorch nor NumPy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rrid_edge.crops.times import parse_duration
from rrid_edge.errors import UsageError, printable


@dataclass(frozen=True)
class Setting:
    """Meaning and limits of one field of :class:`~rrid_train.settings.TrainConfig`.

    Attributes:
        help: one line for ``--help``, without default and choices.
        choices: all valid values; empty if they cannot be listed.
        above: exclusive lower limit.
        at_least: inclusive lower limit.
        at_most: inclusive upper limit.
        switch: names of a switch's two options, on and off, for example ``cosine/staircase``; empty for other fields.
        is_duration: the value is a text such as ``10m``, or ``0``.
        on_resume: how a resumed run takes another value: ``machine`` (weights may differ in rounding at most),
            ``schedule`` (weights differ), or empty (not at all).
    """

    help: str
    choices: tuple[str, ...] = ()
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    switch: str = ""
    is_duration: bool = False
    on_resume: Literal["", "machine", "schedule"] = ""

    def check(self, name: str, value: Any) -> None:  # noqa: ANN401 - any field's value
        """Refuse a value outside the limits.

        Raises:
            UsageError: the value is outside; the message and ``parameters`` carry the field's ``name``.
        """
        if self.choices and value not in self.choices:
            raise UsageError(f"{name} {value!r} is unknown: expected one of {', '.join(self.choices)}", parameter=name)
        if self.is_duration:
            _ = duration_s(name, value)
        expected = ""
        if self.above is not None and not value > self.above:
            expected = f"a number above {self.above:g}"
        elif self.at_least is not None and self.at_most is not None and not self.at_least <= value <= self.at_most:
            expected = f"a number from {self.at_least:g} to {self.at_most:g}"
        elif self.at_least is not None and not value >= self.at_least:
            expected = f"{self.at_least:g} or more"
        if expected:
            raise UsageError(f"{name} {value} does not work: expected {expected}", parameter=name)


def duration_s(name: str, text: str) -> int:
    """Seconds of a duration such as ``10m``; 0 for ``0``.

    Raises:
        UsageError: another text; the message and ``parameters`` carry the field's ``name``.
    """
    if text.strip() == "0":
        return 0
    try:
        return parse_duration(text)
    except UsageError as error:
        raise UsageError(
            f"{name} {printable(repr(text[:20]))} does not work: expected a whole number and s, m or h, for example "
            "10m, or 0",
            parameter=name,
        ) from error
