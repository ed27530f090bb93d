"""``gallery`` on the command line: list, forget, unforget, retention, export, copy, and the audit log."""

from __future__ import annotations

import json
import os
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from rrid_edge.gallery.base import ForgetReport, NewRow
from rrid_edge.gallery.local.store import LocalGallery
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import noise, save_crops

INDEX = Path("gallery/.rrid-edge")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A gallery of 12 crops of 4 persons and 3 cameras, and a query of one of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RRID_EDGE_MODEL", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    save_crops(tmp_path / "gallery", 12)
    save_tiny_model(tmp_path / "models" / "rrid.onnx")
    shutil.copy(tmp_path / "gallery" / "0002_c2s1_000001_00.jpg", tmp_path / "0002_c2s1_000901_00.jpg")
    assert rrid_edge("index", "gallery").code == 0
    return tmp_path


def rows():
    with LocalGallery(INDEX) as gallery:
        return gallery.rows()


def content():
    """All bytes of the gallery's folder, pictures included, by path. A reader makes SQLite's shared memory."""
    files = {path: path.read_bytes() for path in Path("gallery").rglob("*") if path.is_file()}
    return {path: data for path, data in files.items() if data and not path.name.endswith("-shm")}


def persons_of_answer():
    outcome = rrid_edge("match", "0002_c2s1_000901_00.jpg", "gallery", "--top-k", 50, "--json")
    return {match["person"] for match in json.loads(outcome.out)["results"][0]["matches"]}


def audit(file=INDEX / "audit.jsonl"):
    return [json.loads(line) for line in Path(file).read_text("utf-8").splitlines()]


def test_the_list_shows_what_is_told_and_json_everything(desk):
    outcome = rrid_edge("gallery", "list", "gallery")
    assert outcome.out.splitlines()[1] == "0001  2   frame 4  0001_c2s1_000004_00.jpg"
    assert len(outcome.out.splitlines()) == 12
    with LocalGallery(INDEX, write=True) as gallery:
        seen = 1_795_627_815_250_000
        row = NewRow(None, camera="dock", time=seen, label="Ann", track="7", source="box", thumbnail=b"jpeg")
        (key,) = gallery.add([row], np.eye(1, gallery.spec.dimension, dtype=np.float32))
    first = rrid_edge("gallery", "list", "gallery").out.splitlines()[0]
    assert first.split() == ["-", "dock", "2026-11-25T17:30:15.250000Z", "box", "Ann", "7", f"#{key}"]
    listed = json.loads(rrid_edge("gallery", "list", "gallery", "--json").out)["rows"][0]
    assert (listed["origin"], listed["time"], listed["source"], listed["label"], listed["id"], listed["track"]) == (
        "memory", seen, "box", "Ann", key, "7",
    )  # fmt: skip
    assert "thumbnail" not in listed
    assert rrid_edge("gallery", "forget", "gallery", f"#{key}").out.startswith("1 crops forgotten")
    refused(rrid_edge("gallery", "forget", "gallery", f"#{key}"), 2, f"id {key} is not in the index")


def test_a_dry_run_changes_nothing_and_lists(desk):
    before = content()
    outcome = rrid_edge("gallery", "forget", "gallery", "--person", "0002", "--delete-files", "--dry-run")
    assert outcome.code == 0
    *listed, last = outcome.out.splitlines()
    assert listed == sorted(path.name for path in Path("gallery").glob("0002_*"))
    assert last == "3 crops would be forgotten; nothing was changed"
    found = json.loads(rrid_edge("gallery", "forget", "gallery", "--person", "0002", "--dry-run", "--json").out)
    assert (found["forgotten"], found["dry_run"], len(found["ids"])) == (0, True, 3)
    assert content() == before


