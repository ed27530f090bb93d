"""The lower bound of the number of rows beside concurrent writers: every order of their calls, and kills."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from rrid_edge.gallery.milvus import bound as bound_module
from rrid_edge.gallery.milvus.bound import Bound, LowerBound

PREFIX = "p."


class World:
    """A collection of which only properties and the number of rows matter. Actors make one call when they are let."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.properties: dict[str, str] = {}
        self.actors: dict[str, _Actor] = {}

    def write(self, values: dict[str, str]) -> None:
        self.wait()
        self.properties = self.properties | values

    def read(self) -> Bound:
        self.wait()
        return self.now()

    def now(self) -> Bound:
        return Bound.from_properties({name[len(PREFIX) :]: value for name, value in self.properties.items()})

    def count(self) -> int:
        self.wait()
        return self.rows

    def delete(self, rows: int) -> None:
        self.wait()
        self.rows -= rows

    def wait(self) -> None:
        name = threading.current_thread().name
        if name in self.actors:
            self.actors[name].pause()

    def run(self, work: dict[str, Callable[[], None]], order: Sequence[str], *, always: bool = True) -> None:
        """Let actors make their calls in an order; those that are left make none: their process was killed.

        With ``always`` the bound must hold after every call, otherwise at the end.
        """
        self.actors = {name: _Actor(name, todo) for name, todo in work.items()}
        for actor in self.actors.values():
            actor.start()
        for name in order:
            self.actors[name].step()
            known = self.now().rows if always or all(actor.done for actor in self.actors.values()) else 0
            assert known <= self.rows, f"{known} rows are required and {self.rows} exist, after {order}"
        for actor in self.actors.values():
            actor.kill()
        self.actors = {}


class _Killed(BaseException):
    pass


class _Actor(threading.Thread):
    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._go, self._ready = threading.Semaphore(0), threading.Semaphore(0)
        self._killed = self.done = False

    def run(self) -> None:
        with contextlib.suppress(_Killed):
            self._work()
        self.done = True
        self._ready.release()

    def start(self) -> None:
        super().start()
        self._ready.acquire()

    def pause(self) -> None:
        self._ready.release()
        self._go.acquire()
        if self._killed:
            raise _Killed

    def step(self) -> None:
        if not self.done:
            self._go.release()
            self._ready.acquire()

    def kill(self) -> None:
        self._killed = True
        self._go.release()
        self.join(10)
        assert not self.is_alive()


def lower_bound(world: World) -> LowerBound:
    return LowerBound(PREFIX, world.read, world.write)


def counting(world: World, least: int = 0) -> Callable[[], None]:
    return lambda: lower_bound(world).measure(world.count, least)


def removing(world: World, rows: int) -> Callable[[], None]:
    def work() -> None:
        with lower_bound(world).removing():
            for _ in range(rows):
                world.delete(1)
        lower_bound(world).measure(world.count, 0)

    return work


def adding(world: World) -> Callable[[], None]:
    def work() -> None:
        world.delete(-2)
        lower_bound(world).measure(world.count, 0)

    return work


def test_a_count_is_in_force_until_rows_are_removed():
    world = World(10)
    assert world.now().rows == 0
    counting(world)()
    assert world.now().rows == 10
    with lower_bound(world).removing():
        assert world.now().rows == 0
        counting(world)()
        assert world.now().rows == 0
        world.rows -= 3
    counting(world)()
    assert world.now().rows == 7


def test_a_count_below_what_is_known_is_not_recorded():
    """A query node is missing: a smaller number would hide that."""
    world = World(10)
    counting(world, least=11)()
    assert world.now().rows == 0


def test_the_mark_of_a_failed_removal_stays_and_expires(monkeypatch):
    world = World(10)
    with pytest.raises(OSError, match="no answer"), lower_bound(world).removing():
        raise OSError("no answer")
    counting(world)()
    assert world.now().rows == 0
    later = time.time() + bound_module.REMOVAL_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    counting(world)()
    assert world.now().rows == 10


def test_every_order_of_one_count_and_one_removal():
    for taken in itertools.combinations(range(11), 4):
        world = World(10)
        counting(world)()
        order = ["counts" if index in taken else "removes" for index in range(11)]
        world.run({"counts": counting(world), "removes": removing(world, 2)}, order)


@pytest.mark.parametrize("seed", range(4))
def test_many_orders_of_several_writers_and_kills(seed):
    """Two removals, two counts and an addition in random orders; some are killed at a random call."""
    generator = random.Random(seed)
    for _ in range(150):
        world = World(20)
        counting(world)()
        work = {
            "first": removing(world, 2), "second": removing(world, 3), "third": counting(world),
            "fourth": counting(world), "fifth": adding(world),
        }  # fmt: skip
        calls = {"first": 11, "second": 12, "third": 4, "fourth": 4, "fifth": 5}
        order = [
            name
            for name, most in calls.items()
            for _ in range(generator.choice([most, most, generator.randrange(most)]))
        ]
        generator.shuffle(order)
        world.run(work, order)
        counting(world)()
        assert world.now().rows in (0, world.rows)


def test_removals_that_take_the_same_mark_leave_no_wrong_count(monkeypatch):
    monkeypatch.setattr(bound_module, "_SLOTS", 1)
    generator = random.Random(0)
    for _ in range(200):
        world = World(20)
        work = {"first": removing(world, 3), "second": removing(world, 3), "third": counting(world)}
        order = [name for name, most in (("first", 14), ("second", 14), ("third", 4)) for _ in range(most)]
        generator.shuffle(order)
        world.run(work, [*order, *["first", "second"] * 30], always=False)
        assert world.rows == 14


def test_with_all_slots_taken_removals_still_work():
    world = World(5)
    now = int(time.time())
    world.properties = {f"{PREFIX}removing.{slot}": f"t{slot} {now}" for slot in range(256)}
    with lower_bound(world).removing():
        world.rows -= 1
    assert world.now().rows == 0
