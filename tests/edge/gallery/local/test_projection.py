"""The two-pass search: valid bounds, answers equal to a slow obvious search, missing or damaged caches."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.gallery import NewRow, SearchFilter
from rrid_edge.gallery.indexing.recall import measure_recall
from rrid_edge.gallery.local.nested import (
    BLOCK,
    NestedBounds,
    first_slack,
    fit_basis,
    levels_for,
    project_rows,
    second_slack,
)
from rrid_edge.gallery.local.projection import ProjectionFacts
from rrid_edge.gallery.local.store import LocalGallery
from support.commands import refused, rrid_edge
from support.pictures import save_crops

SPEC = fake_spec(block_width=32)  # 480 values per descriptor, bounded in 30 and in 60
COUNT = 3000
OWN = frozenset({"0/00000.jpg", "1/00301.jpg"})


def _unit(values) -> np.ndarray:
    values = np.asarray(values, np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def clustered(count: int, seed: int = 0, *, people: int = 300, dimension: int = SPEC.dimension) -> np.ndarray:
    """Persons near a low-dimensional plane, crops near persons: roughly the distribution of trained descriptors."""
    generator = np.random.default_rng(seed)
    plane = np.linalg.qr(generator.standard_normal((dimension, 20)))[0]
    centres = generator.standard_normal((people, 20)) @ plane.T
    noise = 0.25 * generator.standard_normal((count, 20)) @ plane.T + 0.01 * generator.standard_normal(
        (count, dimension)
    )
    return _unit(centres[np.arange(count) % people] + noise)


def rows(count: int, start: int = 0) -> list[NewRow]:
    return [
        NewRow(
            f"{index % 2}/{index:05d}.jpg",
            f"{index:064x}",
            9,
            index,
            str(index % 4) if index % 4 else None,
            f"{index % 300}",
            index,
        )
        for index in range(start, start + count)
    ]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("rrid_edge.gallery.local.bounds.TWO_PASS_ROWS", 1000)
    monkeypatch.setattr("rrid_edge.gallery.local.bounded.QUERY_BYTES", 0)


@pytest.fixture
def store(tmp_path):
    with LocalGallery.create(tmp_path / "g", SPEC) as gallery:
        gallery.add(rows(COUNT), clustered(COUNT))
        gallery.finish()
        yield gallery


def slow(gallery, query, top_k, keep=lambda _row: True):
    """Scores of all rows in float64, rounded once, best first, ties by path."""
    kept = [row for row in gallery.rows() if keep(row)]
    scored = [
        (-float(np.float32(np.dot(vector.astype(np.float64), query.astype(np.float64)))), row.path)
        for row, vector in zip(kept, gallery.vectors(kept), strict=True)
    ]
    return [path for _, path in sorted(scored)[:top_k]]


def paths(result, index=0):
    return [hit.row.path for hit in result.hits[index]]


def bounds_of(stored, basis):
    """Bounds of rows (N, D), as the files hold them."""
    levels = levels_for(stored.shape[1])
    rows = project_rows(stored, basis, levels.first)
    first = np.zeros((-(-len(stored) // BLOCK), levels.first + 1, BLOCK), np.float32)
    for slot, row in enumerate(rows.first):
        first[slot // BLOCK, :, slot % BLOCK] = row
    return NestedBounds(basis, first, rows.second)


@pytest.mark.parametrize("kind", ["clustered", "random", "flat", "repeated"])
def test_no_cosine_is_above_its_bound(kind):
    generator = np.random.default_rng(3)
    vectors = {
        "clustered": lambda: clustered(800),
        "random": lambda: _unit(generator.standard_normal((800, 480))),
        "flat": lambda: _unit(np.pad(generator.standard_normal((800, 50)), ((0, 0), (0, 430)))),  # no residual at all
        "repeated": lambda: np.repeat(_unit(generator.standard_normal((4, 480))), 200, axis=0),
    }[kind]()
    stored = vectors.astype(np.float16).astype(np.float32)
    levels = levels_for(480)
    assert (levels.first, levels.second) == (30, 60)
    basis = fit_basis(stored, levels.second)
    np.testing.assert_allclose(basis.T @ basis, np.eye(60), atol=1e-6)
    queries = np.concatenate([vectors[:40], _unit(generator.standard_normal((40, 480)))])
    bounds = bounds_of(stored, basis)
    projected = bounds.project(queries)
    first = bounds.first_bounds(projected.first)
    second = np.stack([bounds.second_bounds(query, np.arange(len(stored))) for query in projected.second])
    exact = queries.astype(np.float64) @ stored.T.astype(np.float64)
    assert (first >= exact - first_slack(levels)).all()
    assert (second >= exact - second_slack(levels)).all()
    if kind == "clustered":  # and the bounds are tight
        assert np.median(first[:40] - exact[:40]) < 0.2
        assert np.median(second[:40] - exact[:40]) < 0.1


def test_the_basis_holds_the_principal_components():
    """The basis captures as much length as that of NumPy's singular value decomposition."""
    sample = clustered(500)
    basis = fit_basis(sample, 20)
    best = np.linalg.svd(sample, full_matrices=False)[2][:20]
    assert np.square(sample @ basis).sum() == pytest.approx(np.square(sample @ best.T).sum(), rel=1e-4)


