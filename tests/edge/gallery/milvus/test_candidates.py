"""Which candidates of an index decide a search: compared with the best of all rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rrid_edge.gallery import GalleryRow, Hit
from rrid_edge.gallery.milvus.candidates import Candidate, Ranking, hit_order, is_decided, nearest
from rrid_edge.gallery.shared import ROUNDING

_STEP = float(ROUNDING) / 2
"""Cosines lie so close that rounding of the index changes their order."""


@st.composite
def indexes(draw):
    """Cosines of rows in steps of half the rounding, what an index makes of them, and rows that are damaged."""
    steps = draw(st.lists(st.integers(0, 12), min_size=1, max_size=12))
    errors = draw(st.lists(st.floats(-1, 1), min_size=len(steps), max_size=len(steps)))
    damaged = draw(st.sets(st.integers(0, len(steps) - 1)))
    scores = [0.5 + step * _STEP for step in steps]
    named = [score + error * float(ROUNDING) for score, error in zip(scores, errors, strict=True)]
    return scores, named, damaged


@given(indexes(), st.integers(1, 6), st.integers(1, 14))
@settings(max_examples=100, deadline=None)
def test_a_decided_answer_is_the_best_of_all_rows(index, top_k, limit):
    scores, named, damaged = index
    rows = [GalleryRow(f"{number:02d}.jpg", id=number) for number in range(len(scores))]
    order = sorted(range(len(scores)), key=lambda number: -named[number])[:limit]
    candidates = [Candidate(str(number), (0, 0), named[number]) for number in order]

    def best(numbers):
        hits = [Hit(rows[number], scores[number]) for number in numbers if number not in damaged]
        return tuple(sorted(hits, key=hit_order))

    everything = best(range(len(scores)))[:top_k]
    for read in (nearest(candidates, top_k), candidates):
        ranking = Ranking(best(int(one.key) for one in read), np.empty((0, 0), np.float32), len(read))
        if is_decided(ranking, read, candidates, top_k, limit):
            assert ranking.hits[:top_k] == everything
        else:
            assert read is not candidates or len(candidates) == limit


def test_clear_candidates_are_decided_by_the_nearest_alone():
    candidates = [Candidate(str(number), (0, 0), 0.9 - number / 100) for number in range(26)]
    read = nearest(candidates, 10)
    assert [one.key for one in read] == [str(number) for number in range(10)]
    hits = tuple(Hit(GalleryRow(one.key, id=int(one.key)), one.score) for one in read)
    assert is_decided(Ranking(hits, np.empty((0, 0), np.float32), 10), read, candidates, 10, 26)
