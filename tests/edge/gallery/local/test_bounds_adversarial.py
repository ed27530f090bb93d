"""Answers of the two-pass search on hostile rows, against a slow obvious search over all rows in float64."""

from __future__ import annotations

import zlib
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rrid_edge.gallery.local import bounded
from rrid_edge.gallery.local.copies import RowCopies
from rrid_edge.gallery.local.nested import (
    BLOCK,
    NestedBounds,
    coordinate_error,
    coordinates_of,
    first_slack,
    fit_basis,
    levels_for,
    project_rows,
    second_slack,
)
from rrid_edge.gallery.local.schema import Columns
from rrid_edge.gallery.local.search import _all_best, find_candidates
from rrid_edge.gallery.local.view import Vectors, View
from rrid_edge.gallery.shared import ROUNDING, exact_scores

ROWS, DIMENSION = 1000, 128
KINDS = ("flat", "line", "duplicates", "clusters", "antipodal", "steep", "zero")


def drawn(kind: str, generator: np.random.Generator, count: int) -> np.ndarray:
    """Draw ``count`` rows (count, DIMENSION) of unit length, or zero rows too."""
    noise = generator.standard_normal((count, DIMENSION))
    if kind == "line":  # one direction and hardly anything else
        noise = noise * 1e-4 + np.eye(DIMENSION)[0]
    elif kind == "duplicates":
        noise = noise[generator.integers(0, min(5, count), count)]
    elif kind == "clusters":
        noise = 0.1 * noise + 3 * noise[generator.integers(0, min(30, count), count)]
    elif kind == "antipodal":
        noise[1::2] = -noise[: count // 2]
    elif kind == "steep":
        noise = noise / np.arange(1, DIMENSION + 1) ** 1.5
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    if kind == "zero":
        noise[generator.random(count) < 0.5] = 0
    return noise.astype(np.float32)


def view_of(stored: np.ndarray, live: np.ndarray, known: int, crcs: np.ndarray, basis: np.ndarray) -> View:
    """Return a view of rows whose first ``known`` slots have bounds."""
    levels = levels_for(stored.shape[1])
    rows = project_rows(stored[:known].astype(np.float32), basis, levels.first)
    first = np.zeros((-(-known // BLOCK), levels.first + 1, BLOCK), np.float32)
    for slot, row in enumerate(rows.first):
        first[slot // BLOCK, :, slot % BLOCK] = row
    columns = SimpleNamespace(slots=live, crcs=crcs[live])  # all that a search reads
    return View(Vectors(stored, 0), cast(Columns, columns), NestedBounds(basis, first, rows.second))


def slow(stored: np.ndarray, query: np.ndarray, usable: np.ndarray, top_k: int) -> tuple[set[int], set[int]]:
    """Return the slots above the last hit's score, and those that reach it."""
    scores = exact_scores(query, stored[usable].astype(np.float32))
    last = np.sort(scores)[-min(top_k, len(scores))]
    return set(usable[scores > last].tolist()), set(usable[scores >= last].tolist())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    query_kind=st.sampled_from(("same", "row", "other", "zero")),
    seed=st.integers(0, 2**31),
    top_k=st.sampled_from((1, 3, 10, 40)),
    known=st.integers(ROWS // 2, ROWS),
    dtype=st.sampled_from(("float16", "float32")),
    damage=st.sampled_from((None, "flip", "nan", "inf")),
    kept=st.sampled_from((0.6, 1.0)),
)
def test_candidates_hold_every_hit(monkeypatch, kind, query_kind, seed, top_k, known, dtype, damage, kept):
    """Whatever the rows are, and whether bounds were used, no hit of the slow search is missing."""
    monkeypatch.setattr(bounded, "QUERY_BYTES", 0)
    monkeypatch.setattr(bounded, "_WORTH", 1e9)  # never gives up, so that the bounds themselves are tested
    generator = np.random.default_rng(seed)
    stored = drawn(kind, generator, ROWS).astype(dtype)
    crcs = np.array([zlib.crc32(row.tobytes()) for row in stored], np.int64)
    basis = fit_basis(stored[:known].astype(np.float32), levels_for(DIMENSION).second)
    queries = {
        "same": lambda: drawn(kind, generator, 3),
        "row": lambda: stored[:3].astype(np.float32),
        "other": lambda: drawn("flat", generator, 3),
        "zero": lambda: np.zeros((1, DIMENSION), np.float32),
    }[query_kind]()
    broken = np.flatnonzero(generator.random(ROWS) < 0.02) if damage else np.empty(0, np.int64)
    stored[broken] = {None: 0, "flip": 3, "nan": np.nan, "inf": np.inf}[damage]
    live = np.flatnonzero(generator.random(ROWS) < 0.95)
    view = view_of(stored, live, known, crcs, basis)
    allowed = generator.random(len(live)) < kept
    usable = np.setdiff1d(live[allowed], broken)
    for query, found in zip(queries, find_candidates(view, queries, allowed, top_k), strict=True):
        assert found.mode == "two-pass" or damage
        above, reaching = slow(stored, query, usable, top_k)
        chosen = set(found.slots.tolist())
        assert above <= chosen
        assert reaching <= chosen  # ties are decided by path, so all of them are candidates
        assert chosen <= set(usable.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_giving_up_changes_no_answer(monkeypatch, kind):
    """With the real costs some queries are scanned: the same rows are found."""
    monkeypatch.setattr(bounded, "QUERY_BYTES", 0)
    generator = np.random.default_rng(7)
    stored = drawn(kind, generator, ROWS).astype(np.float16)
    crcs = np.array([zlib.crc32(row.tobytes()) for row in stored], np.int64)
    basis = fit_basis(stored.astype(np.float32), levels_for(DIMENSION).second)
    view = view_of(stored, np.arange(ROWS), ROWS, crcs, basis)
    queries, allowed = drawn(kind, generator, 12), np.ones(ROWS, np.bool_)
    for bounds in (view.bounds, None):
        found = find_candidates(replace(view, bounds=bounds), queries, allowed, 10)
        for query, one in zip(queries, found, strict=True):
            above, reaching = slow(stored, query, np.arange(ROWS), 10)
            assert above | reaching <= set(one.slots.tolist())


@pytest.mark.parametrize(("kind", "mode"), [("flat", "scan"), ("clusters", "two-pass")])
def test_bounds_are_used_where_they_prune(monkeypatch, kind, mode):
    monkeypatch.setattr(bounded, "QUERY_BYTES", 0)
    generator = np.random.default_rng(3)
    plane = np.linalg.qr(generator.standard_normal((DIMENSION, 12)))[0].astype(np.float32)
    stored = drawn(kind, generator, ROWS)
    stored = stored if kind == "flat" else stored @ plane @ plane.T
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    crcs = np.array([zlib.crc32(row.tobytes()) for row in stored], np.int64)
    view = view_of(stored, np.arange(ROWS), ROWS, crcs, fit_basis(stored, levels_for(DIMENSION).second))
    found = find_candidates(view, stored[:1], np.ones(ROWS, np.bool_), 10)[0]
    assert found.mode == mode
    assert found.rescored == ROWS if mode == "scan" else found.rescored < ROWS / 4


@pytest.mark.parametrize("dimension", [1, 15, 120, 257, 3840])
def test_the_slack_covers_the_error_of_computed_coordinates(dimension):
    """Against float64: rows and queries that the basis holds wholly, where nothing else loosens the bound."""
    generator = np.random.default_rng(dimension)
    levels = levels_for(dimension)
    rows = generator.standard_normal((64, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    basis = fit_basis(rows, levels.second)
    within = rows @ basis @ basis.T if dimension > levels.second else rows
    within /= np.linalg.norm(within, axis=1, keepdims=True)
    for count in (1, 64):  # few queries are projected in another way
        exact = basis.astype(np.float64).T @ within[:count].astype(np.float64).T
        error = np.linalg.norm(coordinates_of(within[:count], basis).T - exact, axis=0)
        assert (error <= coordinate_error(levels.second)).all()
    assert 0 < first_slack(levels) < 2e-4
    assert 0 < second_slack(levels) < 6e-4


def test_damaged_rows_are_unbounded_and_do_not_spoil_others():
    """A row that was damaged when its bounds were made, and is restored later, is still found."""
    generator = np.random.default_rng(4)
    good = drawn("clusters", generator, ROWS).astype(np.float16)
    crcs = np.array([zlib.crc32(row.tobytes()) for row in good], np.int64)
    damaged = good.copy()
    damaged[5], damaged[6] = np.nan, 60_000
    basis = fit_basis(good.astype(np.float32), levels_for(DIMENSION).second)
    view = view_of(damaged, np.arange(ROWS), ROWS, crcs, basis)
    restored = replace(view, vectors=Vectors(good, 0))
    for slot in (5, 6):
        query = good[slot].astype(np.float32)
        found = find_candidates(restored, query[None] / np.linalg.norm(query), np.ones(ROWS, np.bool_), 1)
        assert slot in found[0].slots


def test_excluded_rows_stay_excluded_if_all_of_the_best_are_damaged(monkeypatch):
    """No last hit is known then, so nothing bounds the others."""
    monkeypatch.setattr(bounded, "QUERY_BYTES", 0)
    monkeypatch.setattr(bounded, "_WORTH", 1e9)
    generator = np.random.default_rng(11)
    stored = drawn("clusters", generator, ROWS).astype(np.float16)
    crcs = np.array([zlib.crc32(row.tobytes()) for row in stored], np.int64)
    query, allowed = stored[0].astype(np.float32), np.arange(ROWS) % 10 != 0
    best = np.argsort(-(stored.astype(np.float32) @ query))
    broken = best[allowed[best]][:60]
    basis = fit_basis(stored.astype(np.float32), levels_for(DIMENSION).second)
    view = view_of(stored, np.arange(ROWS), ROWS, crcs, basis)
    crcs[broken] += 1
    damaged = replace(view, columns=cast(Columns, SimpleNamespace(slots=np.arange(ROWS), crcs=crcs)))
    (found,) = find_candidates(damaged, query[None], allowed, 3)
    usable = np.setdiff1d(np.flatnonzero(allowed), broken)
    assert set(found.slots.tolist()) <= set(usable.tolist())
    assert slow(stored, query, usable, 3)[1] <= set(found.slots.tolist())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**31),
    top_k=st.sampled_from((1, 5, 30)),
    known=st.integers(ROWS // 2, ROWS),
    group_rows=st.sampled_from((1, 40, 10_000)),
    kept_rows=st.sampled_from((0, 1, 8)),
    batch=st.sampled_from((1, 3, 100)),
)
def test_queries_that_share_rows(monkeypatch, kind, seed, top_k, known, group_rows, kept_rows, batch):
    """Equal and similar queries in one call, of several batches and groups, with damaged, excluded and late rows."""
    monkeypatch.setattr(bounded, "QUERY_BYTES", 0)
    monkeypatch.setattr(bounded, "_WORTH", 1e9)
    monkeypatch.setattr(bounded, "_GROUP_ROWS", group_rows)
    monkeypatch.setattr(bounded, "_KEPT_ROWS", kept_rows)
    monkeypatch.setattr(bounded, "_BOUNDS_PER_BATCH", batch * known)
    generator = np.random.default_rng(seed)
    stored = drawn(kind, generator, ROWS).astype(np.float16)
    crcs = np.array([zlib.crc32(row.tobytes()) for row in stored], np.int64)
    basis = fit_basis(stored[:known].astype(np.float32), levels_for(DIMENSION).second)
    near = stored[[3, 4, ROWS - 1]].astype(np.float32)
    queries = np.concatenate([near, near + 1e-3 * drawn("flat", generator, 3), near, drawn("flat", generator, 2)])
    broken = np.concatenate([[3], np.flatnonzero(generator.random(ROWS) < 0.02)])
    stored[broken] = generator.choice(np.array([3, np.nan, np.inf], np.float16), (len(broken), 1))
    live = np.flatnonzero(generator.random(ROWS) < 0.95)
    allowed = generator.random(len(live)) < 0.8
    usable = np.setdiff1d(live[allowed], broken)
    view = view_of(stored, live, known, crcs, basis)
    for query, found in zip(queries, find_candidates(view, queries, allowed, top_k), strict=True):
        above, reaching = slow(stored, query, usable, top_k)
        assert above | reaching <= set(found.slots.tolist()) <= set(usable.tolist())
        np.testing.assert_array_equal(found.scores, exact_scores(query, stored[found.slots].astype(np.float32)))


@pytest.fixture
def clusters() -> tuple[np.ndarray, View]:
    """Rows in clusters, and a view of them."""
    stored = drawn("clusters", np.random.default_rng(5), ROWS).astype(np.float16)
    crcs = np.array([zlib.crc32(row.tobytes()) for row in stored], np.int64)
    return stored, view_of(stored, np.arange(ROWS), ROWS, crcs, fit_basis(stored.astype(np.float32), 32))


@pytest.mark.parametrize("bounds_worth", [0, 1e9])
def test_a_row_that_several_queries_need_is_read_once(monkeypatch, clusters, bounds_worth):
    monkeypatch.setattr(bounded, "_WORTH", bounds_worth)
    stored, view = clusters
    read: list[int] = []

    def copy(self: Vectors, slots: np.ndarray, out: np.ndarray) -> None:
        read.extend(slots.tolist())
        out[:] = self.stored[slots]

    monkeypatch.setattr(Vectors, "copy", copy)
    queries = stored[[7, 7, 7, 7]].astype(np.float32)
    for found in find_candidates(view, queries, np.ones(ROWS, np.bool_), 10):
        assert found.mode == ("two-pass" if bounds_worth else "scan")
    assert len(read) == len(set(read)) > 0


@pytest.mark.parametrize("bounds_worth", [0, 1e9])
def test_a_row_that_is_erased_meanwhile_is_scored_as_it_was_checked(monkeypatch, clusters, bounds_worth):
    monkeypatch.setattr(bounded, "_WORTH", bounds_worth)
    stored, view = clusters
    before, query = stored.astype(np.float32), stored[7].astype(np.float32)
    exact = RowCopies.exact_scores

    def erased(self: RowCopies, query: np.ndarray, slots: np.ndarray) -> np.ndarray:
        stored[:] = 0
        return exact(self, query, slots)

    monkeypatch.setattr(RowCopies, "exact_scores", erased)
    (found,) = find_candidates(view, query[None], np.ones(ROWS, np.bool_), 10)
    assert slow(before, query, np.arange(ROWS), 10)[1] <= set(found.slots.tolist())
    np.testing.assert_array_equal(found.scores, exact_scores(query, before[found.slots]))


@pytest.mark.parametrize("distinct", [1, 40, 10_000])
def test_the_best_of_many_scores_are_those_of_a_sort(distinct):
    """With ties, and rows that are excluded because they are not finite."""
    generator = np.random.default_rng(distinct)
    scores = generator.choice(generator.standard_normal(distinct).astype(np.float32), (3, 6007))
    scores[:, generator.random(6007) < 0.1] = -np.inf
    for top_k in (1, 10, 70):
        for row, found in zip(scores, _all_best(scores, top_k), strict=True):
            last = np.sort(row)[-top_k]
            assert found.tolist() == np.flatnonzero(row >= last - 2 * ROUNDING).tolist()
