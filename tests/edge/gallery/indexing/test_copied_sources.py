"""Sources of a copy: ``index`` finds the rows of a folder in it, and adds nothing a second time."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
from pathlib import Path

import pytest

from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.indexing.copied_sources import sources_in_copy, stays_local
from rrid_edge.gallery.opening import open_store, parse_location
from support.commands import rrid_edge
from support.memory_store import SPEC, MemoryStore, vectors
from support.onnx_models import save_tiny_model
from support.pictures import noise, save_crops

HOST = socket.gethostname()
SERVER = parse_location("milvus+http://milvus.example:19530/crops")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A tree with an indexed folder of 12 crops, its model and a query."""
    monkeypatch.chdir(tmp_path)
    save_crops(tmp_path / "crops", 12)
    save_tiny_model(tmp_path / "models" / "rrid.onnx")
    noise(5).save(tmp_path / "query.png")
    assert rrid_edge("index", "crops").code == 0
    return tmp_path


def sources(location):
    with open_store(location) as gallery:
        return gallery.sources()


def indexed(*words):
    report = json.loads(rrid_edge("index", *words, "--json").out)
    return report["rows"], report["added"], report["removed"]


def test_index_adds_nothing_to_a_copy_of_its_folder(desk, lite_file):
    milvus = f"milvus+file:{lite_file}/copied_sources"
    there = rrid_edge("gallery", "copy", "crops", milvus)
    assert f"the source local is {HOST}:{desk / 'crops'} in the copy, as index names it there" in there.err
    assert indexed("crops", "--gallery", milvus) == (12, 0, 0)
    assert sources(parse_location(milvus)) == {f"{HOST}:{desk / 'crops'}": 12}
    again = rrid_edge("gallery", "copy", "crops", milvus)
    assert "12 crops (0 copied, 12 already present)" in again.out

    back = rrid_edge("gallery", "copy", milvus, "back")
    assert f"the source {HOST}:{desk / 'crops'} is local in the copy" in back.err
    assert sources(desk / "back" / ".rrid-edge") == {"local": 12}
    for crop in (desk / "crops").glob("*.jpg"):
        shutil.copy2(crop, desk / "back")
    assert indexed("back") == (12, 0, 0)


def test_a_copy_of_an_index_that_lies_elsewhere_says_how_to_index_it(desk, lite_file):
    milvus = f"milvus+file:{lite_file}/copied_elsewhere"
    assert rrid_edge("index", "crops", "--gallery", "elsewhere").code == 0
    outcome = rrid_edge("gallery", "copy", "elsewhere", milvus)
    command = f"index FOLDER --gallery {milvus} --source local"
    assert outcome.err.splitlines()[-1] == f"the crops keep the source local: {command} finds them"
    assert indexed("crops", "--gallery", milvus, "--source", "local") == (12, 0, 0)


def test_pictures_of_a_copy_are_those_of_its_folder(desk, lite_file):
    milvus = f"milvus+file:{lite_file}/copied_pictures"
    rrid_edge("gallery", "copy", "crops", milvus)
    report = rrid_edge("match", "query.png", "crops", "--gallery", milvus, "--report", "answer.html")
    assert report.code == 0, report
    # One picture for the query and one for each of the ten matches.
    assert (desk / "answer.html").read_text().count("data:image/jpeg;base64,") == 11


class _OnServer(MemoryStore):
    """A store that says that it lies on a server."""

    def info(self):
        return dataclasses.replace(super().info(), index_type="flat")


def store(kind, *found):
    made = kind(SPEC)
    files = [NewRow(path, f"{i:064x}", i, i, source=source) for i, (source, path) in enumerate(found)]
    made.add(files, vectors(len(files)))
    return made


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("crops/.rrid-edge", {"local": f"{HOST}:CRESOLVED"}),
        ("elsewhere", {}),  # an index that does not lie in its folder: nobody knows the folder
    ],
)
def test_from_a_folder_to_a_server(tmp_path, monkeypatch, location, expected):
    monkeypatch.chdir(tmp_path)
    source = store(MemoryStore, ("local", "a.jpg"), ("box", "a.jpg"))
    found = sources_in_copy(source, _OnServer(SPEC), Path(location), SERVER)
    assert found == {old: new.replace("CRESOLVED", str(tmp_path / "crops")) for old, new in expected.items()}


def test_a_source_that_the_gallery_does_not_have_is_not_named():
    source = store(MemoryStore, ("box", "a.jpg"))
    assert sources_in_copy(source, _OnServer(SPEC), Path("crops/.rrid-edge"), SERVER) == {}


def test_stores_of_one_kind_have_the_same_names():
    files = store(MemoryStore, ("local", "a.jpg"))
    assert sources_in_copy(files, MemoryStore(SPEC), Path("a/.rrid-edge"), Path("b/.rrid-edge")) == {}
    assert sources_in_copy(store(_OnServer, ("h:/a", "a.jpg")), _OnServer(SPEC), SERVER, SERVER) == {}


@pytest.mark.parametrize(
    ("found", "renamed"),
    [
        ([("OWN", "a.jpg"), ("other:/crops", "a.jpg")], "OWN"),
        ([("other:/crops", "a.jpg")], "other:/crops"),
        ([("other:/crops", "a.jpg"), ("third:/crops", "a.jpg")], None),
        ([("other:/crops", "a.jpg"), ("local", "a.jpg")], None),  # two rows would become one
        ([("other:/crops", "a.jpg"), ("local", None)], "other:/crops"),  # a row that a program added
        ([("north-box", "a.jpg")], None),  # somebody gave it this name
        ([("s3://bucket/crops.parquet", "a.jpg")], None),
    ],
)
def test_from_a_server_to_a_folder(tmp_path, monkeypatch, found, renamed):
    monkeypatch.chdir(tmp_path)
    own = f"{HOST}:{tmp_path / 'crops'}"
    source = store(_OnServer, *((own if name == "OWN" else name, path) for name, path in found))
    expected = {} if renamed is None else {own if renamed == "OWN" else renamed: "local"}
    assert sources_in_copy(source, MemoryStore(SPEC), SERVER, Path("crops/.rrid-edge")) == expected


@pytest.mark.parametrize(
    ("found", "kind", "names", "expected"),
    [
        ([("local", "a.jpg")], _OnServer, {}, True),
        ([("local", "a.jpg")], _OnServer, {"local": "h:/crops"}, False),
        ([("local", None), ("box", "a.jpg")], _OnServer, {}, False),  # rows that a program added
        ([("local", "a.jpg")], MemoryStore, {}, False),
    ],
)
def test_crops_that_stay_local_on_a_server(found, kind, names, expected):
    assert stays_local(store(MemoryStore, *found), kind(SPEC), names) is expected
