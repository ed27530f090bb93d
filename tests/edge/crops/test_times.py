"""Times of crops: from texts, EXIF and files, and the bounds of a search."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rrid_edge.crops.times import (
    Bound,
    exif_time,
    find_time,
    format_time,
    parse_bound,
    parse_duration,
    read_frame,
    read_time,
    time_of,
)
from rrid_edge.errors import UsageError

DAY_US = 86_400_000_000
EXIF_IFD, ORIGINAL, OFFSET, SUBSECONDS = 0x8769, 0x9003, 0x9011, 0x9291


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    """Microseconds of a UTC time, by whole-number arithmetic of ``datetime``."""
    moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    return (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)


NOON = utc(2026, 11, 25, 17, 30, 15)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20261125173015", NOON),
        ("202611251730151", NOON + 100_000),
        ("20261125173015123450", NOON + 123_450),
        ("20261125_173015", NOON),
        ("20261125-173015", NOON),
        ("20261125T173015Z", NOON),
        ("20261125_173015_123", NOON + 123_000),
        ("20261125_173015123", NOON + 123_000),
        ("2026-11-25T17-30-15", NOON),
        ("2026-11-25_17-30-15-123", NOON + 123_000),
        ("2026-11-25T17-30-15-05", NOON + 50_000),
        ("2026-11-25T17-30-15-0500", NOON + 5 * 3_600_000_000),
        ("2026-11-25 17:30:15", NOON),
        ("2026-11-25T17:30:15Z", NOON),
        ("2026-11-25T17:30:15.5z", NOON + 500_000),
        ("2026-11-25T17:30:15,123456789", NOON + 123_456),
        ("2026-11-25T18:30:15+01:00", NOON),
        ("2026-11-25T18:30:15.25+0100", NOON + 250_000),
        ("2026-11-25T12:30:15-05", NOON),
        ("2026-11-25T23:00:15+0530", NOON),
        ("2026-11-25T17:30", NOON - 15_000_000),
        ("2026-11-25", utc(2026, 11, 25)),
        ("2026.11.25", utc(2026, 11, 25)),
        ("1795627815", NOON),
        ("1795627815123", NOON + 123_000),
        ("1795627815123450", NOON + 123_450),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("2024-02-29", utc(2024, 2, 29)),
    ],
)
def test_times_are_read(text, expected):
    assert read_time(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "0", "451", "000451", "20261125", "lobby", "2026", "2026-13-01", "2026-02-30", "2026-11-25T25:00:00",
        "2026-11-25T17:60:00", "20261325173015", "2026112517301512345012", "9" * 20, "0000000001",
        "9999999999", "999999999999", "20261125-17", "2026-11.25", "2026-11-25T17:30:15+15:00",
        "2026-11-25T17:30:15+0199", "\u0662" * 14, "0000-01-01", "2026-11-25T17:30:60Z", "-5", "1e9",
    ],
)  # fmt: skip
def test_other_texts_are_no_times(text):
    assert read_time(text) is None


def test_numbers_of_any_length_are_read():
    assert [read("9" * 5000) for read in (read_time, find_time, read_frame)] == [None] * 3


@given(st.text(max_size=40) | st.from_regex(r"[0-9TZ:+._ -]{0,40}", fullmatch=True))
def test_no_text_raises(text):
    for read in (read_time, find_time, read_frame):
        assert isinstance(read(text), int | None)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 12, 31)))
def test_written_times_are_read_back(moment):
    expected = utc(*moment.timetuple()[:6]) + moment.microsecond
    assert format_time(expected).endswith("Z")
    assert read_time(format_time(expected)) == expected
    assert read_time(f"{moment:%Y%m%d%H%M%S}{moment.microsecond:06d}") == expected


def test_a_time_is_found_within_a_name():
    assert find_time("lobby_20261125_173015_crop3") == NOON
    assert find_time("IMG-2026-11-25T17-30-15.5Z-01") == NOON + 500_000
    assert find_time("20269925173015 20261125173015") == NOON
    assert find_time("0002_000451_99") is None
    assert find_time("120261125173015") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("000451", 451),
        ("0", 0),
        ("", None),
        (str(2**62 - 1), 2**62 - 1),
        (str(2**62), None),
        ("f12", None),
        ("-3", None),
    ],
)
def test_frames_are_whole_numbers_that_fit(text, expected):
    assert read_frame(text) == expected


def test_times_are_shown_in_utc():
    assert format_time(NOON) == "2026-11-25T17:30:15Z"
    assert format_time(NOON + 120) == "2026-11-25T17:30:15.000120Z"
    assert format_time(-1) == "1969-12-31T23:59:59.999999Z"
    assert format_time(2**62 - 1) == f"{2**62 - 1}us"
    assert format_time(-(2**62)) == f"{-(2**62)}us"


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("30m", 1800), ("2h", 7200), ("30d", 30 * 86_400), ("2 w", 14 * 86_400)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds
    assert parse_bound(text, NOON) == Bound(time=NOON - seconds * 1_000_000)


@pytest.mark.parametrize(
    "text", ["", "30", "d", "0d", "-1d", "1.5h", "30D", "30 days", "999999999999999d", "9" * 400 + "d"]
)
def test_other_durations_are_refused(text):
    with pytest.raises(UsageError, match=r"is not a duration: expected a whole number and s, m, h, d or w") as caught:
        parse_duration(text)
    assert "\n" not in caught.value.message


def test_bounds_of_a_search():
    midnight = utc(2026, 11, 25)
    assert parse_bound("2026-11-25", 0) == Bound(time=midnight)
    assert parse_bound("2026-11-25", 0, is_last=True) == Bound(time=midnight + DAY_US - 1)
    assert parse_bound("2026-11-25T17:30:15", 0, is_last=True) == Bound(time=NOON)
    assert parse_bound("2026-11-25T18:30:15+01:00", 0) == Bound(time=NOON)
    assert parse_bound("20261125173015123450", 0) == Bound(time=NOON + 123_450)
    assert parse_bound("451", 0) == Bound(frame=451)
    assert parse_bound("-5", 0) == Bound(frame=-5)
    # Beyond all frames that can be stored, however long the number.
    assert parse_bound("9" * 19, 0) == parse_bound("9" * 5000, 0) == Bound(frame=2**62)
    assert parse_bound("-" + "9" * 5000, 0) == Bound(frame=-(2**62))


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "25.11.2026", "1.5h", "17:30", "a\nb"])
def test_other_bounds_are_refused_in_one_line(text):
    with pytest.raises(UsageError, match="is neither a time nor a frame: expected ISO 8601") as caught:
        parse_bound(text, NOON)
    assert "\n" not in caught.value.message


def save_exif(path, **tags):
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD).update({globals()[name.upper()]: value for name, value in tags.items()})
    Image.new("RGB", (16, 32)).save(path, exif=exif.tobytes())
    return path


def test_exif_times(tmp_path):
    path = save_exif(tmp_path / "a.jpg", original="2026:11:25 18:30:15", offset="+01:00", subseconds="25")
    assert exif_time(path) == exif_time(str(path)) == NOON + 250_000
    with Image.open(path) as image:
        assert exif_time(image) == NOON + 250_000
    assert exif_time(save_exif(tmp_path / "b.jpg", original="2026:11:25 17:30:15")) == NOON
    assert exif_time(save_exif(tmp_path / "c.png", original="2026:11:25 17:30:15", offset="   :  ")) == NOON
    assert exif_time(save_exif(tmp_path / "d.webp", original="2026:11:25 17:30:15", subseconds="x")) == NOON


def test_exif_data_that_tells_nothing_never_raises(tmp_path):
    path = tmp_path / "a.jpg"
    for tags in (
        {}, {"original": "0000:00:00 00:00:00"}, {"original": "    :  :     :  :  "}, {"original": "yesterday"},
        {"original": "2026:11:25 17:30:15", "offset": "+99:00"}, {"offset": "+01:00"},
    ):  # fmt: skip
        assert exif_time(save_exif(path, **tags)) is None
    assert exif_time(tmp_path / "missing.jpg") is None
    assert exif_time(tmp_path) is None
    sound = save_exif(path, original="2026:11:25 17:30:15", offset="+01:00", subseconds="25").read_bytes()
    start, end = sound.index(b"Exif"), sound.index(b"\xff\xdb")
    for position in range(start, end):  # every byte of the EXIF data, flipped
        for flipped in (sound[position] ^ 0xFF, sound[position] ^ 0x01):
            path.write_bytes(sound[:position] + bytes([flipped]) + sound[position + 1 :])
            assert isinstance(exif_time(path), int | None)
    for length in range(0, end, 3):
        path.write_bytes(sound[:length])
        assert isinstance(exif_time(path), int | None)


def test_the_source_of_a_time(tmp_path):
    path = save_exif(tmp_path / "a.jpg", original="2026:11:25 17:30:15")
    os.utime(path, ns=(0, 10_413_792_000_000_001_999))  # the year 2300: a camera without a clock
    assert time_of(path, "name", 7) == 7
    assert time_of(path, "name") is None
    assert time_of(path, "exif", 7) == NOON
    assert time_of(path, "mtime", 7) == path.stat().st_mtime_ns // 1000 > NOON
    assert time_of(tmp_path / "missing.jpg", "mtime", 7) is None
    with pytest.raises(UsageError, match="time source 'clock' is unknown: expected one of name, exif, mtime"):
        time_of(path, "clock")
