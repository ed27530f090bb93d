"""Suggested groups: against a slow implementation, and links that are honoured whatever the descriptors are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrid_edge.errors import UsageError
from rrid_edge.gallery import NewRow
from rrid_edge.people.grouping import Constraints, Edges, group_crops
from rrid_edge.people.links import Links
from rrid_edge.people.pairs import NeighbourTable
from rrid_edge.people.questions import questions
from rrid_edge.people.records import Verdict
from rrid_edge.people.suggesting import MOST_CROPS, suggest
from rrid_edge.people.threshold import GroupThreshold, group_threshold
from rrid_edge.ranking.thresholds import Threshold
from support.galleries import SPEC
from support.memory_store import MemoryMoment, MemoryStore
from support.thresholds import keep, record

MOST = 9


def crops(seed: int, count: int, people: int, noise: float = 0.9) -> np.ndarray:
    """Unit vectors around ``people`` directions, in 8 dimensions, where groups overlap."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((people, 8))
    found = centres[generator.integers(0, people, count)] + noise * generator.standard_normal((count, 8))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def grouped(vectors: np.ndarray, constraints: Constraints, threshold: float) -> list[tuple[int, ...]]:
    first, second = np.nonzero(np.triu(vectors @ vectors.T >= np.float32(threshold), 1))
    found = group_crops(
        len(vectors),
        Edges(first, second),
        lambda members: vectors[list(members)].copy(),
        constraints,
        threshold,
        stop=lambda: None,
    )
    for group in found:
        pairs = [float(vectors[a] @ vectors[b]) for a, b in itertools.combinations(group.members, 2)]
        assert group.cohesion == pytest.approx(np.mean(pairs), abs=1e-4)
    return [group.members for group in found]


def slowly_grouped(vectors: np.ndarray, constraints: Constraints, threshold: float) -> list[tuple[int, ...]]:
    """All means of all pairs, again and again: first the tracks, then the nearest groups, then what must be one."""
    with_it = {crop: set(ones) for ones in constraints.together for crop in ones}
    apart = {
        frozenset((one, other))
        for first, second in constraints.apart
        for one in with_it.get(first, {first})
        for other in with_it.get(second, {second})
    }

    def allowed(group: set[int]) -> bool:
        return not any(frozenset(pair) in apart for pair in itertools.combinations(group, 2))

    groups = [{crop} for crop in range(len(vectors))]

    def united(ones: Sequence[int]) -> set[int]:
        return set().union(*(group for group in groups if group & set(ones)))

    def replace(union: set[int]) -> None:
        groups[:] = [group - union for group in groups if group - union] + [union]

    for track in constraints.tracks:
        if allowed(united(track)):
            replace(united(track))
    while True:
        means = [
            (float(np.mean([vectors[a].astype(float) @ vectors[b] for a in one for b in other])), min(one), min(other))
            for one, other in itertools.combinations(sorted(groups, key=min), 2)
            if allowed(one | other)
        ]
        if not means or max(means)[0] < threshold:
            break
        _, low, high = max(means)
        replace(united([low, high]))
    for ones in sorted(map(sorted, constraints.together)):
        union = united(ones)
        replace(union if allowed(union) else set(ones))
    return sorted(tuple(sorted(group)) for group in groups if len(group) > 1)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, MOST), st.integers(1, 4), st.sampled_from([0.3, 0.5, 0.7]), st.data())
def test_any_small_set_equals_the_slow_implementation(seed, count, people, threshold, data):
    vectors = crops(seed, count, people)
    constraints = _constraints(data, count)
    assert grouped(vectors, constraints, threshold) == slowly_grouped(vectors, constraints, threshold)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, MOST), st.data())
def test_links_are_honoured_exactly(seed, count, data):
    constraints = _constraints(data, count)
    groups = grouped(crops(seed, count, 2), constraints, 0.2)
    where = {crop: index for index, members in enumerate(groups) for crop in members}
    assert len(where) == sum(map(len, groups))
    for ones in constraints.together:
        assert len({where[crop] for crop in ones}) == 1
    for first, second in constraints.apart:
        assert where.get(first, -1) != where.get(second, -2)


