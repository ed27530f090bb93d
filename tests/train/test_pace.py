"""The pace over the last minutes, and the lines before the first progress line."""

from __future__ import annotations

import random

import pytest

from rrid_edge.progress import clock_text, step
from rrid_train.monitor import Monitor
from rrid_train.pace import Pace, Waiting


def _slowly(steps: list[tuple[float, int]], window_s: float) -> tuple[float, float]:
    """Seconds per step and images per second of the shortest run of last steps that fills the window."""
    counted = steps[1:] or steps
    for length in range(1, len(counted) + 1):
        if sum(seconds for seconds, _ in counted[-length:]) >= window_s:
            counted = counted[-length:]
            break
    total_s = sum(seconds for seconds, _ in counted)
    return total_s / len(counted), sum(images for _, images in counted) / total_s


def test_the_pace_is_that_of_the_last_minutes_without_the_first_step():
    generator = random.Random(3)
    pace, steps = Pace(10.0), list[tuple[float, int]]()
    assert (pace.seconds_per_step, pace.images_per_s) == (0, 0)
    for number in range(300):
        steps.append((generator.uniform(0.01, 3) if number != 50 else 40.0, generator.randrange(1, 64)))
        pace.add(*steps[-1])
        assert (pace.seconds_per_step, pace.images_per_s) == pytest.approx(_slowly(steps, 10.0))


def test_the_time_left_follows_a_machine_that_became_slower(tmp_path, capsys):
    """Ten minutes at 1 s per step, then four minutes at 4 s: 100 steps more take 400 s, not 143."""
    monitor = Monitor(tmp_path, 760, enabled=False)
    for seconds, count in ((60.0, 1), (1.0, 599), (4.0, 60)):
        for _ in range(count):
            monitor.step_took(seconds, 32)
    assert monitor.progress(660) == "step 660/760  4.00 s per step  8 img/s  6:40 left"
    assert [clock_text(seconds) for seconds in (0, 59.9, 61, 3599, 3600, 360_061)] == (
        ["0:00", "0:59", "1:01", "59:59", "1:00:00", "100:01:01"]
    )
    assert capsys.readouterr().err == ""


def test_what_is_waited_for_is_said_in_pauses_that_grow(capsys):
    now, pauses = 0.0, list[float]()

    def wait(pause_s: float) -> bool:
        nonlocal now
        now += pause_s
        pauses.append(pause_s)
        waiting.what = f"phase {len(pauses)}"
        waiting.is_quiet = len(pauses) == 6
        return len(pauses) == 8

    waiting = Waiting(enabled=False, wait=wait, clock=lambda: now)
    waiting.say_in_time()
    assert pauses == [5, 10, 15, 30, 30, 30, 30, 30]
    assert capsys.readouterr().err.splitlines() == [
        "0:05  phase 1", "0:15  phase 2", "0:30  phase 3", "1:00  phase 4", "1:30  phase 5", "2:30  phase 7",
    ]  # fmt: skip


def test_lines_of_the_training_itself_start_the_pause_again(capsys):
    """Lines of the training at 3, 20 and 40 s: the next one of the reporter comes 30 s after the last of them."""
    now = 0.0

    def wait(pause_s: float) -> bool:
        nonlocal now
        own = next((second for second in (3.0, 20.0, 40.0) if now < second <= now + pause_s), None)
        now += pause_s
        if own is not None:
            now, before = own, now
            waiting.told()
            now = before
        return now > 110

    waiting = Waiting(enabled=False, wait=wait, clock=lambda: now)
    waiting.what = "step 7/90"
    waiting.say_in_time()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["0:08", "0:18", "0:35", "1:10", "1:40"]


def test_steps_inside_are_told_and_the_thread_ends(capsys):
    with Waiting(enabled=True) as waiting, waiting, step("validating", 100) as counted:
        thread = waiting._thread
        assert thread.is_alive()
        counted.advance(25)
        line = waiting.line()
    assert line is not None
    assert line.startswith("0:00  validating: 25 of 100 (25 %), ")
    thread.join(5)
    assert not thread.is_alive()
    with Waiting(enabled=False) as silent, step("validating"):
        assert not silent.is_within_step
    assert capsys.readouterr().err == ""
