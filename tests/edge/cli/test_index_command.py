"""``index`` on the command line: removals, facts that are remembered, rebuilding, sources, permissions."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.local.store import LocalGallery
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import noise, save_crops


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A tree with a gallery of 16 crops, its model, and a query."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RRID_EDGE_MODEL", raising=False)
    save_crops(tmp_path / "gallery", 12)
    save_crops(tmp_path / "gallery" / "cam2", 3)
    noise(4).save(tmp_path / "gallery" / "lobby_20261125173015.jpg")
    save_tiny_model(tmp_path / "models" / "rrid.onnx")
    noise(5).save(tmp_path / "query.png")
    assert rrid_edge("index", "gallery").code == 0
    return tmp_path


def rows():
    with LocalGallery(Path("gallery/.rrid-edge")) as gallery:
        return gallery.rows()


def names():
    return {row.path for row in rows()}


def test_a_vanished_sub_folder_ends_with_1_and_an_option(desk):
    shutil.rmtree(desk / "gallery" / "cam2")
    noise(6).save(desk / "gallery" / "new.jpg")
    outcome = rrid_edge("index", "gallery")
    refused(outcome, 1, "cam2/: this folder is gone or empty, and the index holds 3 crops", "(option --allow-removals)")
    assert "17 crops (1 added, 0 changed, 0 removed" in outcome.out
    as_json = rrid_edge("index", "gallery", "--json")
    assert as_json.code == 1
    assert json.loads(as_json.out)["missing"] == 3
    assert "3 crops of the index have no file in the folder now" in rrid_edge("match", "query.png", "gallery").err
    assert len(names()) == 17
    assert "3 removed" in rrid_edge("index", "gallery", "--allow-removals").out
    assert len(names()) == 14


def test_an_emptied_folder_is_refused(desk):
    shutil.rmtree(desk / "gallery" / "cam2")
    for file in (desk / "gallery").glob("*.jpg"):
        file.unlink()
    refused(rrid_edge("index", "gallery"), 2, "is a disk not mounted?", "(option --allow-removals)")
    assert len(names()) == 16
    outcome = rrid_edge("match", "query.png", "gallery", "--json")
    assert outcome.code == 0, outcome
    assert len(names()) == 16


def test_a_new_pattern_is_told_and_remembered_also_by_match(desk):
    outcome = rrid_edge("index", "gallery", "--pattern", r"(?P<camera>[a-z]+)_(?P<time>\d{14})")
    assert outcome.code == 0
    assert "the names of all crops were read again: 16 rows changed" in outcome.err
    assert {row.camera for row in rows()} == {None, "lobby"}
    noise(7).save(desk / "gallery" / "dock_20261125173016.jpg")
    assert rrid_edge("match", "query.png", "gallery").code == 0
    assert {row.camera for row in rows()} == {None, "lobby", "dock"}
    assert "read again" not in rrid_edge("index", "gallery").err
    refused(rrid_edge("index", "gallery", "--pattern", "("), 2, "not a regular expression")
    refused(rrid_edge("index", "gallery", "--time-from", "gps"), 2, "'gps' is unknown", "(option --time-from)")


def test_a_model_that_moved_is_named_and_its_new_place_remembered(desk):
    (desk / "models").rename(desk / "elsewhere")
    refused(rrid_edge("index", "gallery"), 2, "no model")
    outcome = rrid_edge("match", "query.png", "gallery")
    moved = [line for line in outcome.err.splitlines() if "models/rrid.onnx: the model of this gallery" in line]
    assert len(moved) == 1
    assert "--model" in moved[0]
    assert rrid_edge("match", "query.png", "gallery", "--model", "elsewhere/rrid.onnx").code == 0
    outcome = rrid_edge("match", "query.png", "gallery")
    assert outcome.code == 0
    assert "elsewhere/rrid.onnx (the gallery was indexed with it)" in outcome.err


def test_a_copied_tree_uses_its_own_model(desk):
    shutil.copytree(desk, desk.parent / "copied" / "deeper")
    outcome = rrid_edge("match", "query.png", desk.parent / "copied" / "deeper" / "gallery")
    assert f"model {desk.parent / 'copied' / 'deeper' / 'models' / 'rrid.onnx'} " in outcome.err
    shutil.copytree(desk / "gallery", desk.parent / "lone" / "a" / "b" / "gallery")
    (desk / "models").rename(desk / "away")
    outcome = rrid_edge("match", "query.png", desk.parent / "lone" / "a" / "b" / "gallery")
    assert "the model of this gallery is no longer there" in outcome.err
    assert str(desk / "away") not in outcome.err


def test_a_rebuild_keeps_model_pattern_retention_and_what_was_forgotten(desk):
    rrid_edge("index", "gallery", "--pattern", "none", "--time-from", "mtime")
    rrid_edge("gallery", "retention", "gallery", "--keep", "300d")
    assert rrid_edge("gallery", "forget", "gallery", "lobby_20261125173015.jpg").code == 0
    (desk / "models").rename(desk / "elsewhere")
    rrid_edge("index", "gallery", "--model", "elsewhere/rrid.onnx")
    outcome = rrid_edge("index", "gallery", "--rebuild")
    assert outcome.code == 0, outcome
    assert "lobby_20261125173015.jpg" not in names()
    assert len(names()) == 15
    with LocalGallery(desk / "gallery" / ".rrid-edge") as gallery:
        info = gallery.info()
    assert (info.pattern, info.time_from, info.retention_s) == ("none", "mtime", 300 * 86_400)
    assert (desk / "gallery" / ".rrid-edge" / "audit.jsonl").is_file()
    assert not (desk / "gallery" / ".rrid-edge" / "kept.json").exists()


def test_a_rebuild_refuses_to_lose_what_the_folder_cannot_give_again(desk):
    """Rows without files, of other sources, with labels; and crops of a disk that is not mounted."""
    index = desk / "gallery" / ".rrid-edge"

    def refused_to_lose(what):
        before = rows()
        refused(rrid_edge("index", "gallery", "--rebuild"), 2, what, "(option --allow-removals)")
        assert rows() == before

    with LocalGallery(index, write=True) as gallery:
        first, second = gallery.rows()[:2]
        vector = gallery.vectors([first])
        (added,) = gallery.add([NewRow(None, camera="door")], vector)
    refused_to_lose("a rebuild would lose 1 rows without files, which the folder cannot give again")
    with LocalGallery(index, write=True) as gallery:
        gallery.remove([added])
        gallery.add([NewRow("theirs.jpg", source="other box")], vector)
        gallery.update([dataclasses.replace(second, label="Anna")])
    refused_to_lose("would lose 1 rows of other sources, 1 labels,")
    with LocalGallery(index, write=True) as gallery:
        gallery.remove(["theirs.jpg"])
        gallery.update([dataclasses.replace(second, label=None)])
    (desk / "gallery" / "cam2").rename(desk / "away")
    refused_to_lose("nothing was rebuilt: cam2/: this folder is gone or empty, and the index holds 3 crops of it")
    assert rrid_edge("index", "gallery", "--rebuild", "--allow-removals").code == 0
    assert len(names()) == 13


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--dtype", "float8"), "dtype 'float8' is unknown"),
        (("--replicas", 3), "3 replicas for a folder"),
        (("--replicas", 2, "--gallery", "milvus+file:people.db/crops"), "2 replicas for a file: a server"),
        (("--index-type", "hnsw"), "index type 'hnsw' for a folder"),
    ],
)
def test_a_rebuild_with_a_wrong_option_removes_nothing(desk, option, words):
    before = rows()
    refused(rrid_edge("index", "gallery", "--rebuild", *option), 2, words)
    assert rows() == before
    assert not (desk / "gallery" / ".rrid-edge" / "kept.json").exists()


def test_a_rebuild_that_was_killed_brings_nobody_back(desk, monkeypatch):
    from rrid_edge.gallery import opening

    rrid_edge("gallery", "forget", "gallery", "lobby_20261125173015.jpg")
    (desk / "models").rename(desk / "elsewhere")
    rrid_edge("index", "gallery", "--model", "elsewhere/rrid.onnx")

    def killed(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(opening, "create_store", killed)
        rrid_edge("index", "gallery", "--rebuild")
    assert not (desk / "gallery" / ".rrid-edge" / "meta.sqlite").exists()
    assert rrid_edge("match", "query.png", "gallery").code == 0
    assert len(names()) == 15
    assert "lobby_20261125173015.jpg" not in names()


def test_a_rebuild_for_another_model(desk):
    save_tiny_model(desk / "other.onnx", fake_spec("other"))
    refused(rrid_edge("index", "gallery", "--model", "other.onnx"), 4, "another model")
    assert rrid_edge("index", "gallery", "--model", "other.onnx", "--rebuild").code == 0
    assert "other.onnx (the gallery was indexed with it)" in rrid_edge("index", "gallery").err


def test_two_folders_share_an_index_by_source(desk):
    save_crops(desk / "second", 5)
    shared = desk / "gallery" / ".rrid-edge"
    assert rrid_edge("index", "second", "--gallery", shared, "--source", "box-2").code == 0
    (desk / "second" / "0001_c1s1_000000_00.jpg").unlink()
    outcome = rrid_edge("index", "second", "--gallery", shared, "--source", "box-2")
    assert "20 crops (0 added, 0 changed, 1 removed, 4 unchanged" in outcome.out
    assert "20 crops (0 added, 0 changed, 0 removed, 16 unchanged" in rrid_edge("index", "gallery").out
    listed = rrid_edge("gallery", "list", "gallery").out.splitlines()
    assert sum("  box-2  " in line for line in listed) == 4


def test_rows_that_came_through_the_library_stay(desk):
    with LocalGallery(desk / "gallery" / ".rrid-edge", write=True) as gallery:
        dimension = gallery.spec.dimension
        gallery.add([NewRow(None, camera="door")], np.eye(1, dimension, dtype=np.float32))
    rrid_edge("match", "query.png", "gallery")
    rrid_edge("index", "gallery", "--allow-removals")
    assert [row.camera for row in rows() if row.path is None] == ["door"]


def test_permissions_of_a_new_index(desk):
    def modes(folder):
        return {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())}

    found = modes(desk / "gallery" / ".rrid-edge")
    assert found.pop(".rrid-edge") == 0o700
    assert set(found.values()) == {0o600}
    save_crops(desk / "shared", 3)
    assert rrid_edge("index", "shared", "--mode", "750").code == 0
    rrid_edge("gallery", "export", "shared", "x.npz")
    found = modes(desk / "shared" / ".rrid-edge")
    assert found.pop(".rrid-edge") == 0o750
    assert set(found.values()) == {0o640}
    for mode in ("50", "0o750", "999", "640"):
        refused(rrid_edge("index", "shared", "--mode", mode), 2, f"permissions '{mode}'", "(option --mode)")


@pytest.mark.parametrize(
    "address",
    [
        "http://root:Sesame9@host/crops",
        "mivlus+http://root:Sesame9@host/crops",
        "milvus:http//root:Sesame9@host/crops",
        "milvus+http://root:Sesame9@host/crops",
        "milvus+htp:/root:Sesame9@host/crops",
        "https://host/crops?token=Sesame9",
    ],
)
def test_a_mistyped_address_hides_its_password(desk, address):
    for outcome in (
        rrid_edge("gallery", "list", address),
        rrid_edge("index", "gallery", "--gallery", address),
        rrid_edge("gallery", "copy", "gallery", address),
    ):
        assert outcome.code == 2, outcome
        assert "Sesame9" not in outcome.err + outcome.out
    assert sorted(path.name for path in desk.iterdir()) == ["gallery", "models", "query.png"]


def test_what_is_left_out_is_counted_and_links_are_followed_if_asked(desk):
    (desk / "gallery" / "a.heic").touch()
    noise(8).save(desk / "private.jpg")
    (desk / "gallery" / "out.jpg").symlink_to(desk / "private.jpg")
    outcome = rrid_edge("index", "gallery", "--json")
    assert "left out: 1 link to files outside the folder (out.jpg); to read them: option --follow-links" in outcome.err
    assert "left out: 1 file with other endings (.heic 1)" in outcome.err
    report = json.loads(outcome.out)
    assert (report["endings"], report["outside"], report["rows"]) == ({".heic": 1}, ["out.jpg"], 16)
    asked = rrid_edge("match", "query.png", "gallery", "--sheet", "a.png")
    assert "to read them: option --follow-links" in asked.err
    assert "out.jpg" in rrid_edge("match", "query.png", "gallery", "--follow-links", "--top-k", "20").out
    assert len(names()) == 17
    again = rrid_edge("index", "gallery")
    assert "1 crops stay" in again.err
    refused(rrid_edge("index", "gallery", "--rebuild"), 2, "links that lead out of the folder")
    assert rrid_edge("index", "gallery", "--rebuild", "--follow-links").code == 0
    assert len(names()) == 17


def test_queries_in_a_folder_follow_the_same_rules(desk):
    (desk / "queries").mkdir()
    noise(5).save(desk / "queries" / "a.JFIF", "JPEG")
    (desk / "queries" / "b.jpg").symlink_to(desk / "query.png")
    (desk / "queries" / "c.avif").touch()
    outcome = rrid_edge("match", "queries", "gallery")
    assert "query queries/a.JFIF" in outcome.out
    assert "queries/b.jpg" not in outcome.out
    assert "left out: 1 file with other endings (.avif 1)" in outcome.err
    assert "query queries/b.jpg" in rrid_edge("match", "queries", "gallery", "--follow-links").out


def test_a_query_of_a_folder_that_cannot_be_read_costs_itself_only(desk):
    (desk / "queries").mkdir()
    noise(5).save(desk / "queries" / "good.jpg")
    (desk / "queries" / "drawing.jpg").write_bytes(b"%!PS-Adobe-3.0")
    noise(6).save(desk / "queries" / "huge.png")
    os.truncate(desk / "queries" / "huge.png", 40 << 30)
    outcome = rrid_edge("match", "queries", "gallery", "--json")
    assert outcome.code == 0
    assert [result["query"] for result in json.loads(outcome.out)["results"]] == [["queries/good.jpg"]]
    assert "left out queries/drawing.jpg: a PostScript file" in outcome.err
    assert "left out queries/huge.png: 40 GiB, too large" in outcome.err
    refused(rrid_edge("match", "queries/huge.png", "gallery"), 2, "huge.png: 40 GiB, too large")
    (desk / "queries" / "good.jpg").unlink()
    refused(rrid_edge("match", "queries", "gallery"), 2, "queries/huge.png: 40 GiB, too large")