def _constraints(data, count: int) -> Constraints:
    """Disjoint sets that must be together, pairs that are apart and do not contradict them, and tracks."""
    names = data.draw(st.lists(st.integers(0, 3 + count), min_size=count, max_size=count))
    sets = [[crop for crop in range(count) if names[crop] == name] for name in range(3)]
    together = [ones for ones in sets if len(ones) > 1]
    ids = {crop: name for name, ones in enumerate(together) for crop in ones}
    pairs = data.draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=4))
    apart = [
        (min(pair), max(pair)) for pair in pairs if pair[0] != pair[1] and ids.get(pair[0], -1) != ids.get(pair[1], -2)
    ]
    track = data.draw(st.lists(st.integers(0, count - 1), max_size=3, unique=True))
    return Constraints(together, [sorted(track)] if len(track) > 1 else [], apart)


def test_a_pair_that_is_together_and_apart_is_refused():
    with pytest.raises(UsageError, match="together and apart"):
        grouped(crops(1, 3, 1), Constraints([[0, 1, 2]], [], [(0, 2)]), 0.5)


# In a gallery ---------------------------------------------------------------------------------------------------------


def gallery(*people: tuple[int, str | None], noise: float = 0.3, **fields: object):
    """A store of made-up people: their numbers of crops and labels; crop ids count from 1."""
    store = MemoryStore(SPEC)
    generator = np.random.default_rng(5)
    rows, vectors = [], []
    for count, label in people:
        centre = generator.standard_normal(SPEC.dimension)
        for index in range(count):
            found = centre + noise * generator.standard_normal(SPEC.dimension)
            vectors.append(found / np.linalg.norm(found))
            rows.append(NewRow(None, camera=str(index % 2), label=label, **fields))  # type: ignore[arg-type]
    store.add(rows, np.array(vectors, np.float32))
    return store


def suggested(store, *verdicts: Verdict):
    with store.moment() as moment:
        return suggest(moment, SPEC, Links(verdicts))


def test_unlabelled_crops_are_grouped_and_a_resemblance_is_a_question():
    found = suggested(gallery((3, "Ann"), (4, None), (1, None), (3, None)))
    assert [group.crops for group in found.groups] == [(4, 5, 6, 7), (9, 10, 11)]
    assert [group.resembles for group in found.groups] == [None, None]
    assert (found.considered, found.left_out) == (8, 0)
    store = gallery((6, None), (4, None))
    rows = {row.id: row for row in store.rows()}
    store.update([rows[1].__class__(**{**rows[1].__dict__, "label": "Ann"})])
    near = suggested(store).groups[0]
    assert near.crops == (2, 3, 4, 5, 6)
    assert (near.resembles.label, near.resembles.other, near.resembles.is_told) == ("Ann", 1, False)
    told = suggested(store, Verdict((1, 3), "same")).groups
    assert [(group.crops, group.resembles and group.resembles.is_told) for group in told] == [
        ((2, 4, 5, 6), False),
        ((7, 8, 9, 10), None),
    ]
    apart = suggested(store, Verdict((1, 3), "different")).groups[0]
    assert (apart.crops, apart.resembles) == ((2, 3, 4, 5, 6), None)


def test_rows_of_one_track_and_camera_belong_together_unless_a_verdict_says_no():
    store = gallery((1, None), (1, None), (1, None), (1, None), track="7")
    assert [group.crops for group in suggested(store).groups] == [(1, 2, 3, 4)]
    assert suggested(store, Verdict((1, 2), "different")).groups == ()
    other = gallery((2, None), noise=9, track="7")  # two cameras
    assert suggested(other).groups == ()


def test_suggestions_are_equal_each_time_and_can_be_ended():
    store = gallery((5, None), (5, None), noise=1.2)
    assert suggested(store).groups == suggested(store).groups

    class EndedError(Exception):
        pass

    def stop() -> None:
        raise EndedError

    with store.moment() as moment, pytest.raises(EndedError):
        suggest(moment, SPEC, Links([]), stop=stop)


