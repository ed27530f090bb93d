"""Damage in a collection of Milvus: found by `verify`, served by no read, repaired by the next index."""

from __future__ import annotations

import pytest

from rrid_edge.errors import GalleryError
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.milvus.schema import file_key
from rrid_edge.gallery.milvus.store import MilvusGallery
from support.galleries import rows, vectors


def test_a_damaged_vector_is_found_never_served_and_repaired(raw, address):
    with MilvusGallery(address) as gallery:
        gallery.add(rows(30), vectors(30))
        key = file_key("local", "b/00003.jpg")
        stored = dict(raw.get(address.collection, ids=[key])[0])
        raw.upsert(address.collection, [stored | {"vector": vectors(1, seed=8)[0]}])
        for search in (gallery.search, gallery.search_approximately):
            for query in (vectors(4)[3:], vectors(1, seed=8)):
                found = search(query, 30).hits[0]
                assert {hit.row.path for hit in found} == {row.path for row in rows(30)} - {"b/00003.jpg"}
                assert "b/00003.jpg" not in [hit.row.path for hit in search(query, 3).hits[0]]
        row = next(row for row in gallery.rows() if row.path == "b/00003.jpg")
        with pytest.raises(GalleryError, match=r"descriptor of b/00003\.jpg is damaged"):
            gallery.vectors([row])
        assert gallery.damaged() == []  # not verified yet
        assert [found.path for found in gallery.verify().damaged] == ["b/00003.jpg"]
    with MilvusGallery(address) as gallery:
        assert [found.path for found in gallery.damaged()] == ["b/00003.jpg"]
        gallery.add(rows(4)[3:], vectors(4)[3:])
        gallery.finish()
        assert gallery.damaged() == []
        assert not gallery.verify().damaged


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("camera", "2"), ("person", "%FF"), ("label", "Ann"), ("track", "t"), ("source", "other"), ("path", "c.jpg"),
        ("path", "~"), ("sha256", "f" * 64), ("size", 1), ("mtime_ns", 1), ("time", 1), ("frame", 1), ("row_id", 1),
        ("path_id", 1), ("crc32", 1), ("check32", 1),
    ],
)  # fmt: skip
def test_a_damaged_entry_is_found_never_served_and_repaired(raw, address, field, value):
    """Whatever field of an entry changes: no read returns it, `verify` counts it, and indexing repairs it."""
    with MilvusGallery(address) as gallery:
        gallery.add([*rows(3), NewRow(None)], vectors(4))
        key = file_key("local", "b/00001.jpg")
        stored = dict(raw.query(address.collection, filter=f'key == "{key}"', output_fields=["*"])[0])
        raw.upsert(address.collection, [stored | {field: value}])
        left = {None, "a/00000.jpg", "a/00002.jpg"}
        assert {row.path for row in gallery.rows()} == left
        for query in vectors(4):
            assert {hit.row.path for hit in gallery.search(query[None], 4).hits[0]} == left
        assert gallery.rows_of(["b/00001.jpg"], "local") == []
        found = gallery.verify()
        assert not found.sound
        assert (found.rows, found.entries, found.damaged) == (3, 1, ())
        gallery.add(rows(2)[1:], vectors(2)[1:])
        gallery.finish()
        assert gallery.verify().sound
        assert {row.path for row in gallery.rows()} == left | {"b/00001.jpg"}


def test_a_damaged_entry_of_a_deleted_file_goes_with_the_next_index(raw, address):
    with MilvusGallery(address) as gallery:
        gallery.add(rows(3), vectors(3))
        stored = dict(raw.query(address.collection, filter='path == "b/00001.jpg"', output_fields=["*"])[0])
        raw.upsert(address.collection, [stored | {"label": "Ann"}])
        assert gallery.verify().entries == 1
        gallery.finish()
        assert gallery.verify().sound
        assert gallery.info().rows == 2


def test_more_damage_than_one_record_names(raw, address, monkeypatch):
    monkeypatch.setattr("rrid_edge.gallery.milvus.facts._MOST_DAMAGED_KEYS", 2)
    with MilvusGallery(address) as gallery:
        gallery.add(rows(9), vectors(9))
        stored = raw.query(address.collection, filter='key != ""', output_fields=["*"])
        raw.upsert(address.collection, [dict(entity) | {"vector": vectors(1, seed=8)[0]} for entity in stored[:6]])
        assert len(gallery.verify().damaged) == 6
        damaged = gallery.damaged()
        assert len(damaged) == 6
        for start in (0, 3):
            paths = {row.path for row in damaged[start : start + 3]}
            chosen = [index for index, row in enumerate(rows(9)) if row.path in paths]
            gallery.add([rows(9)[index] for index in chosen], vectors(9)[chosen])
            gallery.finish()
            assert len(gallery.damaged()) == 3 - start
        assert gallery.verify().sound
        assert gallery._refreshed_facts().damage.is_open is False


def test_a_slow_indexer_does_not_clear_what_a_later_verification_found(raw, address):
    """It read the record of an earlier verification, and marks only that one as mended."""
    with MilvusGallery(address) as slow, MilvusGallery(address) as other:
        slow.add(rows(4), vectors(4))

        def damage(path: str) -> None:
            stored = dict(raw.query(address.collection, filter=f'path == "{path}"', output_fields=["*"])[0])
            raw.upsert(address.collection, [stored | {"vector": vectors(1, seed=8)[0]}])

        damage("b/00001.jpg")
        slow.verify()
        slow.add(rows(4)[1:2], vectors(4)[1:2])
        broken = slow._broken

        def verified_meanwhile(known):
            found = broken(known)
            damage("b/00003.jpg")
            other.verify()
            return found

        slow._broken = verified_meanwhile  # type: ignore[method-assign]
        slow.finish()
        assert [row.path for row in other.damaged()] == ["b/00003.jpg"]
