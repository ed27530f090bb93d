"""Steps of long work, and the lines about them: what is told, when, and that short work tells nothing."""

from __future__ import annotations

import threading

import pytest

from rrid_edge import progress
from rrid_edge.progress import Reporter, Step, clock_text, reporter_here, reporting_to, step


class Clock:
    """A clock that a test sets. Waiting moves it, and calls what happens at a time."""

    def __init__(self, end_s: float) -> None:
        self.now, self.end_s = 0.0, end_s
        self.at: dict[float, object] = {}

    def __call__(self) -> float:
        return self.now

    def wait(self, pause_s: float) -> bool:
        until = self.now + pause_s
        for when in sorted(time for time in self.at if self.now < time <= until):
            self.now = when
            self.at.pop(when)()  # type: ignore[operator]
        self.now = until
        return self.now > self.end_s


def _reporter(clock: Clock, what: str = "rrid-edge x is working", **options: object) -> tuple[Reporter, list[str]]:
    lines: list[str] = []
    return Reporter(what, lines.append, wait=clock.wait, clock=clock, **options), lines  # type: ignore[arg-type]


def test_durations_are_minutes_and_seconds():
    assert [clock_text(seconds) for seconds in (0, 59.9, 61, 3599, 3600, 360_061)] == (
        ["0:00", "0:59", "1:01", "59:59", "1:00:00", "100:01:01"]
    )


@pytest.mark.parametrize(
    ("total", "done", "after_s", "expected"),
    [
        (None, 0, 45, "x: 0:45 so far"),
        (None, 900, 45, "x: 900, 20 per s, 0:45 so far"),
        (20_000, 0, 45, "x: 0 of 20,000 (0 %), 0:45 so far"),
        (20_000, 4_096, 30, "x: 4,096 of 20,000 (20 %), 137 per s, 1:56 left"),  # 15,904 / (4,096 / 30) = 116.5 s
        (40, 10, 4, "x: 10 of 40 (25 %), 2.5 per s, 0:12 left"),
        (10, 2, 60, "x: 2 of 10 (20 %), 30.0 s each, 4:00 left"),
        (10, 10, 60, "x: 10 of 10 (100 %), 1:00 so far"),
    ],
)
def test_a_step_tells_count_rate_and_time_left(total, done, after_s, expected):
    clock = Clock(0)
    one = Step("x", clock=clock)
    if total is not None:
        one.start(total)
    one.advance(done)
    clock.now = after_s
    assert one.describe() == expected


def test_items_that_mean_nothing_are_told_in_percent():
    clock = Clock(0)
    one = Step("building", in_percent=True, clock=clock)
    one.start(1000)
    clock.now = 30
    assert one.describe() == "building: 0 %, 0:30 so far"
    one.advance(250)
    assert one.describe() == "building: 25 %, 1:30 left"


def test_the_rate_is_that_of_the_last_three_minutes():
    """1 per s for ten minutes, then 4 per s for four: 400 items more take 100 s."""
    clock = Clock(0)
    one = Step("x", clock=clock)
    one.start(600 + 960 + 400)
    for second in range(1, 841):
        clock.now = second
        one.advance(1 if second <= 600 else 4)
        if second % 30 == 0:
            told = one.describe()
    assert told == "x: 1,560 of 1,960 (79 %), 4.0 per s, 1:40 left"


def test_a_line_comes_every_thirty_seconds_and_none_for_short_work():
    clock = Clock(29.9)
    reporter, lines = _reporter(clock)
    reporter.say_in_time()
    assert lines == []
    clock = Clock(100)
    reporter, lines = _reporter(clock)
    with reporting_to(reporter), step("indexing", 100) as counted:
        clock.at = {20: lambda: counted.advance(20), 50: lambda: counted.advance(80)}
        reporter.say_in_time()
    assert lines == [
        "0:30  indexing: 20 of 100 (20 %), 1.5 s each, 2:00 left",
        "1:00  indexing: 100 of 100 (100 %), 1:00 so far",
        "1:30  indexing: 100 of 100 (100 %), 1:30 so far",
    ]


def test_the_line_tells_the_outer_count_else_the_innermost_step_else_the_command():
    clock = Clock(0)
    reporter, _ = _reporter(clock)
    with reporting_to(reporter):
        assert reporter.line() == "0:00  rrid-edge x is working"
        with step("loading"):
            clock.now = 5
            assert reporter.line() == "0:05  loading: 0:05 so far"
            with step("embedding", 4) as outer, step("reading", 2) as inner:
                inner.advance(1)
                assert reporter.line() == "0:05  embedding: 0 of 4 (0 %), 0:00 so far"
                outer.advance(4)
                assert reporter.line() == "0:05  reading: 1 of 2 (50 %), 0:00 so far"
                inner.advance(1)
                with step("closing\n\x1b[1m"):
                    assert reporter.line() == "0:05  closing\\n\\x1b[1m: 0:00 so far"
            assert reporter.line() == "0:05  loading: 0:05 so far"
        reporter.counts_only = True
        with step("loading"):
            assert reporter.line() is None
            with step("indexing", 2):
                assert reporter.line() == "0:05  indexing: 0 of 2 (0 %), 0:00 so far"
        assert reporter.line() is None
    assert not reporter.is_within_step


def test_a_quiet_reporter_says_nothing_and_one_that_cannot_print_goes_on():
    clock = Clock(200)
    reporter, lines = _reporter(clock)
    reporter.is_quiet = True
    clock.at = {70: lambda: setattr(reporter, "is_quiet", False)}
    reporter.say_in_time()
    assert [line.split("  ")[0] for line in lines] == ["1:30", "2:00", "2:30", "3:00"]

    def closed(_line: str) -> None:
        tries.append(1)
        raise BrokenPipeError

    tries: list[int] = []
    clock = Clock(100)
    Reporter("x", closed, wait=clock.wait, clock=clock).say_in_time()
    assert len(tries) == 3


def test_the_thread_ends_with_the_context_and_hears_the_steps_of_its_own_thread_only(monkeypatch):
    monkeypatch.setattr(progress, "PAUSE_S", 0.01)
    lines: list[str] = []
    said = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        said.set()

    def elsewhere() -> None:
        with step("of another thread", 5):
            found.append(reporter_here())

    found: list[object] = []
    with Reporter("work", say) as reporter, reporting_to(reporter):
        assert said.wait(10)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert found == [None]
    assert all(line.endswith("  work") for line in lines)
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]
    count = len(lines)
    assert not said.wait(0) or len(lines) == count


def test_a_step_without_a_reporter_only_counts():
    with step("x", 3) as one:
        one.advance(2)
    assert (one.total, one.done) == (3, 2)
