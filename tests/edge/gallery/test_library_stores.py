"""Gallery on the stores of folders: opening, models, threads."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest

from rrid_edge import Embedder, FakeEngine, Gallery, index_folder, match, open_gallery
from rrid_edge.embedding.queries import Query
from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import FingerprintMismatchError, GalleryMissingError, UsageError
from rrid_edge.gallery.indexing.retention import forget_expired, set_retention
from rrid_edge.ranking.thresholds import Threshold
from support.memory_store import SPEC, vectors
from support.pictures import noise, save_crops
from support.thresholds import keep, record


@pytest.mark.parametrize("given", ["people", "people/.rrid-edge"])
def test_a_folder_of_crops_or_of_an_index(tmp_path, given):
    place = tmp_path / given
    with open_gallery(place, SPEC, create=True) as gallery:
        ids = gallery.add(vectors(2), camera="dock")
    assert (tmp_path / "people" / ".rrid-edge" / "meta.sqlite").is_file()
    for again in (tmp_path / "people", str(tmp_path / "people" / ".rrid-edge")):
        with open_gallery(again) as gallery:
            assert [row.id for row in gallery] == ids
            assert gallery.spec == SPEC
    with open_gallery(place, SPEC, create=True) as gallery:
        assert gallery.add(vectors(1, 5)) == [max(ids) + 1]
    with open_gallery(place, write=True) as gallery:
        gallery.label(ids[0], "Ann")
        assert gallery.remove(ids[1]) == 1
    with open_gallery(place, create=True) as gallery:
        assert [(row.id, row.label) for row in gallery] == [(ids[0], "Ann"), (max(ids) + 1, None)]


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(GalleryMissingError):
        open_gallery(tmp_path)
    with pytest.raises(GalleryMissingError):
        open_gallery(tmp_path, write=True)
    with pytest.raises(UsageError, match="a new one needs the spec of its model"):
        open_gallery(tmp_path, create=True)
    with pytest.raises(UsageError, match="dtype 'int8' is unknown"):
        open_gallery(tmp_path, SPEC, create=True, dtype="int8")
    open_gallery(tmp_path, SPEC, create=True).close()
    with pytest.raises(FingerprintMismatchError):
        open_gallery(tmp_path, fake_spec("another network"))


def test_a_gallery_opened_for_reading_refuses_changes(tmp_path):
    with open_gallery(tmp_path, SPEC, create=True) as gallery:
        ids = gallery.add(vectors(2))
    with open_gallery(tmp_path) as gallery:
        for call in (lambda: gallery.add(vectors(1)), lambda: gallery.remove(ids), lambda: gallery.forget(ids)):
            with pytest.raises(UsageError, match="open for reading"):
                call()
        assert len(gallery) == 2


def test_vectors_are_rounded_by_at_most_the_type(tmp_path):
    for dtype, error in (("float16", 1e-3), ("float32", 1e-6)):
        with open_gallery(tmp_path / dtype, SPEC, create=True, dtype=dtype) as gallery:
            gallery.add(vectors(5))
            found = gallery.search(vectors(5), top_k=1)
            assert [one[0].score for one in found] == pytest.approx([1.0] * 5, abs=error)


def test_a_moved_gallery_finds_the_thresholds_of_its_moved_model(tmp_path):
    site = tmp_path / "site"
    (site / "models").mkdir(parents=True)
    keep(site / "models" / "rrid.onnx", SPEC.fingerprint, record("d", (Threshold(1e-3, 0.25, 0.9),)))
    with open_gallery(site / "people", SPEC, create=True, model=site / "models" / "rrid.onnx") as gallery:
        gallery.add(vectors(30))
    moved = site.rename(tmp_path / "elsewhere")
    with open_gallery(moved / "people") as gallery:
        expected = gallery.search(vectors(1), top_k=30, min_score=0.25)
        assert gallery.search(vectors(1), top_k=30, fpr=1e-3) == expected
        assert 1 <= len(expected[0]) < 30


def test_forgetting_and_exporting_are_in_the_audit_log(tmp_path):
    with open_gallery(tmp_path, SPEC, create=True) as gallery:
        ids = gallery.add(vectors(3))
        assert gallery.forget(np.array(ids[:2])).rows == 2
        gallery.export(tmp_path / "all.npz")
    lines = [json.loads(line) for line in (tmp_path / ".rrid-edge" / "audit.jsonl").read_text().splitlines()]
    assert [(line["command"], line["ids"]) for line in lines] == [("forget", ids[:2]), ("export", ids[2:])]


def test_index_and_match_take_the_gallery_and_leave_rows_without_files(tmp_path):
    crops = tmp_path / "crops"
    paths = save_crops(crops, 6)
    with Embedder(FakeEngine()) as embedder, open_gallery(crops, embedder.spec, create=True) as gallery:
        (memory,) = gallery.add(embedder.embed(noise(9)), camera="dock", track=4)
        assert index_folder(crops, gallery, embedder.engine).added == 6
        paths[0].unlink()
        assert index_folder(crops, gallery, embedder.engine).removed == 1
        assert len(gallery) == 6
        best = gallery.search(embedder.embed(noise(9)), top_k=1)[0][0]
        assert (best.id, best.path, best.camera, best.track) == (memory, None, "dock", "4")
        query = Query((str(paths[1]),), embedder.embed(paths[1]))
        found = match(gallery, query).matches
        assert [one.id for one in found] == [one.id for one in gallery.search(query.descriptors)[0]]
        assert found[0].path == paths[1].name


def test_retention_counts_from_the_time_of_a_row_or_else_from_its_adding(tmp_path):
    with open_gallery(tmp_path, SPEC, create=True) as gallery:
        now_us = time.time_ns() // 1000
        _, new, untold = gallery.add(vectors(3), time=[now_us - 100_000_000, now_us, None])
        set_retention(gallery.store, 50)
        assert len(forget_expired(gallery.store, gallery.info(), now_us).ids) == 1
        assert sorted(row.id for row in gallery) == [new, untold]
        assert len(forget_expired(gallery.store, gallery.info(), now_us + 60_000_000).ids) == 2
        assert len(gallery) == 0


class _Tracker:
    """Embeds, searches and adds in one thread of several; keeps the ids that it added and what went wrong."""

    def __init__(self, number: int, embedder: Embedder, gallery: Gallery, pictures: list[np.ndarray]) -> None:
        self.number, self.embedder, self.gallery, self.pictures = number, embedder, gallery, pictures
        self.descriptors = embedder.embed(pictures)
        self.expected = gallery.search(self.descriptors, top_k=5, cameras="fixed")
        self.added: dict[int, int] = {}
        self.wrong: list[object] = []

    def embed(self, picked: int) -> bool:
        return np.array_equal(self.embedder.embed(self.pictures[picked])[0], self.descriptors[picked])

    def search(self, picked: int) -> bool:
        return self.gallery.search(self.descriptors[picked], top_k=5, cameras="fixed")[0] == self.expected[picked]

    def add(self, picked: int) -> bool:
        (key,) = self.gallery.add(self.descriptors[picked], camera=self.number, track=picked)
        self.added[key] = picked
        (own,) = self.gallery.search(self.descriptors[picked], top_k=500, cameras=self.number)
        return {one.id for one in own} == set(self.added) and any(one.id == key and one.score > 0.999 for one in own)

    def run(self) -> None:
        random = np.random.default_rng(self.number)
        steps = (self.embed, self.search, self.search, self.add)
        try:
            for count in range(200):
                if not steps[count % 4](int(random.integers(len(self.pictures)))):
                    self.wrong.append(steps[count % 4].__name__)
        except BaseException as error:
            self.wrong.append(error)


@pytest.mark.slow
def test_threads_that_embed_search_and_add_get_what_serial_calls_give(tmp_path):
    pictures = [np.asarray(noise(seed, 48, 24)) for seed in range(40)]
    with Embedder(FakeEngine()) as embedder, open_gallery(tmp_path, embedder.spec, create=True) as gallery:
        known = gallery.add(embedder.embed(pictures[:20]), camera="fixed", track=list(range(20)))
        trackers = [_Tracker(number, embedder, gallery, pictures) for number in range(8)]
        threads = [threading.Thread(target=tracker.run) for tracker in trackers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [tracker.wrong for tracker in trackers] == [[]] * 8
        expected = dict(zip(known, range(20), strict=True))
        for tracker in trackers:
            expected.update(tracker.added)
        rows = list(gallery)
        assert {row.id: int(row.track or -1) for row in rows} == expected
        assert len(expected) == 20 + 8 * 50
        for row, vector in zip(rows, gallery.store.vectors(rows), strict=True):
            assert np.abs(vector - trackers[0].descriptors[expected[row.id]]).max() < 1e-3
        assert gallery.store.verify().sound


@pytest.mark.parametrize("place", ["{}/people", "milvus+file:{}/lite.db/people"])
def test_both_stores_answer_the_same(tmp_path, place):
    if place.startswith("milvus"):
        pytest.importorskip("milvus_lite")
    stored = vectors(40)
    times = [None if index % 5 == 0 else index for index in range(40)]
    with open_gallery(place.format(tmp_path), SPEC, create=True, dtype="float32") as gallery:
        ids = gallery.add(stored, camera=[index % 3 for index in range(40)], time=times, track=list(range(40)))
        gallery.label(ids[7], "Ann")
        assert gallery.remove(ids[:2]) == 2
        assert gallery.forget(ids[2]).rows == 1
    with open_gallery(place.format(tmp_path)) as gallery:
        assert len(gallery) == 37
        kept = [index for index in range(3, 40) if index % 3 == 1 and index % 5 and index >= 10]
        scores = stored[kept].astype(np.float64) @ stored[7].astype(np.float64)
        expected = [kept[position] for position in np.argsort(-scores)][:6]
        (found,) = gallery.search(stored[7], top_k=6, cameras=1, since=10)
        assert [(one.id, one.track, one.camera) for one in found] == [(ids[i], str(i), "1") for i in expected]
        assert [one.score for one in found] == pytest.approx(sorted(scores, reverse=True)[:6], abs=1e-5)
        assert gallery.search(stored[7], top_k=1)[0][0].label == "Ann"
        with pytest.raises(UsageError, match="open for reading"):
            gallery.remove(ids[5])
