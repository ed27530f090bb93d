"""Matching with a threshold per search: its gallery size, re-ranking, and modes that it was not measured for."""

from __future__ import annotations

import numpy as np
import pytest

from rrid_edge.embedding.queries import Query
from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import UsageError
from rrid_edge.gallery import NewRow, SearchFilter
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.matching import MatchSettings, match, match_all
from rrid_edge.ranking.search_thresholds import SearchThreshold
from support.reranking import dense_reranking
from support.thresholds import open_set

THRESHOLD = SearchThreshold(open_set({0.01: 0.75, 0.1: 0.65}, growth=0.08), 0.05)


def _unit(values):
    values = np.asarray(values, np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    vectors = _unit(np.random.default_rng(8).standard_normal((60, 15)))
    with LocalGallery.create(tmp_path_factory.mktemp("g") / "g", fake_spec(block_width=1), dtype="float32") as gallery:
        cameras = ["a"] * 40 + ["b"] * 20
        gallery.add(
            [NewRow(f"{index:02d}.jpg", "0" * 64, 1, 1, camera) for index, camera in enumerate(cameras)], vectors
        )
        yield gallery, vectors


def _queries(count):
    vectors = _unit(np.random.default_rng(9).standard_normal((count, 15)))
    return vectors, [Query((f"{index}.jpg",), row[None], None, "b") for index, row in enumerate(vectors)]


def test_each_search_has_the_threshold_of_the_crops_it_searches(crowd):
    gallery, vectors = crowd
    asked, queries = _queries(12)
    answered = 0
    for settings, count in (
        (MatchSettings(60, threshold=THRESHOLD), 60),
        (MatchSettings(60, threshold=THRESHOLD, exclude_same_camera=True), 40),
        (MatchSettings(60, threshold=THRESHOLD, rows=SearchFilter(cameras=frozenset("b"))), 20),
    ):
        score = THRESHOLD.score(count)
        columns = vectors[-20:] if count == 20 else vectors[:count]
        for row, result in zip(asked, match_all(gallery, queries, settings), strict=True):
            assert (result.searched, result.threshold, result.fpir) == (count, score, 0.05)
            expected = np.sort(columns @ row)[::-1]
            assert [item.score for item in result.matches] == pytest.approx(expected[expected >= score], abs=1e-6)
            answered += bool(result.matches)
    assert 0 < answered < 36


def test_a_reranked_search_answers_exactly_if_the_plain_one_does(crowd):
    gallery, vectors = crowd
    asked, queries = _queries(12)
    plain = match_all(gallery, queries, MatchSettings(5, threshold=THRESHOLD))
    reranked = match_all(gallery, queries, MatchSettings(5, threshold=THRESHOLD, rerank=25))
    assert [bool(result.matches) for result in reranked] == [bool(result.matches) for result in plain]
    score = THRESHOLD.score(60)
    for row, result in zip(asked, reranked, strict=True):
        # Slowly: the 25 best crops in the order of their re-ranked distances, less those below the threshold.
        scores = vectors @ row
        best = np.argsort(-scores)[:25]
        order = best[np.argsort(dense_reranking(row[None], vectors[best], 20, 6, 0.3)[0])]
        kept = [f"{index:02d}.jpg" for index in order if scores[index] >= score]
        assert [item.path for item in result.matches] == kept[:5]
        assert result.threshold == score


def test_modes_that_were_not_measured_are_refused(crowd):
    gallery, _ = crowd
    images = Query(("a.jpg", "b.jpg"), _queries(2)[0])
    for fuse in ("mean", "max"):
        with pytest.raises(
            UsageError, match=r"2 images with a threshold per search: .* queries of one image"
        ) as caught:
            match(gallery, images, MatchSettings(fuse=fuse, threshold=THRESHOLD))
        assert caught.value.parameters == ("fuse", "fpir")
    with pytest.raises(UsageError, match="query expansion changes the scores"):
        MatchSettings(threshold=THRESHOLD, expand=3)
    large = SearchThreshold(open_set({0.01: 0.75, 0.1: 0.65}), 0.05)
    assert match(gallery, _queries(1)[1][0], MatchSettings(threshold=large)).threshold == large.score(60)


def test_a_gallery_far_beyond_the_measured_sizes_is_refused(crowd):
    gallery, _ = crowd
    small = THRESHOLD.open_set
    tiny = SearchThreshold(type(small)(30, 10, 0, (2, 5), tuple(_cut(rate) for rate in small.rates)), 0.05)
    with pytest.raises(
        UsageError, match=r"60 crops are searched, .* of up to 5 crops and hold for at most 10 times"
    ) as caught:
        match(gallery, _queries(1)[1][0], MatchSettings(threshold=tiny))
    assert caught.value.parameters == ("fpir",)


def _cut(rate):
    """A rate with points of two sizes only."""
    points = tuple(type(point)(size, 0.5, None, 1.0) for size, point in zip((2, 5), rate.points, strict=False))
    return type(rate)(rate.fpir, rate.growth, points)
