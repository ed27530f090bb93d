"""Gallery: what trackers, services and notebooks call."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from rrid_edge.embedding.queries import Query
from rrid_edge.errors import ClosedError, GalleryChangedError, UsageError
from rrid_edge.gallery.base import GalleryRow, NewRow
from rrid_edge.gallery.contract import store_of
from rrid_edge.gallery.exporting import UNKNOWN
from rrid_edge.gallery.library import Gallery
from rrid_edge.matching import match
from rrid_edge.ranking.thresholds import Threshold
from support.memory_store import SPEC, MemoryStore, vectors
from support.pictures import noise
from support.thresholds import keep, open_set, record

NOON = datetime(2026, 11, 25, 12, 0, 0, 250_000, tzinfo=timezone.utc)
NOON_US = 1_795_608_000_250_000


@pytest.fixture
def gallery() -> Gallery:
    return Gallery(MemoryStore(SPEC), writable=True)


def _rows(gallery: Gallery) -> dict[int, GalleryRow]:
    return {row.id: row for row in gallery}


# --- adding


def test_one_value_serves_all_rows_and_a_list_has_one_per_row(gallery):
    ids = gallery.add(
        vectors(3), camera="dock", time=NOON, person=["a", None, "c"], track=np.array([4, 5, 6]), frame=(7, 8, None)
    )
    rows = _rows(gallery)
    assert [rows[key].camera for key in ids] == ["dock"] * 3
    assert [rows[key].time for key in ids] == [NOON_US] * 3
    assert [rows[key].person for key in ids] == ["a", None, "c"]
    assert [rows[key].track for key in ids] == ["4", "5", "6"]
    assert [rows[key].frame for key in ids] == [7, 8, None]
    assert {(row.path, row.origin, row.source) for row in rows.values()} == {(None, "memory", "local")}
    assert len(gallery) == 3


@pytest.mark.parametrize("camera", [3, np.int64(3), np.uint8(3), "3", np.str_("3")])
def test_a_camera_is_a_name_or_a_whole_number(gallery, camera):
    gallery.add(vectors(1), camera=camera)
    (row,) = gallery
    assert row.camera == "3"
    assert type(row.camera) is str
    assert len(gallery.search(vectors(1), cameras=camera)[0]) == 1


def test_descriptors_of_other_types_and_one_alone(gallery):
    torch = pytest.importorskip("torch")
    one = vectors(1)
    ids = [gallery.add(given) for given in (one, one[0], one.astype(np.float64), one.astype(np.float16), one.tolist())]
    ids += [gallery.add(torch.from_numpy(one))]
    assert [len(given) for given in ids] == [1] * 6
    assert gallery.add([]) == []
    assert gallery.add(np.empty((0, SPEC.dimension), np.float32), camera="x", person=[]) == []
    assert len(gallery) == 6


def test_rows_remember_when_they_were_added(gallery):
    before = time.time_ns()
    gallery.add(vectors(2), time=[NOON, None])
    assert all(before <= row.mtime_ns <= time.time_ns() for row in gallery)


def test_times_are_aware_datetimes_or_microseconds(gallery):
    tokyo = timezone(timedelta(hours=9))
    before_1970 = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc)
    given = [NOON, NOON.astimezone(tokyo), NOON_US, np.int64(NOON_US), before_1970, None]
    ids = gallery.add(vectors(6), time=given)
    assert [_rows(gallery)[key].time for key in ids] == [NOON_US] * 4 + [-1, None]


class _NoTime(datetime):
    """What pandas' NaT does."""

    def utcoffset(self):
        raise ValueError("NaTType does not support utcoffset")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"time": 1.5e9}, "time 1500000000.0 of type float: expected a datetime with a time zone, or whole UTC"),
        ({"time": [NOON, datetime(2026, 1, 1, 8)]}, "time 2026-01-01 08:00:00 has no time zone"),
        ({"time": np.datetime64("2026-01-01")}, r"time of type datetime64\[D\]"),
        ({"time": np.array(["2026-01-01", "2026-01-02"], "datetime64[ns]")}, r"time of type datetime64\[ns\]"),
        ({"time": [np.datetime64("2026-01-01"), None]}, "time .* of type datetime64"),
        ({"time": [np.timedelta64(5), None]}, "time .* of type timedelta64"),
        ({"time": True}, "time True of type bool"),
        ({"time": _NoTime(2026, 1, 1)}, "time .* is no time"),
        ({"time": "2026-01-01"}, "time '2026-01-01' of type str"),
        ({"time": 2**62}, "time 4611686018427387904: expected"),
        ({"frame": 1.0}, "frame 1.0"),
        ({"frame": "7"}, "frame '7'"),
        ({"camera": 1.0}, "camera 1.0 of type float"),
        ({"camera": float("nan")}, "camera nan of type float"),
        ({"camera": b"dock"}, "camera b'dock' of type bytes"),
        ({"camera": True}, "camera True of type bool"),
        ({"camera": "x" * 2000}, "camera of 2000 characters"),
        ({"person": [["a"], "b"]}, r"person \['a'\] of type list"),
        ({"person": ["a"]}, "person: 1 values for 2 rows"),
        ({"person": ["a", "b", "c"]}, "person: 3 values for 2 rows"),
        ({"person": {"a", "b"}}, "person: a set for 2 rows"),
        ({"person": {"a": 1, "b": 2}}, "person: a dict for 2 rows"),
        ({"track": np.array([1.0, np.nan])}, "track 1.0 of type float"),
        ({"label": object()}, "label <object"),
        ({"source": ""}, "source ''"),
        ({"source": None}, "source None"),
        ({"source": 4}, "source 4"),
        ({"thumbnails": [noise(0)]}, "thumbnails: 1 pictures for 2 rows"),
        ({"thumbnails": [noise(0), 5]}, "thumbnail 1 of type int"),
        ({"thumbnails": 5}, "images of type int"),
        ({"color": "gbr"}, "color 'gbr' is unknown"),
    ],
)
def test_a_field_that_is_refused_stores_nothing(gallery, fields, message):
    with pytest.raises(UsageError, match=message) as caught:
        gallery.add(vectors(2), **fields)
    assert "\n" not in str(caught.value)
    assert len(gallery) == 0