def test_a_forgotten_person_answers_nowhere_until_unforgotten(desk):
    stored = [row for row in rows() if row.person == "0002"]
    with LocalGallery(INDEX) as gallery:
        vectors = gallery.vectors(stored).astype("<f2")
    assert any(vectors[0].tobytes() in data for data in content().values())
    assert "0002" in persons_of_answer()
    outcome = rrid_edge("gallery", "forget", "gallery", "--person", "0002")
    assert (outcome.code, outcome.out) == (0, "3 crops forgotten, their descriptors erased\n")
    assert "image files that exist stay in their folder" in outcome.err
    for again in (("index", "gallery"), ("index", "gallery", "--rebuild"), ("gallery", "compact", "gallery")):
        assert "0002" not in persons_of_answer()
        os.utime("gallery/0002_c2s1_000001_00.jpg")
        assert rrid_edge(*again).code == 0
    shutil.copy("gallery/0002_c2s1_000001_00.jpg", "gallery/renamed.jpg")
    assert "renamed.jpg" not in str(rrid_edge("match", "0002_c2s1_000901_00.jpg", "gallery", "--top-k", 50).out)
    for data in content().values():
        assert not any(vector.tobytes() in data for vector in vectors)
    assert "4 files stay out: their content was forgotten" in rrid_edge("index", "gallery").err
    one = rrid_edge("gallery", "unforget", "gallery", "0002_c2s1_000001_00.jpg")
    assert one.out == "1 pictures may be indexed again\n"
    assert len([row for row in rows() if row.person == "0002"]) == 0
    rrid_edge("match", "0002_c2s1_000901_00.jpg", "gallery")
    assert {row.path for row in rows() if row.sha256 == stored[0].sha256} <= {"0002_c2s1_000001_00.jpg", "renamed.jpg"}
    assert len(rows()) == 11
    assert json.loads(rrid_edge("gallery", "unforget", "gallery", "--all", "--json").out) == {"let_in": 2}
    assert "2 added" in rrid_edge("index", "gallery").out
    refused(rrid_edge("gallery", "unforget", "gallery"), 2, "--all")
    refused(rrid_edge("gallery", "unforget", "gallery", "none.jpg"), 2, "none.jpg: cannot be read")
    os.truncate("gallery/renamed.jpg", 40 << 30)
    refused(
        rrid_edge("gallery", "unforget", "gallery", "renamed.jpg"), 2, "renamed.jpg: cannot be read (40 GiB, too large"
    )


def test_files_are_deleted_on_demand_and_what_is_left_is_named(desk):
    noise(3).save("gallery/0002_c2s1_000001_00.jpg")  # another picture now
    outcome = rrid_edge("gallery", "forget", "gallery", "--person", "0002", "--delete-files")
    refused(outcome, 1, "3 crops are forgotten, but something of them is left", "it is another picture now")
    assert "2 image files deleted" in outcome.out
    assert [path.name for path in Path("gallery").glob("0002_*")] == ["0002_c2s1_000001_00.jpg"]
    outcome = rrid_edge("gallery", "forget", INDEX, "--person", "0003", "--delete-files")
    assert outcome.out == "3 crops forgotten, their descriptors erased, 3 image files deleted\n"
    assert not list(Path("gallery").glob("0003_*"))
    Path("empty").mkdir()
    shutil.copytree(INDEX, "elsewhere")
    refused(
        rrid_edge("gallery", "forget", "nowhere", "--gallery", INDEX, "--camera", "1", "--delete-files"), 2, "folder"
    )
    assert len(rows()) == 6


def test_pictures_that_were_deleted_first_are_forgotten_too(desk):
    with LocalGallery(INDEX) as gallery:
        gone = [row for row in gallery.rows() if row.path == "0002_c2s1_000001_00.jpg"]
        vector = gallery.vectors(gone).astype("<f2").tobytes()
    Path("gallery/0002_c2s1_000001_00.jpg").unlink()
    assert "1 removed" in rrid_edge("index", "gallery").out
    assert any(vector in data for data in content().values())
    assert rrid_edge("gallery", "forget", "gallery", "0002_c2s1_000001_00.jpg").code == 0
    assert not any(vector in data for data in content().values())


def test_what_is_left_by_the_store_ends_with_1(desk, monkeypatch):
    real = LocalGallery.forget

    def forget(self, *arguments, **options):
        return ForgetReport(real(self, *arguments, **options).rows, ("the log, which a reader still uses",))

    monkeypatch.setattr(LocalGallery, "forget", forget)
    outcome = rrid_edge("gallery", "forget", "gallery", "--person", "0002")
    refused(outcome, 1, "the log, which a reader still uses")
    assert "erased" not in outcome.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ("nothing to forget", "--person", "--before", "--id")),
        (("none.jpg",), ("none.jpg: not in the index",)),
        (("--person", "nobody"), ("person 'nobody'", "(option --person)")),
        (("--camera", "9"), ("camera '9'", "(option --camera)")),
        (("--id", "999999"), ("id 999999", "(option --id)")),
        (("--before", "soon"), ("neither a time",)),
        (("--before", "4000"), ("is no time", "(option --before)")),
    ],
)
def test_what_cannot_be_forgotten_is_refused(desk, options, words):
    refused(rrid_edge("gallery", "forget", "gallery", *options), 2, *words)
    assert len(rows()) == 12


def age(path, days):
    seconds = (datetime.now(timezone.utc) - timedelta(days=days)).timestamp()
    os.utime(path, (seconds, seconds))


