"""Times of crops: from file names, EXIF or files, and the bounds of a search.

A time is a whole number of UTC microseconds since 1970. A text without a zone is UTC. A frame number is no time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rrid_edge.crops.containers import exif_of
from rrid_edge.crops.exif import exif_texts
from rrid_edge.crops.formats import HEAD_BYTES, format_of
from rrid_edge.crops.reading import read_file
from rrid_edge.errors import ImageError, UsageError, printable

if TYPE_CHECKING:
    from PIL import Image

TIME_SOURCES: Final = ("name", "exif", "mtime")
"""Where the time of a crop can come from: its file name, its EXIF data, or its file's modification time."""
LARGEST: Final = 2**62 - 1
"""Largest time or frame that a gallery stores. A larger number counts as not told."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND: Final = timedelta(microseconds=1)
_SECOND_US: Final = 1_000_000
_DAY_US: Final = 86_400 * _SECOND_US
_UNIX_US: Final = {10: 1_000_000, 13: 1_000, 16: 1}
"""Microseconds per unit of Unix times, by their number of digits."""
_UNIX_RANGE_US: Final = (946_684_800 * _SECOND_US, 4_133_980_800 * _SECOND_US)
"""The years 2000 to 2100."""
_COMPACT_YEARS: Final = range(1970, 2101)
"""Years of times that are written as digits only. Other numbers are no times."""
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LARGEST_ZONE: Final = timedelta(hours=14)

_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d{0,6})", re.ASCII)
_DATE = r"(?P<year>\d{4})(?P<between>[-_.:/ ]?)(?P<month>\d\d)(?P=between)(?P<day>\d\d)"
# With hyphens between hours, minutes and seconds, "-05" is a fraction or a count; only "-0500" is a zone.
_CLOCK = (
    r"(?P<hour>\d\d)(?P<colon>[-_.: ]?)(?P<minute>\d\d)(?:(?P=colon)(?P<second>\d\d)"
    r"(?:[.,_]?(?P<fraction>\d{1,9})|(?<=-\d\d)-(?P<count>\d{1,3}|\d{6}))?)?"
)
_ZONE = r"\s?(?P<zone>[Zz]|[+-]\d\d(?::?\d\d)?)?"
_CALENDAR = re.compile(rf"{_DATE}(?:(?:[Tt]|[-_. ]{{0,3}}){_CLOCK}{_ZONE})?", re.ASCII)
_WITHIN_TEXT = re.compile(
    r"(?<!\d)\d{4}([-_.:]?)\d\d\1\d\d[Tt_\-. ]?\d\d([-_.:]?)\d\d\2\d\d(?:[.,]?\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?(?!\d)",
    re.ASCII,
)
_ORIGINAL, _OFFSET_ORIGINAL, _SUBSECONDS_ORIGINAL = 0x9003, 0x9011, 0x9291


@dataclass(frozen=True)
class Bound:
    """First or last time, or frame, of a search; the other one is None.

    Attributes:
        time: UTC microseconds since 1970.
        frame: frame number.
    """

    time: int | None = None
    frame: int | None = None


def read_time(text: str) -> int | None:
    """The time that a text tells, in UTC microseconds since 1970, or None.

    These are times: digits ``YYYYMMDDHHMMSS`` with up to 6 further digits of the second, also with separators
    (``20261125_173015``, ``2026-11-25T17-30-15``, ``2026-11-25``); ISO 8601 with a zone; Unix times in seconds (10
    digits), milliseconds (13) or microseconds (16) of the years 2000 to 2100. Any other number is no time.
    """
    text = text.strip()
    if re.fullmatch(r"\d+", text, re.ASCII):
        return _digits(text)
    found = _CALENDAR.fullmatch(text)
    return None if found is None else _calendar(found.groupdict())


def find_time(text: str) -> int | None:
    """The first date with a clock time within a longer text, as :func:`read_time` reads it, or None."""
    times = (read_time(found[0]) for found in _WITHIN_TEXT.finditer(text))
    return next((time for time in times if time is not None), None)


def read_frame(text: str) -> int | None:
    """The frame number that a text of digits tells, or None. A number beyond :data:`LARGEST` counts as not told."""
    digits = text.strip().lstrip("0") or "0"
    if not re.fullmatch(r"\d{1,19}", digits, re.ASCII) or not text.strip():
        return None
    return int(digits) if int(digits) <= LARGEST else None


def _digits(text: str) -> int | None:
    found = _COMPACT.fullmatch(text)
    if found is not None and int(found[1]) in _COMPACT_YEARS:
        *whole, fraction = found.groups()
        time = _microseconds([int(part) for part in whole], fraction, timedelta(0))
        if time is not None:
            return time
    if len(text) in _UNIX_US:
        first, end = _UNIX_RANGE_US
        time = int(text) * _UNIX_US[len(text)]
        return time if first <= time < end else None
    return None


def _calendar(parts: dict[str, str | None]) -> int | None:
    if parts["hour"] is None and not parts["between"]:
        return None  # eight digits are a number
    zone = _zone(parts["zone"])
    if zone is None:
        return None
    names = ("year", "month", "day", "hour", "minute", "second")
    return _microseconds([int(parts[name] or 0) for name in names], parts["fraction"] or parts["count"] or "", zone)


def _microseconds(whole: list[int], fraction: str, zone: timedelta) -> int | None:
    """Year, month, day, hour, minute, second, digits of the second's fraction, and offset from UTC, in microseconds."""
    try:
        moment = datetime(*whole, int(fraction[:6].ljust(6, "0")), tzinfo=timezone.utc)  # type: ignore[arg-type,misc]
    except ValueError:
        return None
    return (moment - _EPOCH - zone) // _MICROSECOND