def test_two_passes_equal_the_slow_search(store):
    queries = np.concatenate([clustered(COUNT)[:10], clustered(15, seed=8)])
    for top_k in (1, 10, 25):
        result = store.search(queries, top_k)
        assert set(result.modes[:10]) == {"two-pass"}  # the others show nobody of the gallery: some are scanned
        assert max(result.scored[:10]) < 0.2 * COUNT
        for index, query in enumerate(queries):
            assert paths(result, index) == slow(store, query, top_k)


def test_one_query_and_many_give_the_same(store):
    queries = clustered(30, seed=4)
    together = store.search(queries, 10)
    for index, query in enumerate(queries):
        assert store.search(query[None], 10).hits[0] == together.hits[index]


@pytest.mark.parametrize(
    ("search_filter", "keep"),
    [
        (SearchFilter(cameras=frozenset({"2"})), lambda row: row.camera == "2"),
        (SearchFilter(not_cameras=frozenset({"1", "2"})), lambda row: row.camera not in {"1", "2"}),
        (SearchFilter(since=700, until=2400), lambda row: 700 <= row.time <= 2400),
        (SearchFilter(not_files=frozenset(("local", path) for path in OWN)), lambda row: row.path not in OWN),
        (SearchFilter(since=40, until=60), lambda row: 40 <= row.time <= 60),
        (SearchFilter(cameras=frozenset({"9"})), lambda _row: False),
    ],
)  # fmt: skip
def test_filters(store, search_filter, keep):
    query = clustered(COUNT)[0]
    result = store.search(query[None], 10, search_filter)
    assert result.rows == sum(map(keep, store.rows()))
    assert paths(result) == slow(store, query, 10, keep)


def test_rows_without_a_bound_yet_are_not_missed(store):
    late = clustered(500, seed=9)
    store.add(rows(500, start=COUNT), late)
    result = store.search(late[:5], 10)
    for index in range(5):
        assert paths(result, index) == slow(store, late[index], 10)
    store.finish()
    assert store.search(late[:5], 10).hits == result.hits


def test_as_many_live_rows_as_bounds_but_other_rows(store):
    """Since the bounds were made, 500 rows were removed and 500 added."""
    store.remove([row.path for row in store.rows()[:500]])
    late = clustered(500, seed=9)
    store.add(rows(500, start=COUNT), late)
    queries = np.concatenate([late[:5], clustered(COUNT)[600:605]])
    result = store.search(queries, 10)
    for index, query in enumerate(queries):
        assert paths(result, index) == slow(store, query, 10)