def test_retention_is_stored_and_applied_by_index(desk):
    assert rrid_edge("gallery", "retention", "gallery").out == "gallery: crops are kept for ever\n"
    for path in Path("gallery").glob("0001_*"):
        age(path, 40)
    rrid_edge("index", "gallery")
    outcome = rrid_edge("gallery", "retention", "gallery", "--keep", "30d")
    assert outcome.out == "gallery: crops are kept for 30 days\n"
    assert "3 crops are older" in outcome.err
    rrid_edge("match", "0002_c2s1_000901_00.jpg", "gallery")
    assert len(rows()) == 12, "a query removes nothing"
    outcome = rrid_edge("index", "gallery")
    assert outcome.code == 0
    assert "3 crops were older than the gallery keeps" in outcome.err
    assert (audit()[-1]["command"], len(audit()[-1]["ids"])) == ("expired", 3)
    assert len(rows()) == 9
    assert "9 crops (0 added" in rrid_edge("index", "gallery").out
    assert json.loads(rrid_edge("gallery", "retention", "gallery", "--keep", "forever", "--json").out) == {
        "retention_s": None,
        "expired": 0,
    }
    assert "3 added" in rrid_edge("index", "gallery").out
    refused(rrid_edge("gallery", "retention", "gallery", "--keep", "soon"), 2, "'soon' is not a duration")


def test_crops_before_a_time_are_forgotten(desk):
    for path in Path("gallery").glob("*_c1s1_*"):
        age(path, 40)
    rrid_edge("index", "gallery")
    outcome = rrid_edge("gallery", "forget", "gallery", "--before", "30d", "--person", "0001")
    assert outcome.out.startswith("1 crops forgotten")
    assert rrid_edge("gallery", "forget", "gallery", "--before", "30d").out.startswith("3 crops forgotten")
    assert rrid_edge("gallery", "forget", "gallery", "--before", "30d").out.startswith("0 crops forgotten")


def test_every_act_has_one_line_in_the_audit_log(desk):
    ids = [row.id for row in rows() if row.person == "0002"]
    rrid_edge("gallery", "forget", "gallery", "--person", "0002", "--dry-run")
    rrid_edge("gallery", "forget", "gallery", "--person", "0002")
    rrid_edge("gallery", "unforget", "gallery", "--all")
    rrid_edge("gallery", "retention", "gallery")
    rrid_edge("gallery", "retention", "gallery", "--keep", "30d")
    rrid_edge("gallery", "export", "gallery", "out.npz")
    rrid_edge("gallery", "copy", "gallery", "second")
    lines = audit()
    assert [line["command"] for line in lines] == ["forget", "unforget", "retention", "export", "copy"]
    assert sorted(lines[0]["ids"]) == sorted(ids)
    assert (lines[0]["rows"], lines[1]["contents"], lines[2]["keep_s"], lines[3]["rows"]) == (3, 3, 2_592_000, 9)
    for line in lines:
        assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
        assert "0002_c" not in json.dumps(line)
    assert (INDEX / "audit.jsonl").stat().st_mode & 0o777 == 0o600
    assert [line["command"] for line in audit("second/.rrid-edge/audit.jsonl")] == ["copied from"]


def test_the_audit_log_of_a_gallery_that_cannot_be_written_is_the_users(desk, monkeypatch):
    from rrid_edge.gallery.indexing import audit as module

    real = os.open

    def refuse(path, *arguments, **options):
        if Path(path).parent.name == ".rrid-edge":
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    module.audit(INDEX, "export", ids=[1, 2])
    (line,) = audit(desk / "state" / "rrid-edge" / "audit.jsonl")
    assert (line["ids"], line["gallery"]) == ([1, 2], str(INDEX.resolve()))
    assert (desk / "state" / "rrid-edge" / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_an_export_is_private_and_has_all_columns(desk):
    assert rrid_edge("gallery", "export", "gallery", "out.npz").out == "out.npz: 12 descriptors of 240 values\n"
    assert Path("out.npz").stat().st_mode & 0o777 == 0o600
    with np.load("out.npz") as found:
        assert set(found) == {
            "descriptors", "ids", "paths", "sources", "cameras", "persons", "labels", "tracks", "times", "frames",
        }  # fmt: skip
        assert found["cameras"].tolist() == [row.camera for row in rows()]
        assert found["frames"].tolist() == [row.frame for row in rows()]
        assert (found["times"] == -1).all()
    refused(rrid_edge("gallery", "export", "gallery", "out.txt"), 2, "must end in .npz", "option --output")


def test_a_copy_carries_pattern_retention_and_model(desk):
    rrid_edge("index", "gallery", "--pattern", "none")
    rrid_edge("gallery", "retention", "gallery", "--keep", "30d")
    assert rrid_edge("gallery", "copy", "gallery", "second/deep").code == 0
    with LocalGallery(Path("second/deep/.rrid-edge")) as gallery:
        info = gallery.info()
    assert (info.pattern, info.retention_s, info.model) == ("none", 2_592_000, "../../../models/rrid.onnx")


def test_a_user_without_a_home_folder_can_forget(desk, monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert rrid_edge("gallery", "forget", "gallery", "--person", "0002").code == 0
    assert [line["command"] for line in audit()] == ["forget"]
    (INDEX / "audit.jsonl").unlink()
    (INDEX / "audit.jsonl").mkdir()
    outcome = rrid_edge("gallery", "forget", "gallery", "--person", "0003")
    refused(outcome, 2, "this user has no home folder", "XDG_STATE_HOME")