@pytest.mark.parametrize(
    ("descriptors", "message"),
    [
        (vectors(2)[:, :2], r"shape \(2, 2\)"),
        (vectors(2) * 2, "has length 2: expected unit length"),
        (vectors(2).astype(float) * 1e300, "has length inf: expected unit length"),
        (vectors(2) * np.float32(1e30), "has length inf: expected unit length"),
        (np.full((1, SPEC.dimension), np.nan, np.float32), "has length nan"),
        (np.zeros((1, SPEC.dimension), np.float32), "has length 0"),
        (np.ones((1, SPEC.dimension), int), "dtype int64"),
        (vectors(2)[None], "shape"),
        ([[0.1, 0.2], [0.1]], "unequal lengths"),
        ("text", "dtype"),
        (None, "dtype object"),
        (0.5, r"shape \(\)"),
    ],
)
@pytest.mark.parametrize("call", ["add", "search"])
def test_descriptors_that_are_refused(gallery, call, descriptors, message):
    with pytest.raises(UsageError, match=message) as caught:
        getattr(gallery, call)(descriptors)
    assert "\n" not in str(caught.value)
    assert len(gallery) == 0


# --- searching


def test_matches_carry_everything_of_their_rows(gallery):
    stored = vectors(4)
    ids = gallery.add(
        stored, camera=["a", "b", "a", None], time=[NOON_US + i for i in range(4)], person="7", track="t", source="box",
        frame=[0, 1, 2, 3], label="Ann",
    )  # fmt: skip
    (found,) = gallery.search(stored[2], top_k=2)
    expected = stored.astype(np.float64) @ stored[2].astype(np.float64)
    order = np.argsort(-expected)[:2]
    assert [match.id for match in found] == [ids[index] for index in order]
    best = found[0]
    assert (best.rank, best.id, best.path, best.camera, best.time, best.frame) == (1, ids[2], None, "a", NOON_US + 2, 2)
    assert (best.person, best.track, best.label, best.source) == ("7", "t", "Ann", "box")
    for one, index in zip(found, order, strict=True):
        assert one.score == pytest.approx(expected[index], abs=1e-6)
        shares = (stored[2].astype(np.float64) * stored[index]).reshape(len(SPEC.blocks), -1).sum(axis=1)
        assert one.block_scores == pytest.approx(tuple(shares), abs=1e-6)
        assert sum(one.block_scores) == pytest.approx(one.score, abs=1e-6)