def test_random_rows_are_scanned(tmp_path):
    vectors = _unit(np.random.default_rng(5).standard_normal((COUNT, SPEC.dimension)))
    with LocalGallery.create(tmp_path / "g", SPEC) as gallery:
        gallery.add(rows(COUNT), vectors)
        gallery.finish()
        result = gallery.search(_unit(np.random.default_rng(6).standard_normal((1, SPEC.dimension))), 10)
        assert result.mode == "scan"
        query = _unit(np.random.default_rng(6).standard_normal((1, SPEC.dimension)))[0]
        assert paths(result) == slow(gallery, query, 10)


def test_ties_are_ordered_by_path(tmp_path):
    with LocalGallery.create(tmp_path / "g", SPEC) as gallery:
        vectors = clustered(COUNT)
        vectors[100:160] = vectors[100]
        gallery.add(list(reversed(rows(COUNT))), vectors)
        gallery.finish()
        assert paths(gallery.search(vectors[100][None], 10)) == slow(gallery, vectors[100], 10)


def test_the_best_row_is_damaged(store, tmp_path):
    query = clustered(COUNT)[7]
    best = store.search(query[None], 1).hits[0][0].row
    store.close()
    file = tmp_path / "g" / "vec.0.f16"
    data = bytearray(file.read_bytes())
    data[64 + best.slot * 960 + 1] ^= 0x40  # the value becomes huge
    file.write_bytes(data)
    with LocalGallery(tmp_path / "g") as gallery:
        found = paths(gallery.search(query[None], 10))
        assert best.path not in found
        assert found == slow(gallery, query, 10, lambda row: row.path != best.path)


@pytest.mark.parametrize("damage", ["gone", "first", "second", "basis"])
def test_a_missing_or_damaged_cache_is_made_again(store, tmp_path, damage):
    query = clustered(COUNT)[7]
    right = slow(store, query, 10)
    store.close()
    basis, first, second = bounds_files(tmp_path / "g")
    if damage == "gone":
        for path in (basis, first, second):
            path.unlink()
    elif damage == "first":
        first.write_bytes(first.read_bytes()[:1000])
    elif damage == "second":
        second.write_bytes(second.read_bytes()[:1000])
    else:
        basis.write_bytes(basis.read_bytes()[:-1] + b"\x7f")
    with LocalGallery(tmp_path / "g", write=True) as gallery:
        result = gallery.search(query[None], 10)
        assert (paths(result), result.mode) == (right, "scan")
        gallery.finish()
        assert gallery.search(query[None], 10).mode == "two-pass"


def bounds_files(folder):
    return [folder / f"cache.0.{kind}" for kind in ("basis", "first", "second")]


@pytest.mark.parametrize("level", [1, 2])
def test_a_flipped_bit_in_the_bounds_is_found_and_repaired(store, tmp_path, level):
    store.close()
    file = bounds_files(tmp_path / "g")[level]
    data = bytearray(file.read_bytes())
    data[5000] ^= 4
    file.write_bytes(data)
    outcome = rrid_edge("gallery", "verify", tmp_path, "--gallery", tmp_path / "g")
    refused(outcome, 1, "bounds of the two-pass search are damaged", "rrid-edge index FOLDER")
    with LocalGallery(tmp_path / "g", write=True) as gallery:
        assert not gallery.verify().bounds_sound
        gallery.finish()
        assert gallery.verify().bounds_sound


