"""Tests of the part that separates rank 1 from rank 2: by hand, and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.matching.contrast import UsualBlocks
from rrid_edge.matching.separation import Separation, separation, stripes_of
from rrid_edge.model.spec import ADOPTED_BLOCKS
from support.slow_separation import slow_separation

SPEC = fake_spec(block_width=4)
NAMES = ("stripe-1-of-3", "stripe-2-of-3", "stripe-3-of-3", "stripe-1-of-1", "global-of-3")
"""Each block is one number here."""


def _usual(names: tuple[str, ...] = NAMES) -> UsualBlocks:
    """Other people are 1 away in each block, by 0.5 more or less."""
    return UsualBlocks.of(names, np.array([[0.5] * len(names), [1.5] * len(names)] * 4, np.float32))


def _found(query: list[float], *crops: list[float], usual: UsualBlocks | None = None) -> Separation | None:
    usual = usual or _usual()
    rows = np.array(crops, np.float32)
    queries = np.broadcast_to(np.array(query, np.float32), rows.shape)
    return separation(usual, queries, rows, usual.contrasts(queries, rows))


def _told(found: Separation | None) -> tuple[str, str, bool] | None:
    return None if found is None else (found.block, f"{found.difference:.3f}", found.clear)


def test_the_part_in_which_rank_2_is_farther_and_differs_from_rank_1():
    # The middle stripe of rank 2 is 1 away from the query and from rank 1. All else is equal. The contrast falls by
    # 1 / 0.5. The evidence is the geometric mean of both distances, 1. It is 1 / (1 + 1/3) = 0.75 of that, because a
    # third of the one stripe that is the whole body shows the part too, without a difference.
    found = _found([0] * 5, [0] * 5, [0, 1, 0, 0, 0])
    assert found == Separation("stripe-2-of-3", "torso", 2.0, clear=True)
    # Copies of one picture, and a rank 2 that is nearer everywhere but in the global block.
    assert _found([0] * 5, [0.01] * 5, [0.011] * 5) is None
    assert _found([0] * 5, [0.5, 0.5, 0.5, 0.5, 0], [0, 0, 0, 0, 3]) is None


def test_where_both_differ_from_each_other_counts_too():
    # The first and the third stripe of rank 2 are farther from the query by 0.2. In the first, the crops differ from
    # each other by 0.2, in the third by 2.2. The evidence is 0.75 * sqrt(0.2 * 0.2) and 0.75 * sqrt(0.2 * 2.2).
    found = _found([0] * 5, [1, 0, 1, 0, 0], [1.2, 0, -1.2, 0, 0])
    assert _told(found) == ("stripe-3-of-3", "0.400", True)
    alike = _found([0] * 5, [1, 0, 1, 0, 0], [1.2, 0, 1.2, 0, 0])
    assert _told(alike) == ("stripe-1-of-3", "0.400", False)


def test_a_clear_part_leads_over_the_parts_that_do_not_touch_it():
    evidence = 3 / 4  # of a stripe that differs by 1
    near = 1 - 0.09 / evidence
    assert _told(_found([0] * 5, [0] * 5, [1, 0, near, 0, 0])) == ("stripe-1-of-3", "2.000", False)
    far = 1 - 0.11 / evidence
    assert _told(_found([0] * 5, [0] * 5, [1, 0, far, 0, 0])) == ("stripe-1-of-3", "2.000", True)
    # A neighbour may have as much: a part can reach into it.
    assert _told(_found([0] * 5, [0] * 5, [1, near, 0, 0, 0])) == ("stripe-1-of-3", "2.000", True)
    # What speaks for rank 2 takes nothing away: the middle is nearer to the query in rank 2.
    assert _told(_found([0] * 5, [0, 0, 2, 0, 0], [1, 0, 0, 0, 0])) == ("stripe-1-of-3", "2.000", True)


def test_nothing_separates_without_a_second_match_contrasts_or_stripes():
    query, other = [0.0] * 5, [1.0, 0, 0, 0, 0]
    assert _found(query, query, other) is not None
    assert _found(query, query) is None
    few = UsualBlocks.of(NAMES, np.ones((3, 5), np.float32))
    assert _found(query, query, other, usual=few) is None
    equal = UsualBlocks.of(NAMES, np.ones((9, 5), np.float32))  # no spread, so no contrast
    assert _found(query, query, other, usual=equal) is None
    adopted = UsualBlocks.of(ADOPTED_BLOCKS, np.array([[0.5], [1.5]] * 4, np.float32))
    assert _found([0.0], [0.0], [1.0], usual=adopted) is None
    nothing = UsualBlocks.of(NAMES, np.zeros((9, 5), np.float32))  # others are copies of the query
    assert _found(query, query, other, usual=nothing) is None
    # Others are copies of the query in the first block, so that it tells nothing.
    distances = np.array([[0, 0.5, 0.5, 0.5, 0.5], [0, 1.5, 1.5, 1.5, 1.5]] * 4, np.float32)
    part = UsualBlocks.of(NAMES, distances)
    assert _found(query, query, other, usual=part) is None
    assert _told(_found(query, query, [1, 0.5, 0, 0, 0], usual=part)) == ("stripe-2-of-3", "1.000", True)


def test_each_match_is_compared_with_its_own_query_image():
    usual = _usual()
    queries = np.array([[0, 0, 0, 0, 0], [0, 0, 2, 0, 0]], np.float32)
    crops = np.array([[0, 0, 0, 0, 0], [1, 0, 2, 0, 0]], np.float32)
    found = separation(usual, queries, crops, usual.contrasts(queries, crops))
    # Rank 2 is 1 away from its image in the first stripe, and equal in the third, which differs between the crops.
    assert _told(found) == ("stripe-1-of-3", "2.000", True)


def test_separations_equal_plain_loops():
    generator = np.random.default_rng(5)
    count = len(SPEC.blocks)
    told = []
    for turn in range(300):
        query, first, second = generator.normal(size=(3, SPEC.dimension)).astype(np.float32) / SPEC.dimension**0.5
        lowest = 0.2 if turn % 4 else 0.0
        lengths = generator.uniform(lowest, 0.4 + 8 * lowest, count).repeat(4).astype(np.float32)
        second = 0.4 * query + 0.6 * (query * (1 - lengths) + second * lengths)
        distances = generator.uniform(0.1, 0.5, (9, count)).astype(np.float32)
        usual = UsualBlocks.of(SPEC.blocks, distances)
        queries, crops = np.stack([query, query]), np.stack([0.6 * query + 0.4 * first, second])
        own = separation(usual, queries, crops, usual.contrasts(queries, crops))
        blocks = [(block.name, block.usual or 0.0, block.spread or 0.0) for block in usual.blocks]
        slow = slow_separation(query, crops[0], crops[1], blocks)
        assert (own is None) == (slow is None)
        if own is not None and slow is not None:
            assert (own.block, own.clear) == (slow[0], slow[2])
            assert own.difference == pytest.approx(slow[1], rel=1e-4)
        told.append((own.block, own.clear) if own else None)
    assert len(set(told)) >= 12  # each stripe of the finest scale, clearly and not
    assert None in told


def test_the_finest_stripes_are_found_by_name():
    assert stripes_of(SPEC.blocks) == (0, 1, 2, 3, 4, 5)
    assert stripes_of(("stripe-2-of-2", "stripe-1-of-2", "global-of-2")) == (1, 0)
    assert stripes_of(ADOPTED_BLOCKS) == ()
