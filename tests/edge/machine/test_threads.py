"""The choice of the number of threads, with a clock that the work moves forward."""

from __future__ import annotations

import pytest

from rrid_edge.machine import threads
from rrid_edge.machine.threads import ThreadChoice, choose_threads, thread_counts


class _Machine:
    """Takes the next of the given seconds for each call with a number of threads; the last one repeats."""

    def __init__(self, **seconds: list[float]) -> None:
        self.now, self.calls = 0.0, list[int]()
        self._seconds = {int(name[1:]): values for name, values in seconds.items()}

    def run(self, count: int) -> None:
        self.calls.append(count)
        values = self._seconds[count]
        self.now += values.pop(0) if len(values) > 1 else values[0]

    def choose(self) -> ThreadChoice:
        return choose_threads(self.run, sorted(self._seconds), timer=lambda: self.now)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ({"t1": [0.03], "t2": [0.09]}, "threads: 1 (measured 3.0x faster than 2: other programs use the cores)"),
        ({"t1": [0.03], "t2": [0.02]}, "threads: 2 (measured 1.5x faster than 1)"),
        ({"t1": [0.03], "t2": [0.03]}, "threads: 1 (measured: 2 are no faster)"),
        ({"t1": [0.030], "t2": [0.029]}, "threads: 1 (measured: 2 are no faster)"),  # 3 % is noise
        ({"t1": [0.08], "t4": [0.02], "t8": [0.016]}, "threads: 8 (measured 1.2x faster than 4)"),
        (
            {"t1": [0.08], "t4": [0.02], "t8": [0.05]},
            "threads: 4 (measured 2.5x faster than 8: other programs use the cor",
        ),
        # A slow first call starts the threads, and one slow call is chance.
        ({"t1": [0.03], "t2": [9.0, 0.02, 0.02, 0.5, 0.02]}, "threads: 2 (measured 1.5x faster than 1)"),
        ({"t1": [0.03, 0.03, 0.9, 0.03], "t2": [0.09]}, "threads: 1 (measured 3.0x faster than 2"),
        ({"t7": [1.0]}, "threads: 7"),
    ],
    ids=["crowded", "free", "equal", "noise", "eight", "half", "slow start", "chance", "one core"],
)
def test_the_fastest_number_is_chosen_and_the_reason_is_said(seconds, words):
    assert _Machine(**seconds).choose().describe().startswith(words)


def test_a_measurement_keeps_to_its_budget_and_gives_up_on_what_is_hopeless():
    slow = _Machine(t1=[0.5], t2=[0.4])
    assert slow.choose().threads == 2
    assert slow.now <= threads.BUDGET_S
    crowded = _Machine(t1=[0.01], t2=[0.1])
    assert crowded.choose().threads == 1
    assert crowded.calls.count(2) == 1 + 3  # the first call, and three rounds
    assert not _Machine(t3=[1.0]).choose().seconds  # a single number is not measured


def test_one_half_and_all_cores_are_tried(monkeypatch):
    assert [thread_counts(most) for most in (1, 2, 3, 8)] == [(1,), (1, 2), (1, 3), (1, 4, 8)]
    monkeypatch.setattr(threads, "usable_cores", lambda: 8)
    for asked, counts in (("", (1, 4, 8)), ("2", (1, 2)), ("64", (1, 4, 8)), ("four", (1, 4, 8)), ("0", (1,))):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert thread_counts() == counts
