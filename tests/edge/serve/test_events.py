"""The log of events: followers in event loops, writers in threads."""

from __future__ import annotations

import asyncio
import threading

from rrid_edge.serve.events import MOST_IDS, EventLog


async def take(events, count):
    """The next events, within five seconds."""
    return [await asyncio.wait_for(anext(events), 5) for _ in range(count)]


def test_followers_get_what_is_published_after_they_came():
    async def follow():
        log = EventLog(boot="b")
        log.publish("crop-added", "g", {"ids": [1]})
        first, second = log.follow(), log.follow()
        log.publish("crop-added", "g", {"ids": [2, 3]})
        log.publish("index-progress", "g", {"done": 1, "total": 2})
        seen = await take(first, 2)
        assert [event.id for event in seen] == ["b-2", "b-3"]
        assert [event.kind for event in seen] == ["crop-added", "index-progress"]
        assert seen[0].data == {"gallery": "g", "ids": [2, 3], "count": 2}
        assert await take(second, 2) == seen

    asyncio.run(follow())


def test_writers_in_threads_lose_and_swap_nothing():
    async def follow():
        log = EventLog(kept=2_000)
        events = log.follow()

        def write(name):
            for number in range(200):
                log.publish(name, "g", {"n": number})

        threads = [threading.Thread(target=write, args=(str(name),)) for name in range(4)]
        for thread in threads:
            thread.start()
        seen = await take(events, 800)
        for name in "0123":
            assert [event.data["n"] for event in seen if event.kind == name] == list(range(200))
        assert len({event.id for event in seen}) == 800
        for thread in threads:
            thread.join()

    asyncio.run(follow())


def test_a_follower_comes_back():
    async def follow():
        log = EventLog(kept=3, boot="b")
        for number in range(1, 6):
            log.publish("crop-added", "g", {"n": number})
        assert [event.data["n"] for event in await take(log.follow("b-3"), 2)] == [4, 5]
        waiting = log.follow("b-5")
        log.publish("crop-added", "g", {"n": 6})
        assert [event.data["n"] for event in await take(waiting, 1)] == [6]
        # One too old, one of another run, one of the future, and texts that are no ids.
        for unknown in ("b-2", "other-6", "b-7", "", "b", "b--1", "b-x", "b-" + "9" * 30, "b-٣"):
            (reset,) = await take(log.follow(unknown), 1)
            assert (reset.kind, reset.id) == ("reset", "b-6")

    asyncio.run(follow())


def test_a_slow_follower_is_told_to_read_everything_again():
    async def follow():
        log = EventLog(kept=10, boot="b")
        slow = log.follow()
        for number in range(1_000):
            log.publish("crop-added", "g", {"n": number})
        (reset,) = await take(slow, 1)
        assert (reset.kind, reset.id) == ("reset", "b-1000")
        log.publish("crop-added", "g", {"n": 1_000})
        assert [event.data["n"] for event in await take(slow, 1)] == [1_000]

    asyncio.run(follow())


def test_only_one_gallery():
    async def follow():
        log = EventLog(boot="b")
        events = log.follow(gallery="b")
        for gallery in ("a", "b", "", "a", "b"):
            log.publish("gallery-changed", gallery, {})
        assert [event.gallery for event in await take(events, 3)] == ["b", "", "b"]

    asyncio.run(follow())


def test_closing_ends_followers_after_their_last_event():
    async def follow():
        log = EventLog(boot="b")
        waiting = log.follow()
        ended = asyncio.ensure_future(take_all(waiting))
        await asyncio.sleep(0)
        log.publish("gallery-changed", "g", {})
        threading.Thread(target=log.close).start()
        assert [event.id for event in await asyncio.wait_for(ended, 5)] == ["b-1"]
        assert await take_all(log.follow()) == []
        log.close()
        assert log.followers == 0

    async def take_all(events):
        return [event async for event in events]

    asyncio.run(follow())


def test_a_follower_that_goes_away_is_dropped():
    async def follow():
        log = EventLog()
        events = log.follow()
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.01)
        assert log.followers == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert log.followers == 0
        log.publish("gallery-changed", "g", {})

    asyncio.run(follow())


def test_long_lists_of_ids_are_cut():
    async def follow():
        log = EventLog()
        events = log.follow()
        log.publish("crop-added", "g", {"ids": list(range(1_000))})
        (event,) = await take(events, 1)
        assert event.data == {"gallery": "g", "ids": list(range(1_000 - MOST_IDS, 1_000)), "count": 1_000}

    asyncio.run(follow())