def test_neighbours_that_are_kept_equal_those_of_a_new_search(monkeypatch):
    monkeypatch.setattr("rrid_edge.people.pairs.NEIGHBOURS", 3)
    store, table = gallery((5, None), (5, "Ann"), noise=1.2), NeighbourTable()
    searched = []
    real = MemoryMoment.search

    def counted(self, queries, *rest):
        searched.append(len(queries))
        return real(self, queries, *rest)

    monkeypatch.setattr(MemoryMoment, "search", counted)

    def check(most: int) -> None:
        """Compare the kept neighbours with those of a new table; at most so many crops are searched."""
        with store.moment() as moment:
            crops = [row for row in moment.rows() if row.label is None]
            searched.clear()
            kept = table.pairs(moment, crops, stop=lambda: None)
            assert sum(searched) <= most
            fresh = NeighbourTable().pairs(moment, crops, stop=lambda: None)
        assert kept.first.tolist() == fresh.first.tolist()
        assert kept.second.tolist() == fresh.second.tolist()
        assert np.allclose(kept.scores, fresh.scores, rtol=0, atol=1e-7)

    check(5)
    check(0)
    rows = {row.id: row for row in store.rows()}
    store.update([rows[1].__class__(**{**rows[1].__dict__, "label": "Bob"})])
    check(0)  # labels cost nothing
    added = store.vectors([rows[2], rows[7]]) + np.float32(0.02)
    store.add([NewRow(None), NewRow(None)], added / np.linalg.norm(added, axis=1, keepdims=True))
    check(2)
    store.remove([3])
    check(6)  # only crops that had it among their neighbours


def test_only_the_newest_crops_are_grouped(monkeypatch):
    assert MOST_CROPS == 20_000
    monkeypatch.setattr("rrid_edge.people.suggesting.MOST_CROPS", 3)
    store = gallery((5, None))
    rows = store.rows()
    store.update([row.__class__(**{**row.__dict__, "time": -row.id}) for row in rows])  # the lowest ids are the newest
    found = suggested(store)
    assert (found.crops, found.considered, found.left_out) == ((1, 2, 3), 3, 2)


def test_questions_are_the_most_uncertain_pairs_once_each_and_never_answered_ones():
    store = gallery((2, "Ann"), (3, None), (3, None), noise=1.1)
    found = suggested(store)
    asked = questions(found, Links([]), 50)
    threshold = found.threshold.score
    labels = {row.id: row.label for row in store.rows()}
    camera = {row.id: row.camera for row in store.rows()}
    vectors = dict(zip(labels, store.vectors(store.rows()), strict=True))
    group = {crop: group.crops[0] for group in found.groups for crop in group.crops}
    sides = [frozenset(labels[crop] or group.get(crop, crop) for crop in (ask.first, ask.second)) for ask in asked]
    assert asked
    assert len(set(sides)) == len(sides)
    assert all(len(pair) == 2 for pair in sides)
    keys = [(camera[ask.first] == camera[ask.second], abs(ask.score - threshold)) for ask in asked]
    assert keys == sorted(keys)
    for ask in asked:
        assert labels[ask.first] is None
        assert ask.score == pytest.approx(float(vectors[ask.first] @ vectors[ask.second]), abs=1e-5)
        for answer in ("same", "different", "unsure"):
            verdict = Verdict((min(ask.first, ask.second), max(ask.first, ask.second)), answer)
            left = questions(found, Links([verdict]), 50)
            assert {ask.first, ask.second} not in [{one.first, one.second} for one in left]
    assert questions(found, Links([]), 2) == asked[:2]


@pytest.mark.parametrize("people", [3, 40])
def test_an_estimated_threshold_lies_between_pairs_of_two_people_and_of_one(people):
    store = gallery(*[(120 // people, None)] * people)
    rows = store.rows()
    vectors = store.vectors(rows)
    person = np.repeat(np.arange(people), 120 // people)
    scores = vectors @ vectors.T
    same = person[:, None] == person
    with store.moment() as moment:
        estimate = group_threshold(moment, SPEC, None)
    assert estimate.kind == "estimated"
    assert np.quantile(scores[~same], 0.999) < estimate.score < np.quantile(scores[same], 0.01)


def test_a_measured_threshold_comes_first_and_says_where_it_comes_from(tmp_path):
    model = tmp_path / "rrid.onnx"
    points = (Threshold(1e-6, None, None), Threshold(1e-4, None, None), Threshold(1e-3, 0.61, 0.9))
    keep(model, SPEC.fingerprint, record("market", points))
    with gallery((3, None)).moment() as moment:
        assert group_threshold(moment, SPEC, model) == GroupThreshold(0.61, "fpr", 1e-3, "market")
        keep(model, "0" * 64, record("market", points))
        assert group_threshold(moment, SPEC, model).kind == "estimated"