def test_forgetting_overwrites_the_projected_rows_too(store, tmp_path):
    gone = [row for row in store.rows() if row.person == "17"]
    store.forget([row.path for row in gone])
    with store._reader.held() as snapshot:
        facts = ProjectionFacts.from_json(snapshot.state.facts["projection"])
    assert facts is not None
    _, first, second = bounds_files(tmp_path / "g")
    columns = np.fromfile(first, "<f4").reshape(-1, facts.first + 1, BLOCK)
    slots, kept = np.array([row.slot for row in gone]), np.array([row.slot for row in store.rows()])
    of_rows = [
        np.stack([columns[slot // BLOCK, :, slot % BLOCK] for slot in range(facts.rows)]),
        np.fromfile(second, "<i2").reshape(facts.rows, facts.second + 1),
    ]
    for rows in of_rows:
        assert not rows[slots].any()
        assert rows[kept].any(axis=1).all()
    assert store.verify().bounds_sound


def test_bounds_of_an_earlier_version_are_made_again_and_erased(store, tmp_path):
    """A reader scans meanwhile. Forgetting says where an older file still lies while a reader uses it."""
    query, folder = clustered(COUNT)[7], tmp_path / "g"
    old = {"dimensions": 32, "rows": COUNT, "fitted_on": COUNT, "crc32": 0, "basis_crc32": 0, "fit": 0}
    with store._open_writer().commit() as (_, facts):
        facts["projection"] = json.dumps(old)
    for file in bounds_files(folder):
        file.unlink()
    older = [folder / "cache.0.basis", folder / "cache.0.projected"]
    for file in older:
        file.write_bytes(b"old")
    right = slow(store, query, 10)
    with LocalGallery(folder) as reader:
        result = reader.search(query[None], 10)
        assert (paths(result), result.mode) == (right, "scan")
        with reader.moment():
            report = store.forget([right[0]])
            assert [line.split(": a reader")[0] for line in report.left[1:]] == [str(file) for file in older]
        store.finish()
        assert reader.search(query[None], 10).mode == "two-pass"
    assert not any(file.exists() for file in older)
    assert all((folder / f"cache.0.1.{kind}").exists() for kind in ("basis", "first", "second"))


def test_compaction_makes_the_bounds_again(store, tmp_path):
    query = clustered(COUNT)[7]
    store.remove([row.path for row in store.rows() if row.person in {"7", "8"}])
    right = slow(store, query, 10)
    store.compact()
    result = store.search(query[None], 10)
    assert (paths(result), result.mode) == (right, "two-pass")
    found = {path.name for path in (tmp_path / "g").glob("cache.*")}
    bounds = {"cache.1.basis", "cache.1.first", "cache.1.second"}
    assert found == bounds | {"cache.1.0.columns", "cache.1.0.names"}


def test_the_basis_is_fitted_again_when_the_gallery_doubled(store, tmp_path):
    before = _basis(tmp_path / "g")
    store.add(rows(COUNT // 2, start=COUNT), clustered(COUNT // 2, seed=12))
    store.finish()
    assert _basis(tmp_path / "g") == before
    store.add(rows(COUNT, start=2 * COUNT), clustered(COUNT, seed=13))
    store.finish()
    assert _basis(tmp_path / "g") != before


def _basis(folder):
    """Return the content of the only basis: each basis has a file name of its own."""
    (file,) = folder.glob("cache.0*.basis")
    return file.read_bytes()


def test_another_process_sees_new_bounds(store, tmp_path):
    with LocalGallery(tmp_path / "g") as reader:
        query = clustered(COUNT)[7]
        assert reader.search(query[None], 10).mode == "two-pass"
        store.add(rows(COUNT * 2, start=COUNT), clustered(COUNT * 2, seed=12))
        store.finish()
        result = reader.search(query[None], 10)
        assert (paths(result), result.mode) == (slow(reader, query, 10), "two-pass")


def test_the_recall_of_an_exact_store_is_one(store):
    assert measure_recall(store) == 1


def test_commands_report_the_search_mode(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from support.onnx_models import save_tiny_model

    save_tiny_model(tmp_path / "models" / "rrid.onnx")
    save_crops(tmp_path / "crops", 12)
    save_crops(tmp_path / "q", 1)
    outcome = rrid_edge("match", "q", "crops", "--json", "--fast", "--runtime", "onnxruntime")
    assert outcome.code == 0, outcome
    assert "--fast changes nothing: this gallery is in a folder, which is searched exactly anyway" in outcome.err
    found = json.loads(outcome.out)["results"][0]
    assert (found["search"], found["searched"], found["rescored"]) == ("scan", 12, 12)
    outcome = rrid_edge("gallery", "verify", "crops", "--recall", "--json")
    assert "match --fast changes nothing" in outcome.err
    assert json.loads(outcome.out)["recall"] == {"value": 1.0, "at": 10, "queries": 12}
