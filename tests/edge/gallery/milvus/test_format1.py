"""Collections of format 1: read and copied, never written."""

from __future__ import annotations

import hashlib
import itertools
import json
import zlib

import numpy as np
import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import FingerprintMismatchError, GalleryError, UsageError
from rrid_edge.gallery import NewRow, SearchFilter
from rrid_edge.gallery.milvus.address import MilvusAddress
from rrid_edge.gallery.milvus.store import MilvusGallery
from support.galleries import SPEC, answered, path_bytes, plain, rows, slow_search, vectors

UNKNOWN = -(2**62)
_numbers = itertools.count()


def old_rows(count: int) -> list[NewRow]:
    """Rows as format 2 reads them: numbers as cameras, the time as frame, the source ``local``."""
    return [
        NewRow(row.path, row.sha256, row.size, row.mtime_ns, row.camera, row.person, frame=row.time)
        for row in [*rows(count - 1), NewRow("\udcff ~/it's.jpg", "a" * 64, 3, -4, "-7", None, 2**60)]
    ]


def old_entity(row: NewRow, vector: np.ndarray) -> dict[str, object]:
    """An entity as version 0.1 wrote it."""
    path = path_bytes(row)
    camera = None if row.camera is None else int(row.camera)
    crc = zlib.crc32(vector.astype("<f4").tobytes())
    values = (-1, row.sha256, row.size, row.mtime_ns, camera, row.person, row.frame, crc)
    safe = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-/"
    return {
        "key": hashlib.sha256(path).hexdigest(),
        "path": "".join(chr(byte) if byte in safe else f"%{byte:02X}" for byte in path),
        "sha256": row.sha256,
        "size": row.size,
        "mtime_ns": row.mtime_ns,
        "camera": UNKNOWN if camera is None else camera,
        "person": "~" if row.person is None else row.person or "%",
        "time": UNKNOWN if row.frame is None else row.frame,
        "crc32": crc,
        "check32": zlib.crc32(path + repr(values).encode()),
        "vector": vector,
    }


def make_format_1(address: MilvusAddress, entities: list[dict[str, object]]) -> None:
    from pymilvus import DataType, MilvusClient

    client = MilvusClient(address.uri)
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=64)
    for name, length in (("path", 16_384), ("sha256", 64), ("person", 16_384)):
        schema.add_field(name, DataType.VARCHAR, max_length=length)
    for name in ("size", "mtime_ns", "camera", "time", "crc32", "check32"):
        schema.add_field(name, DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=SPEC.dimension)
    facts = {
        "format": "1", "fingerprint": SPEC.fingerprint, "blocks": json.dumps(SPEC.blocks),
        "spec": json.dumps(SPEC.to_metadata()), "dtype": "float16", "index": "flat", "replicas": "1",
        "model": "old.onnx", "damaged": "[]", "rows": str(len(entities)),
    }  # fmt: skip
    properties = {f"rrid.gallery.{name}": value for name, value in facts.items()}
    client.create_collection(address.collection, schema=schema, properties=properties, consistency_level="Strong")
    client.upsert(address.collection, entities)
    client.close()


@pytest.fixture
def values():
    return vectors(60).astype(np.float16).astype(np.float32)


@pytest.fixture
def address(lite_file, values):
    address = MilvusAddress.parse(f"milvus+file:{lite_file}/old_{next(_numbers)}")
    make_format_1(address, [old_entity(row, vector) for row, vector in zip(old_rows(60), values, strict=True)])
    return address


def test_it_opens_for_reading(address, values):
    expected = sorted(old_rows(60), key=path_bytes)
    with MilvusGallery(address, spec=SPEC) as gallery:
        found = gallery.rows()
        assert plain(found) == expected
        info = gallery.info()
        assert (info.format, info.rows, info.model, info.pattern) == (1, 60, "old.onnx", "")
        order = [old_rows(60).index(row) for row in expected]
        np.testing.assert_array_equal(gallery.vectors(found), values[order])
        assert gallery.sources() == {"local": 60}
        assert gallery.rows(["other"]) == gallery.rows_of(["b/00001.jpg"], "other") == []
        assert len(gallery.file_stats("local")) == 60
        assert gallery.rows_of(["b/00001.jpg", "\ud800"], "local") == gallery.rows_by_id([found[30].id])
        assert gallery.rows_by_id([found[3].id, 5]) == [found[3]]
        assert gallery.thumbnails([found[3].id]) == {}
        assert gallery.kept_out(["0" * 64]) == set()
        assert gallery.unreadable("local") == {}
        assert gallery.verify().sound
        assert gallery.damaged() == []