def _zone(text: str | None) -> timedelta | None:
    """The offset of a zone from UTC; None if there is no such zone."""
    if text is None or text in "Zz":
        return timedelta(0)
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    if offset > _LARGEST_ZONE or int(digits[2:]) > 59:
        return None
    return -offset if text[0] == "-" else offset


def format_time(time_us: int) -> str:
    """A time as ISO 8601 in UTC, such as ``2026-11-25T17:30:15Z``, with six digits of the second if it is not whole.

    A time before the year 1 or after 9999 has no such form: it is shown as its number with ``us``.
    """
    try:
        moment = _EPOCH + timedelta(microseconds=time_us)
    except OverflowError:
        return f"{time_us}us"
    return moment.replace(tzinfo=None).isoformat() + "Z"


def parse_duration(text: str) -> int:
    """Seconds of a duration: a whole number and ``s``, ``m``, ``h``, ``d`` or ``w``, such as ``30d``.

    Raises:
        UsageError: another text, zero, or more than a gallery can count.
    """
    found = re.fullmatch(r"(\d{1,15})\s?([smhdw])", text.strip(), re.ASCII)
    seconds = int(found[1]) * _UNITS_S[found[2]] if found else 0
    if not 0 < seconds * _SECOND_US <= LARGEST:
        raise UsageError(
            f"{printable(text)!r} is not a duration: expected a whole number and s, m, h, d or w, for example 30m, 2h "
            "or 7d"
        )
    return seconds


def parse_bound(text: str, now_us: int, *, is_last: bool = False) -> Bound:
    """The first or last time or frame of a search.

    Args:
        text: a time as :func:`read_time` reads it; a duration before now (``30m``, ``2h``, ``7d``); or a frame number.
        now_us: the present, in UTC microseconds since 1970.
        is_last: the bound is a last one: a date without a clock time then means the end of that day.

    Raises:
        UsageError: the text is none of these.
    """
    text = text.strip()
    time = read_time(text)
    if time is not None:
        found = _CALENDAR.fullmatch(text)
        is_whole_day = found is not None and found["hour"] is None
        return Bound(time=time + _DAY_US - 1 if is_last and is_whole_day else time)
    if re.fullmatch(r"-?\d+", text, re.ASCII):
        if len(text) > 19:  # no frame lies beyond it, and Python refuses to read very long numbers
            return Bound(frame=-LARGEST - 1 if text[0] == "-" else LARGEST + 1)
        return Bound(frame=min(max(int(text), -LARGEST - 1), LARGEST + 1))
    try:
        return Bound(time=now_us - parse_duration(text) * _SECOND_US)
    except UsageError as error:
        raise UsageError(
            f"{printable(text)!r} is neither a time nor a frame: expected ISO 8601 such as 2026-11-25T17:30:15+01:00, "
            "a date such as 2026-11-25, a duration before now such as 30m, 2h or 7d, or a frame number"
        ) from error


def exif_time(picture: Image.Image | str | Path) -> int | None:
    """When a picture was taken, by its EXIF data: DateTimeOriginal, with its sub-seconds and its offset from UTC.

    Args:
        picture: an image that Pillow opened, or its file.

    Returns:
        UTC microseconds since 1970. None if the file does not tell, or cannot be read.
    """
    if isinstance(picture, (str, Path)):
        return _exif_time(_exif_of_file(Path(picture)))
    try:
        exif = picture.info.get("exif") or picture.getexif().tobytes()
    except Exception:  # Pillow raises almost anything on damaged EXIF data, and a time is worth no picture
        return None
    return _exif_time(exif) if isinstance(exif, bytes) else None


def _exif_of_file(path: Path) -> bytes:
    """The EXIF data of a file; empty if it has none or cannot be read."""
    try:
        content, _ = read_file(path)
    except ImageError:
        return b""
    form = format_of(content[:HEAD_BYTES])
    return exif_of(content, form) if form is not None else b""


def _exif_time(exif: bytes) -> int | None:
    taken, fraction, offset = exif_texts(exif, (_ORIGINAL, _SUBSECONDS_ORIGINAL, _OFFSET_ORIGINAL))
    found = re.fullmatch(r"(\d{4}):(\d\d):(\d\d)[ T](\d\d):(\d\d):(\d\d)", taken, re.ASCII)
    zone = _zone(offset if re.fullmatch(r"[+-]\d\d:\d\d", offset, re.ASCII) else None)
    if found is None or zone is None:
        return None
    digits = fraction if re.fullmatch(r"\d+", fraction, re.ASCII) else ""
    return _microseconds([int(part) for part in found.groups()], digits, zone)


def time_of(path: Path, how: str, named: int | None = None) -> int | None:
    """The time of a crop in UTC microseconds since 1970, or None if its source does not tell.

    Args:
        path: the crop's file.
        how: one of :data:`TIME_SOURCES`.
        named: the time that the file name tells, for ``name``.

    Raises:
        UsageError: ``how`` is another text.
    """
    check_time_source(how)
    if how == "name":
        return named
    if how == "exif":
        return exif_time(path)
    try:
        time = path.stat().st_mtime_ns // 1000
    except OSError:
        return None
    return time if abs(time) <= LARGEST else None


def check_time_source(how: str) -> None:
    """Refuse an unknown source of times.

    Raises:
        UsageError: ``how`` is not one of :data:`TIME_SOURCES`.
    """
    if how not in TIME_SOURCES:
        raise UsageError(
            f"time source {how!r} is unknown: expected one of {', '.join(TIME_SOURCES)}", parameter="time_from"
        )