def test_several_queries_and_none(gallery):
    stored = vectors(5)
    assert gallery.search(stored) == ((),) * 5
    ids = gallery.add(stored)
    assert [found[0].id for found in gallery.search(stored[::-1], top_k=1)] == ids[::-1]
    assert gallery.search([]) == ()
    assert gallery.search(np.empty((0, SPEC.dimension), np.float32)) == ()


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"cameras": "2"}, {1, 4}),
        ({"cameras": 2}, {1, 4}),
        ({"cameras": [np.int64(2), "dock"]}, {1, 2, 4}),
        ({"cameras": np.array([2])}, {1, 4}),
        ({"since": NOON}, {0, 1, 2}),
        ({"since": NOON_US, "until": NOON + timedelta(seconds=1)}, {0, 1}),
        ({"until": NOON_US - 1}, {3}),
        ({"since": "2026-11-25T21:00:00.25+09:00", "until": "2026-11-25T12:00:01.250001Z"}, {0, 1}),
        ({"until": "2026-11-24"}, set()),
        ({"until": "2026-11-25"}, {0, 1, 2, 3}),
        ({"since": "5000w"}, {0, 1, 2, 3}),
        ({"since": "2", "until": "3"}, {2, 3}),
        ({"sources": "box"}, {4}),
        ({"sources": ["local"]}, {0, 1, 2, 3}),
        ({"cameras": 2, "since": 0}, {1}),
    ],
)
def test_only_rows_that_pass_answer(gallery, conditions, expected):
    times = [NOON_US, NOON_US + 1_000_000, NOON_US + 2_000_000, NOON_US - 1, None]
    ids = gallery.add(
        vectors(5), camera=[1, 2, "dock", None, 2], time=times, source=["local"] * 4 + ["box"], frame=range(5)
    )
    found = gallery.search(vectors(1), **conditions)[0]
    assert {ids.index(match.id) for match in found} == expected
    assert [match.rank for match in found] == list(range(1, len(found) + 1))


def test_the_lowest_score_cuts_the_answer(gallery):
    stored = vectors(20)
    gallery.add(stored)
    scores = sorted((stored.astype(np.float64) @ stored[0].astype(np.float64)).tolist(), reverse=True)
    found = gallery.search(stored[0], top_k=20, min_score=(scores[4] + scores[5]) / 2)[0]
    assert [match.score for match in found] == pytest.approx(scores[:5], abs=1e-6)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"top_k": 0}, "top_k 0"),
        ({"top_k": 2.0}, "top_k 2.0"),
        ({"top_k": True}, "top_k True"),
        ({"min_score": 1.1}, "min_score 1.1 is not a cosine"),
        ({"min_score": float("nan")}, "min_score nan"),
        ({"min_score": "0.5"}, "min_score '0.5'"),
        ({"min_score": 0.5, "fpr": 1e-3}, "min_score and fpr exclude each other"),
        ({"fpr": 1e-3, "fpir": 0.1}, "fpr and fpir exclude each other"),
        ({"fpir": 0.1}, "this gallery knows no model file"),
        ({"fpr": 1e-3}, "this gallery knows no model file"),
        ({"cameras": []}, r"cameras \[\]: expected names"),
        ({"cameras": [None]}, r"cameras \[None\]"),
        ({"cameras": 1.5}, r"cameras \[1.5\]: expected names or whole numbers"),
        ({"since": 1.5e9}, "since 1500000000.0 of type float"),
        ({"until": datetime(2026, 1, 1)}, "until 2026-01-01 00:00:00 has no time zone"),
        ({"since": "soon"}, "'soon' is neither a time nor a frame"),
        ({"sources": [True]}, r"sources \[True\]: expected names or whole numbers"),
    ],
)
def test_conditions_that_are_refused(gallery, conditions, message):
    gallery.add(vectors(1))
    queries: object
    for queries in (vectors(1), []):
        with pytest.raises(UsageError, match=message):
            gallery.search(queries, **conditions)


def _save_thresholds(folder, fingerprint=SPEC.fingerprint):
    per_search = open_set({0.01: 0.3, 0.1: 0.2}, growth=0.02)
    scores = {"d": 0.25, "e": 0.1}
    records = [record(name, (Threshold(1e-3, score, 0.9),), per_search) for name, score in scores.items()]
    keep(folder / "rrid.onnx", fingerprint, *records)
    return folder / "rrid.onnx"


@pytest.mark.parametrize("remembered", [True, False])
def test_a_false_positive_rate_uses_the_thresholds_beside_the_model(tmp_path, remembered):
    model = _save_thresholds(tmp_path)
    gallery = Gallery(MemoryStore(SPEC), writable=True, model=None if remembered else model)
    if remembered:
        gallery.store.remember({"model": str(model)})
    stored = vectors(30)
    gallery.add(stored)
    found = gallery.search(stored[0], top_k=30, fpr=1e-3)[0]
    assert found == gallery.search(stored[0], top_k=30, min_score=0.25)[0]
    assert 1 <= len(found) < 30
    with pytest.raises(UsageError, match=r"rate of 0\.5 per pair was not measured: expected one of 0\.001"):
        gallery.search(stored[0], fpr=0.5)
    other = gallery.search(stored[0], top_k=30, fpr=1e-3, thresholds_of="e")
    assert other == gallery.search(stored[0], top_k=30, min_score=0.1)
    with pytest.raises(UsageError, match="no thresholds of f: expected one of d, e"):
        gallery.search(stored[0], fpr=1e-3, thresholds_of="f")