FILTERS = [
    SearchFilter(cameras=frozenset({"1", "-7", "lobby", str(2**70)})),
    SearchFilter(cameras=frozenset({"01", "lobby"})),
    SearchFilter(not_cameras=frozenset({"1", "lobby"})),
    SearchFilter(since_frame=3, until_frame=20),
    SearchFilter(since=0),
    SearchFilter(sources=frozenset({"local", "x"})),
    SearchFilter(sources=frozenset({"x"})),
    SearchFilter(not_files=frozenset({("local", "b/00001.jpg"), ("x", "b/00003.jpg"), ("local", "\ud800")})),
]


def test_rows_cannot_be_left_out_by_id(address):
    with MilvusGallery(address) as gallery, pytest.raises(UsageError, match="by their paths"):
        gallery.search(vectors(1), 3, SearchFilter(not_ids=frozenset({3})))


def test_it_answers_like_a_slow_search(address, values):
    query = vectors(1, seed=5)
    with MilvusGallery(address) as gallery:
        for search_filter in (SearchFilter(), *FILTERS):
            passing = [index for index, row in enumerate(old_rows(60)) if search_filter.passes(row)]
            expected = slow_search(values[passing], [old_rows(60)[index] for index in passing], query[0], 7)
            found = gallery.search(query, 7, search_filter)
            assert answered(found.hits[0]) == expected, search_filter
            assert found.rows == len(passing), search_filter


def test_a_write_is_refused_with_the_way_on(address):
    with MilvusGallery(address) as gallery:
        before = gallery.rows()
        uses = [
            lambda: gallery.add(rows(1), vectors(1)), lambda: gallery.update(before[:1]),
            lambda: gallery.remove(["b/00001.jpg"]), lambda: gallery.forget([before[0].id]),
            lambda: gallery.remember({"model": "x"}), lambda: gallery.set_unreadable("local", {}), gallery.unforget,
            lambda: gallery.restore_kept_out(""), gallery.finish, gallery.compact,
            lambda: MilvusGallery.create(address, SPEC),
        ]  # fmt: skip
        for use in uses:
            with pytest.raises(GalleryError, match=r"format 1, which is read-only.*rrid-edge gallery copy") as refusal:
                use()
            assert "\n" not in refusal.value.message
        assert gallery.rows() == before
    with pytest.raises(FingerprintMismatchError):
        MilvusGallery(address, spec=fake_spec("other", block_width=4))


def test_a_copy_answers_the_same(address, lite_file):
    new_address = MilvusAddress.parse(f"milvus+file:{lite_file}/new_{next(_numbers)}")
    queries = vectors(4, seed=6)
    with MilvusGallery(address) as old, MilvusGallery.create(new_address, SPEC) as new:
        found = old.rows()
        new.add(plain(found), old.vectors(found))
        new.finish()
        assert plain(new.rows()) == plain(found)
        np.testing.assert_array_equal(new.vectors(new.rows()), old.vectors(found))
        for search_filter in (SearchFilter(), *FILTERS):
            one, other = old.search(queries, 9, search_filter), new.search(queries, 9, search_filter)
            assert list(map(answered, one.hits)) == list(map(answered, other.hits)), search_filter


@pytest.mark.parametrize(
    "change", [{"camera": 3}, {"time": 1}, {"path": "x"}, {"person": "0009"}, {"size": 9}, {"key": "f" * 64}]
)
def test_a_damaged_entry_is_not_served(lite_file, values, change):
    address = MilvusAddress.parse(f"milvus+file:{lite_file}/old_{next(_numbers)}")
    entities = [old_entity(row, vector) for row, vector in zip(old_rows(9), values[:9], strict=True)]
    make_format_1(address, [entities[0] | change, *entities[1:]])
    with MilvusGallery(address) as gallery:
        assert len(gallery.rows()) == 8
        assert len(gallery.search(values[:1], 9).hits[0]) == 8
        found = gallery.verify()
        assert (found.rows, found.entries, found.sound) == (8, 1, False)
