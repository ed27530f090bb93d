"""A body while it arrives: what counts as slow."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from edge.serve.gate.tiny import QUICK
from rrid_edge.serve.gate.arriving import BodyRefused, HeldBytes, Pace, SlowBodies

LIMITS = replace(QUICK, slow_after_s=0.05, silence_s=0.2)


def next_part(pace: Pace, delay_s: float) -> object:
    async def receive():
        await asyncio.sleep(delay_s)
        return {"type": "http.request"}

    return asyncio.run(pace.next_part(receive))


def test_a_part_that_waits_in_the_socket_is_not_slow_after_a_busy_moment():
    pace = Pace(LIMITS, SlowBodies(0), "a")  # a slow body is refused at once
    time.sleep(0.1)  # this process was busy longer than a body may take
    assert next_part(pace, 0.001) == {"type": "http.request"}


def test_a_part_that_comes_late_is_slow():
    with pytest.raises(BodyRefused) as caught:
        next_part(Pace(LIMITS, SlowBodies(0), "a"), 0.15)
    assert caught.value.error.status == 503
    assert next_part(Pace(LIMITS, SlowBodies(2), "a"), 0.1) == {"type": "http.request"}
    with pytest.raises(BodyRefused) as caught:
        next_part(Pace(LIMITS, SlowBodies(2), "a"), 5)
    assert caught.value.error.status == 408


def test_places_and_bytes_come_back():
    slow, held = SlowBodies(4), HeldBytes(10)
    for address in ("a", "a", "b", "b"):
        slow.take(address)
    with pytest.raises(BodyRefused):
        slow.take("c")
    slow.give_back("a")
    with pytest.raises(BodyRefused):
        slow.take("b")  # it has its half
    slow.take("c")
    held.take(10)
    with pytest.raises(BodyRefused):
        held.take(1)
    held.give_back(4)
    held.take(4)
