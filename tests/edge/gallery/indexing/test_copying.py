"""Copying galleries between stores: equal bits, repeated after an interruption, refused if values would be lost."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.errors import FingerprintMismatchError, GalleryError, UsageError
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.indexing.copying import copy_gallery
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.opening import create_store, open_store, parse_location
from support.commands import refused, rrid_edge
from support.galleries import ODD_PATHS, SPEC, answered, plain, rows, vectors
from support.progress import CountedProgress

_numbers = iter(range(1_000_000))


@pytest.fixture
def milvus(lite_file):
    return parse_location(f"milvus+file:{lite_file}/copies_{next(_numbers)}")


def filled(location, count=40, dtype="float16"):
    """A gallery with odd paths among its rows and a model of its own."""
    odd = [NewRow(path, "0" * 64, 1, 2) for path in ODD_PATHS]
    gallery = create_store(location, SPEC, dtype=dtype)
    gallery.add([*rows(count), *odd], vectors(count + len(odd)))
    gallery.remember({"model": "/models/rrid.onnx"})
    return gallery


def same(first, second):
    assert plain(first.rows()) == plain(second.rows())
    np.testing.assert_array_equal(first.vectors(first.rows()), second.vectors(second.rows()))
    one, other = (list(map(answered, store.search(vectors(3, seed=5), 10).hits)) for store in (first, second))
    assert one == other
    assert first.info().model == second.info().model
    assert first.info().dtype == second.info().dtype


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_copies_to_another_store_and_back_are_identical(tmp_path, milvus, dtype):
    with (
        filled(tmp_path / "a", dtype=dtype) as source,
        create_store(milvus, SPEC, dtype=dtype) as middle,
        create_store(tmp_path / "b", SPEC, dtype=dtype) as last,
    ):
        first = copy_gallery(source, middle, model="/models/rrid.onnx")
        assert (first.rows, first.copied, first.present) == (49, 49, 0)
        same(source, middle)
        assert copy_gallery(middle, last, model=middle.info().model).copied == 49
        same(source, last)
        assert copy_gallery(source, middle).present == 49


def test_an_interrupted_copy_can_be_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr("rrid_edge.gallery.indexing.copying.BATCH_ROWS", 10)
    with filled(tmp_path / "a") as source, create_store(tmp_path / "b", SPEC) as destination:
        with pytest.raises(KeyboardInterrupt):
            copy_gallery(source, destination, progress=CountedProgress(interrupted_at=2))
        changed = dataclasses.replace(destination.rows()[0], camera="77")
        destination.add([NewRow(**{f.name: getattr(changed, f.name) for f in dataclasses.fields(NewRow)})], vectors(1))
        report = copy_gallery(source, destination, model=source.info().model)
        assert (report.copied, report.present) == (30, 19)
        same(source, destination)


def test_copies_between_unfit_galleries_are_refused(tmp_path):
    with filled(tmp_path / "a", dtype="float32") as source:
        with (
            create_store(tmp_path / "b", fake_spec("other", block_width=4)) as other,
            pytest.raises(FingerprintMismatchError, match="another model"),
        ):
            copy_gallery(source, other)
        with create_store(tmp_path / "c", SPEC) as coarse, pytest.raises(UsageError, match="would round"):
            copy_gallery(source, coarse)
        with create_store(tmp_path / "d", SPEC, dtype="float32") as more:
            more.add([NewRow("extra.jpg", "0" * 64, 1, 1)], vectors(1))
            with pytest.raises(
                GalleryError, match=r"holds 1 crops that the source does not have, for example extra\.jpg"
            ):
                copy_gallery(source, more)
            assert more.info().rows == 1


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filled(tmp_path / "crops" / ".rrid-edge").close()
    return tmp_path


def test_on_the_command_line(folders, milvus):
    there = json.loads(rrid_edge("gallery", "copy", "crops", milvus, "--json").out)
    assert (there["rows"], there["copied"], there["present"], there["damaged"]) == (49, 49, 0, [])
    back = rrid_edge("gallery", "copy", milvus, "again")
    assert back.out == "again: 49 crops (49 copied, 0 already present)\n", back
    with open_store(folders / "crops" / ".rrid-edge") as one, LocalGallery(folders / "again" / ".rrid-edge") as other:
        same(one, other)
    assert "0 copied, 49 already present" in rrid_edge("gallery", "copy", "crops", "again").out
    refused(rrid_edge("gallery", "copy", "crops", "crops/.rrid-edge"), 2, "same gallery")
    refused(rrid_edge("gallery", "copy", "nowhere", "again"), 4, "no index here")
    refused(rrid_edge("gallery", "copy", "crops", "new", "--index-type", "hnsw"), 2, "for galleries in Milvus")
    LocalGallery.create(folders / "foreign", FakeEngine(fake_spec("other")).spec).close()
    refused(rrid_edge("gallery", "copy", "crops", "foreign"), 4, "another model")


def test_damaged_rows_are_not_copied_but_named(folders):
    file = folders / "crops" / ".rrid-edge" / "vec.0.f16"
    data = bytearray(file.read_bytes())
    data[64 + 2 * 120 + 7] ^= 0x40
    file.write_bytes(data)
    outcome = rrid_edge("gallery", "copy", "crops", "again")
    refused(outcome, 1, "1 crops with damaged descriptors", "a/00002.jpg")
    assert "48 crops (48 copied" in outcome.out
    with LocalGallery(folders / "again" / ".rrid-edge") as gallery:
        assert "a/00002.jpg" not in {row.path for row in gallery.rows()}