def test_a_rate_per_search_counts_the_rows_that_are_searched(tmp_path):
    gallery = Gallery(MemoryStore(SPEC), writable=True, model=_save_thresholds(tmp_path))
    stored = vectors(30)
    gallery.add(stored[:12], camera="a")
    gallery.add(stored[12:], camera="b")
    for cameras, count in ((None, 30), ("a", 12)):
        score = 0.3 + 0.02 * math.log(count / 1000)
        expected = gallery.search(stored[:2], top_k=30, cameras=cameras, min_score=score)
        assert gallery.search(stored[:2], top_k=30, cameras=cameras, fpir=0.01) == expected
        assert all(1 <= len(one) < count for one in expected)
    with pytest.raises(UsageError, match=r"0\.5 per search was not measured: expected 0\.01 to 0\.1"):
        gallery.search(stored[0], fpir=0.5)


def test_thresholds_of_another_network_do_not_count(tmp_path):
    gallery = Gallery(MemoryStore(SPEC), writable=True, model=_save_thresholds(tmp_path, "ab" * 32))
    with pytest.raises(UsageError, match="no thresholds of this network found"):
        gallery.search(vectors(1), fpr=1e-3)


def test_an_answer_reads_one_moment_and_begins_again_if_a_row_is_forgotten_meanwhile(gallery, monkeypatch):
    ids = gallery.add(vectors(3))
    store = gallery.store
    gallery.search(vectors(3))
    assert store.moments == 1
    real = type(store.moment().__enter__()).vectors
    store.moments = 0

    def forgotten_meanwhile(self, rows):
        if store.remove([ids[0]]):
            raise GalleryChangedError("a row was forgotten: read again")
        return real(self, rows)

    monkeypatch.setattr("support.memory_store.MemoryMoment.vectors", forgotten_meanwhile)
    monkeypatch.setattr("support.memory_store.MemoryMoment.search", _search_with(real))
    found = gallery.search(vectors(3))
    assert store.moments == 2
    assert {match.id for one in found for match in one} == set(ids[1:])


def _search_with(real):
    """MemoryMoment.search with the real vectors, whatever ``vectors`` was replaced by."""
    from support.memory_store import MemoryMoment

    search = MemoryMoment.search

    class Plain(MemoryMoment):
        vectors = real

    def plain_search(self, *given, **named):
        return search(Plain(self._spec, self._facts, self._stored), *given, **named)

    return plain_search


# --- changing


def test_labels_of_some_rows(gallery):
    ids = gallery.add(vectors(4), person="7")
    gallery.label(ids[0], "Ann")
    gallery.label(np.array(ids[1:3]), ["Bob", 5])
    rows = _rows(gallery)
    assert [rows[key].label for key in ids] == ["Ann", "Bob", "5", None]
    assert {row.person for row in rows.values()} == {"7"}
    gallery.label(ids[:2], None)
    assert [_rows(gallery)[key].label for key in ids] == [None, None, "5", None]


@pytest.mark.parametrize(
    ("ids", "label", "message"),
    [
        ([1, 99], "Ann", "id 99 is not in the gallery"),
        ([1], 1.5, "label 1.5 of type float"),
        ([1, 2], ["Ann"], "label: 1 values for 2 rows"),
        ("1", "Ann", "'1' of type str: expected ids"),
        ([1.0], "Ann", "1.0 of type float"),
        ([True], "Ann", "True of type bool"),
        (None, "Ann", "None of type NoneType"),
    ],
)
def test_a_label_that_is_refused_changes_nothing(gallery, ids, label, message):
    gallery.add(vectors(2))
    with pytest.raises(UsageError, match=message):
        gallery.label(ids, label)
    assert {row.label for row in gallery} == {None}


def test_removing_and_forgetting_by_id_and_path(gallery):
    ids = gallery.add(vectors(4))
    gallery.store.add([NewRow("a.jpg")], vectors(1, 9))
    assert gallery.remove(ids[0]) == 1
    assert gallery.remove([np.int64(ids[0]), ids[1]]) == 1
    assert gallery.forget([ids[2], "a.jpg"]).rows == 2
    assert [row.id for row in gallery] == [ids[3]]
    for call in (gallery.remove, gallery.forget):
        with pytest.raises(UsageError, match=r"1\.5 of type float: expected ids of rows, or paths"):
            call([ids[3], 1.5])
    assert len(gallery) == 1


