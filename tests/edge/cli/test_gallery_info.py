"""``info`` of a gallery: a folder, its index, a Milvus address; what a folder without one is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.opening import create_store
from support.commands import refused, rrid_edge
from support.galleries import SPEC, milvus_address, vectors
from support.onnx_models import save_tiny_model
from support.pictures import save_crops

NOON = 1_795_608_000_000_000  # 2026-11-25T12:00:00Z
ROWS = (
    NewRow("1.jpg", "a" * 64, 1, 1, "10", "0002", NOON),
    NewRow("2.jpg", "b" * 64, 1, 1, "7", "0750", NOON + 60_000_000),
    NewRow("3.jpg", "c" * 64, 1, 1, "7", "0002", None, 9, label="Ann"),
    NewRow("4.jpg", "d" * 64, 1, 1, "lobby", "-1", source="box"),
    NewRow("5.jpg", "e" * 64, 1, 1, None, "0000"),
)


def told(*arguments):
    return dict(line.split(maxsplit=1) for line in rrid_edge("info", *arguments).out.splitlines())


def test_a_folder_of_crops_and_its_index_tell_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_crops(tmp_path / "gallery", 12)
    model = save_tiny_model(tmp_path / "models" / "rrid.onnx")
    assert rrid_edge("index", "gallery").code == 0
    lines = told("gallery")
    with LocalGallery(Path("gallery/.rrid-edge")) as store:
        info = store.info()
    assert lines["gallery"] == "gallery"
    assert lines["store"] == "folder gallery/.rrid-edge, format 2"
    assert lines["model"] == "models/rrid.onnx"
    assert (lines["fingerprint"], lines["crops"], lines["people"]) == (info.spec.fingerprint, "12", "4")
    assert lines["cameras"] == "3: 1 (4), 2 (4), 3 (4)"
    assert lines["descriptors"] == f"float16, {info.spec.dimension} values per crop"
    of_index, of_folder = (rrid_edge("info", path).out.splitlines() for path in ("gallery/.rrid-edge", "gallery"))
    assert of_index[1:] == of_folder[1:]
    facts = json.loads(rrid_edge("info", "gallery", "--json").out)
    files = [path for path in Path("gallery/.rrid-edge").iterdir() if path.is_file() and not path.name.endswith("-shm")]
    assert facts["disk"]["size_bytes"] >= sum(path.stat().st_size for path in files if not path.name.endswith("-wal"))
    assert (facts["model"], facts["model_found"], facts["store"], facts["rows"]) == (str(model), True, "folder", 12)
    assert facts["disk"]["changed_us"] == max(
        path.stat().st_mtime_ns // 1000 for path in files if path.name.startswith("meta.sqlite")
    )
    Path("models/rrid.onnx").unlink()
    assert told("gallery")["model"] == "models/rrid.onnx (no longer there)"
    assert json.loads(rrid_edge("info", "gallery", "--json").out)["model_found"] is False


def test_commits_and_removed_crops_are_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with LocalGallery.create(tmp_path / "g", SPEC) as store:
        store.add(ROWS, vectors(5))
    first = json.loads(rrid_edge("info", "g", "--json").out)
    with LocalGallery(tmp_path / "g", write=True) as store:
        store.remove([5])
    second = json.loads(rrid_edge("info", "g", "--json").out)
    assert second["commit"] > first["commit"] >= 1
    assert (first["dead_slots"], second["dead_slots"], second["rows"]) == (0, 1, 4)
    assert "1 slots of removed crops (gallery compact frees them)" in told("g")["on"]


@pytest.mark.parametrize("kind", ["folder", "lite"])
def test_both_stores_tell_what_their_rows_hold(tmp_path, monkeypatch, request, kind):
    monkeypatch.chdir(tmp_path)
    text = "g" if kind == "folder" else f"milvus+file:{request.getfixturevalue('lite_file')}/told"
    location = tmp_path / "g" if kind == "folder" else milvus_address(text)
    with create_store(location, SPEC, dtype="float32") as store:
        store.add(ROWS, vectors(5))
    facts = json.loads(rrid_edge("info", text, "--json").out)
    assert facts["cameras"] == [
        {"camera": "7", "rows": 2}, {"camera": "10", "rows": 1}, {"camera": "lobby", "rows": 1},
        {"camera": None, "rows": 1},
    ]  # fmt: skip
    assert facts["sources"] == [{"source": "box", "rows": 1}, {"source": "local", "rows": 4}]
    assert (facts["people"], facts["first_time"], facts["last_time"]) == (3, NOON, NOON + 60_000_000)
    assert (facts["first_frame"], facts["last_frame"], facts["dtype"]) == (9, 9, "float32")
    assert (facts["fingerprint"], facts["dimension"], facts["model"]) == (SPEC.fingerprint, SPEC.dimension, None)
    assert (facts["disk"] is None, facts["commit"] is None) == (kind == "lite",) * 2
    lines = told(text)
    assert lines["cameras"] == "3: 7 (2), 10 (1), lobby (1), unknown (1)"
    assert lines["times"] == "2026-11-25T12:00:00Z to 2026-11-25T12:01:00Z, frames 9 to 9"
    assert lines["model"] == "not recorded"
    assert ("on" in lines) == (kind == "folder")
    assert lines["store"] == ("folder g, format 2" if kind == "folder" else f"Milvus {text}, index flat, format 2")


def test_a_folder_without_a_gallery_is_told_what_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("crops").mkdir()
    refused(
        rrid_edge("info", "crops"), 4, "crops: this folder is no gallery (it has no .rrid-edge)",
        "rrid-edge index crops",
    )  # fmt: skip
    save_tiny_model(tmp_path / "models" / "rrid.onnx")
    refused(rrid_edge("info", "models"), 2, "models: this is a folder of models", "models/rrid.onnx", "argument MODEL")
    with LocalGallery.create(tmp_path / "data" / "gallery" / ".rrid-edge", SPEC):
        pass
    refused(rrid_edge("info", "data"), 4, "give the gallery in it: data/gallery")
    assert told("data/gallery")["crops"] == "0"
    refused(rrid_edge("info", "nowhere"), 2, "nowhere: no such model file (given)", "(argument MODEL)")
    refused(rrid_edge("info", "milvus+file:none.db/people"), 4, "none.db")
    outcome = rrid_edge("info", "milvus+http://me:secret@host/people")
    refused(outcome, 2, "RRID_EDGE_MILVUS_TOKEN")
    assert "secret" not in outcome.err
    shutil.rmtree("data")
    assert told("models/rrid.onnx")["model"] == "models/rrid.onnx"
