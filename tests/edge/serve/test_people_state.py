"""What the service remembers of people: one run at a time, what is shown meanwhile, and pauses."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from rrid_edge.gallery import NewRow
from rrid_edge.people.book import PeopleBook
from rrid_edge.people.suggesting import Suggestions
from rrid_edge.people.threshold import GroupThreshold
from rrid_edge.serve.people_state import PeopleState, Stopped
from support.galleries import SPEC, vectors
from support.memory_store import MemoryStore


class Runs:
    """In place of ``suggest``: each run waits for ``go``, and then asks whether it is stopped."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, moment, _spec, _links, _model, *, table, stop) -> Suggestions:
        assert table is not None
        self.begun.release()
        assert self.go.acquire(timeout=10)
        stop()
        return Suggestions((), GroupThreshold(0.5, "estimated"), moment.info().rows, 0)


@pytest.fixture
def runs(monkeypatch):
    found = Runs()
    monkeypatch.setattr("rrid_edge.serve.people_state.suggest", found)
    return found


@pytest.fixture
def store():
    found = MemoryStore(SPEC)
    found.add([NewRow(None, label="Ann" if index < 2 else None) for index in range(4)], vectors(4))
    return found


@pytest.fixture
def state(store):
    with PeopleState(lambda: store, PeopleBook(None), Path("rrid.onnx")) as found:
        yield found


def test_a_run_is_shared_and_its_result_is_kept_until_the_gallery_changes(store, state, runs):
    first, is_current = state.suggestions()
    again, _ = state.suggestions()
    assert is_current
    assert first is again
    runs.go.release()
    assert first.result(10).considered == 4
    known, is_current = state.suggestions()
    assert (known.result(0).considered, is_current) == (4, True)
    store.add([NewRow(None)], vectors(1, 5))
    runs.go.release()
    newer, is_current = state.suggestions()
    assert (newer.result(10).considered, is_current) == (5, True)


def test_a_run_of_an_older_state_goes_on_when_others_write(store, state, runs):
    first, _ = state.suggestions()
    assert runs.begun.acquire(timeout=10)
    store.add([NewRow(None)], vectors(1, 5))
    same, is_current = state.suggestions()
    assert (same is first, is_current) == (True, False)
    runs.go.release()
    first.result(10)


def test_a_change_of_this_process_ends_the_run(state, runs):
    first, _ = state.suggestions()
    assert runs.begun.acquire(timeout=10)
    state.changed()
    runs.go.release()
    with pytest.raises(Stopped):
        first.result(10)
    runs.go.release()
    newer, is_current = state.suggestions()
    assert (newer.result(10).considered, is_current) == (4, True)


def test_after_a_long_run_commits_of_others_wait_but_own_changes_do_not(store, state, runs, monkeypatch):
    monkeypatch.setattr("rrid_edge.serve.people_state._SHORT_S", -100.0)  # every run is a long one
    runs.go.release()
    state.suggestions()[0].result(10)
    store.add([NewRow(None)], vectors(1, 5))
    known, is_current = state.suggestions()
    assert (known.result(0).considered, is_current) == (4, False)
    state.changed()
    runs.go.release()
    newer, is_current = state.suggestions()
    assert (newer.result(10).considered, is_current) == (5, True)


def test_no_run_is_at_work_while_crops_are_forgotten(state, runs):
    first, _ = state.suggestions()
    assert runs.begun.acquire(timeout=10)
    runs.go.release()
    with state.paused():
        assert first.done()
        waiting, _ = state.suggestions()
        assert not runs.begun.acquire(timeout=0.2)
    runs.go.release()
    assert waiting.result(10).considered == 4


def test_the_roster_follows_labels(store, state):
    assert {ref.name: len(state.roster().seen[number].rows) for number, ref in state.roster().people.items()} == {
        "Ann": 2
    }
    row = store.rows_by_id([3])[0]
    store.update([replace(row, label="Bob"), replace(store.rows_by_id([4])[0], label="junk")])
    state.changed()  # a gallery on a server cannot tell
    assert {ref.name for ref in state.roster().people.values()} == {"Ann", "Bob"}


def test_closing_ends_the_run(store, runs):
    state = PeopleState(lambda: store, PeopleBook(None), Path("rrid.onnx"))
    first, _ = state.suggestions()
    assert runs.begun.acquire(timeout=10)
    runs.go.release()
    state.close()
    assert first.done()
    state.close()