# --- reading only, closing, exporting


def test_a_gallery_open_for_reading_refuses_every_change(gallery):
    ids = gallery.add(vectors(2))
    reader = Gallery(gallery.store, writable=False)
    calls = [
        lambda: reader.add(vectors(1)),
        lambda: reader.label(ids, "Ann"),
        lambda: reader.remove(ids),
        lambda: reader.forget(ids),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="memory: this gallery is open for reading; open it for writing"):
            call()
    assert len(reader) == 2
    assert len(reader.search(vectors(1))[0]) == 2


def test_a_closed_gallery_says_so(gallery, tmp_path):
    with gallery as opened:
        assert opened is gallery
        assert opened.spec == SPEC
        assert opened.info().rows == 0
    gallery.close()
    calls = [
        lambda: gallery.add(vectors(1)), lambda: gallery.search(vectors(1)), lambda: gallery.search([]),
        lambda: len(gallery), lambda: list(gallery), lambda: gallery.thumbnails([1]), gallery.info,
        lambda: gallery.label(1, "x"), lambda: gallery.remove(1), lambda: gallery.forget(1),
        lambda: gallery.export(tmp_path / "x.npz"),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ClosedError, match="the gallery memory was closed"):
            call()


def test_an_empty_gallery_is_true(gallery):
    assert gallery
    assert len(gallery) == 0


def test_the_export_holds_every_field(gallery, tmp_path):
    stored = vectors(2)
    ids = gallery.add(
        stored, camera=["dock", None], time=[NOON, None], frame=[3, None], person=["7", None], label="Ann"
    )
    gallery.store.add([NewRow("line\nbreak.jpg", camera="2", track="t", source="box")], vectors(1, 9))
    assert gallery.export(str(tmp_path / "all.npz")) == 3
    assert (tmp_path / "all.npz").stat().st_mode & 0o777 == 0o600
    with np.load(tmp_path / "all.npz") as found:
        by_id = {key: index for index, key in enumerate(found["ids"].tolist())}
        assert found["ids"].dtype == np.int64
        order = [by_id[key] for key in ids] + [by_id[max(by_id)]]
        assert np.array_equal(found["descriptors"][order], np.concatenate([stored, vectors(1, 9)]))
        assert found["paths"][order].tolist() == ["", "", "line\nbreak.jpg"]
        assert found["cameras"][order].tolist() == ["dock", "", "2"]
        assert found["times"].dtype == np.int64
        assert found["times"][order[0]].astype("datetime64[us]") == np.datetime64("2026-11-25T12:00:00.250000")
        assert (found["times"][order[1:]] == UNKNOWN).all()
        assert found["frames"][order].tolist() == [3, UNKNOWN, UNKNOWN]
        assert found["persons"][order].tolist() == ["7", "", ""]
        assert found["labels"][order].tolist() == ["Ann", "Ann", ""]
        assert found["tracks"][order].tolist() == ["", "", "t"]
        assert found["sources"][order].tolist() == ["local", "local", "box"]


def test_an_export_reads_descriptors_in_blocks(gallery, tmp_path, monkeypatch):
    monkeypatch.setattr("rrid_edge.gallery.exporting._BLOCK_ROWS", 2)
    stored = vectors(5)
    ids = gallery.add(stored)
    assert gallery.export(tmp_path / "all.npz") == 5
    with np.load(tmp_path / "all.npz") as found:
        assert found["descriptors"].dtype == np.float32
        assert np.array_equal(found["descriptors"][np.argsort(found["ids"])], stored[np.argsort(ids)])


def test_exporting_nothing_and_into_another_kind_of_file(gallery, tmp_path):
    assert gallery.export(tmp_path / "none.npz") == 0
    with np.load(tmp_path / "none.npz") as found:
        assert found["descriptors"].shape == (0, SPEC.dimension)
        assert found["times"].dtype == np.int64
    with pytest.raises(UsageError, match=r"must end in \.npz"):
        gallery.export(tmp_path / "all.txt")


def test_the_store_of_a_gallery_and_of_a_store(gallery):
    assert store_of(gallery) is gallery.store
    assert store_of(gallery.store) is gallery.store


def test_matching_takes_a_gallery_or_its_store(gallery):
    stored = vectors(3)
    ids = gallery.add(stored, camera="dock")
    query = Query(("query.jpg",), stored[:1])
    found = match(gallery, query)
    assert [found.id for found in found.matches] == [answer.id for answer in gallery.search(stored[0])[0]]
    assert found.matches[0].id == ids[0]
    assert match(gallery.store, query) == found
