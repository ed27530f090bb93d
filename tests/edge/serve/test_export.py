"""A person's crops as a zip file, and forgetting single crops."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import threading
import zipfile

import httpx
import numpy as np
import pytest

from edge.serve.support import client, make_gallery, problem, running, service_on
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.opening import INDEX_FOLDER
from rrid_edge.serve.export import Export
from support.galleries import vectors
from support.pictures import noise

PEOPLE, CROPS = "/api/v1/people", "/api/v1/crops"


def jpeg(seed):
    stream = io.BytesIO()
    noise(seed).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    return make_gallery(tmp_path / "gallery", 6)


@pytest.fixture
def service(folder):
    with service_on(folder.parent, {"gallery": 6}) as found:
        yield found


@pytest.fixture
def asked(service):
    with client(service) as found:
        yield found


@pytest.fixture
def ann(service):
    """Rows of a person: two with files, one that was pushed, one without a picture."""
    with service.gallery(None).writing() as store:
        files = store.rows()[:2]
        pushed = [
            NewRow(None, camera="=SUM(A1)", track="+7", person="@x", label="-Ann", time=5, thumbnail=jpeg(8)),
            NewRow(None, camera="plain", track="\tx", person="\rx", label="-Ann", frame=-3),
        ]
        ids = store.add(pushed, vectors(2))
        store.update([dataclasses.replace(row, label="-Ann") for row in files])
        return {row.id: row for row in store.rows_by_id([*ids, *(row.id for row in files)])}


def person_id(asked):
    (person,) = asked.get(PEOPLE).json()["people"]
    return person["id"]


def test_the_zip_holds_her_crops(service, asked, folder, ann):
    answer = asked.get(f"{PEOPLE}/{person_id(asked)}/export")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == f'attachment; filename="{person_id(asked)}.zip"'
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    table = list(csv.DictReader(io.StringIO(archive.read("crops.csv").decode(), newline="")))
    assert [int(line["id"]) for line in table] == [
        row.id for row in sorted(ann.values(), key=lambda row: (row.time is None, -(row.time or 0), -row.id))
    ]
    descriptors = np.load(io.BytesIO(archive.read("descriptors.npy")))
    rows = [ann[int(line["id"])] for line in table]
    np.testing.assert_array_equal(descriptors, service.gallery(None).store.vectors(rows))
    for line, row in zip(table, rows, strict=True):
        if row.path is not None:
            assert archive.read(line["picture"]) == (folder / row.path).read_bytes()
            assert (line["path"], line["sha256"], line["note"]) == (row.path, row.sha256, "")
        else:
            assert "is not on this machine" in line["note"]
    by_camera = {line["camera"]: line for line in table}
    pushed, bare = by_camera["'=SUM(A1)"], by_camera["plain"]
    assert (pushed["track"], pushed["told"], pushed["person"]) == ("'+7", "'@x", "'-Ann")
    assert pushed["time"] == "1970-01-01T00:00:00.000005Z"
    assert archive.read(pushed["picture"]) == jpeg(8)
    assert (bare["picture"], bare["track"], bare["told"], bare["frame"]) == ("", "'\tx", "'\rx", "-3")
    readme = archive.read("README.txt").decode()
    assert readme.count("\n") == 1
    assert "4 crops" in readme
    assert len(archive.namelist()) == 3 + 3
    lines = [json.loads(line) for line in (folder / INDEX_FOLDER / "audit.jsonl").read_text().splitlines()]
    assert [line["ids"] for line in lines if line["command"] == "export"] == [sorted(ann)]


def test_a_file_that_changed_is_noted_and_not_exported(asked, folder, ann):
    changed = next(row for row in ann.values() if row.path)
    (folder / changed.path).write_bytes(jpeg(9))
    archive = zipfile.ZipFile(io.BytesIO(asked.get(f"{PEOPLE}/{person_id(asked)}/export").content))
    table = {int(line["id"]): line for line in csv.DictReader(io.StringIO(archive.read("crops.csv").decode()))}
    assert table[changed.id]["picture"] == ""
    assert "changed since it was indexed" in table[changed.id]["note"]


def test_one_picture_is_in_memory_at_a_time(service, ann):
    parts = Export(service.gallery(None), "p1", list(ann.values())).parts()
    sizes = [len(part) for part in parts]
    assert len(sizes) == 1 + len(ann) + 1
    files = [service.gallery(None).folder / row.path for row in ann.values() if row.path]
    descriptors = service.gallery(None).spec.dimension * 4 * len(ann)
    assert max(sizes) < max(file.stat().st_size for file in files) + descriptors + 2_000


def test_nobody_is_exported(asked, ann):
    for person in ("p999", "s999", "x", "p1e1"):
        problem(asked.get(f"{PEOPLE}/{person}/export"), 404, "does not exist")


def test_a_crop_that_is_forgotten_meanwhile_breaks_the_stream(service, ann, monkeypatch, caplog):
    monkeypatch.setattr("rrid_edge.serve.export._BLOCK_ROWS", 1)
    with running(service) as address, httpx.Client(base_url=address) as asked:
        found = person_id(asked)
        real, calls = Export._descriptors, list[bool]()

        def forgetting(self, archive, sink):
            for part in real(self, archive, sink):
                yield part
                if not calls:
                    calls.append(True)
                    with service.gallery(None).writing() as store:
                        store.forget([self.rows[-1].id])

        monkeypatch.setattr(Export, "_descriptors", forgetting)
        with pytest.raises(httpx.RemoteProtocolError):
            asked.get(f"{PEOPLE}/{found}/export")
    lines = [record.message for record in caplog.records if "rrid_edge" in record.name]
    assert any("export was broken off" in line for line in lines)
    assert not any("unexpected" in line for line in lines)


def test_lists_of_a_person(asked, ann):
    found = asked.get(CROPS, params={"person": person_id(asked), "limit": 3}).json()
    assert (len(found["crops"]), found["total"]) == (3, 4)
    rest = asked.get(CROPS, params={"person": person_id(asked), "cursor": found["next"]}).json()
    assert {crop["id"] for crop in found["crops"] + rest["crops"]} == set(ann)
    for person in ("p999", "s99999", "Ann", "p" + "9" * 25):
        problem(asked.get(CROPS, params={"person": person}), 404, "does not exist")
    (group,) = (one for one in asked.get(PEOPLE).json()["suggested"][:1])
    listed = asked.get(CROPS, params={"person": group["id"]}).json()
    assert listed["total"] == group["crops"]


def test_forgetting_a_crop_removes_it_everywhere(service, asked, folder):
    row = service.gallery(None).store.rows()[0]
    copy = folder / "copy.jpg"
    copy.write_bytes((folder / row.path).read_bytes())
    asked.get(f"{CROPS}/{row.id}/image")
    answer = asked.delete(f"{CROPS}/{row.id}")
    assert answer.json() == {"forgotten": 1, "ids": [row.id], "left": []}
    assert service.pictures.size_bytes == 0
    for path in ("", "/image"):
        problem(asked.get(f"{CROPS}/{row.id}{path}"), 404, "is not in the gallery")
    problem(asked.delete(f"{CROPS}/{row.id}"), 404, "is not in the gallery")
    assert row.id not in [crop["id"] for crop in asked.get(CROPS).json()["crops"]]
    assert copy.exists()
    assert service.gallery(None).store.kept_out([row.sha256]) == {row.sha256}
    lines = [json.loads(line) for line in (folder / INDEX_FOLDER / "audit.jsonl").read_text().splitlines()]
    assert [(line["command"], line["ids"]) for line in lines] == [("forget", [row.id])]


def test_forgetting_becomes_one_event(service, asked, monkeypatch):
    seen, came = list[list[int]](), threading.Event()

    def publish(kind, gallery, data):
        if kind == "crop-forgotten":
            seen.append(data["ids"])
            came.set()

    follower = service.followers["gallery"]
    follower.wait_until_looked()
    monkeypatch.setattr(service.events, "publish", publish)
    row = service.gallery(None).store.rows()[0]
    asked.delete(f"{CROPS}/{row.id}")
    assert came.wait(120)
    follower.close()  # after its last look
    assert seen == [[row.id]]


def test_a_gallery_for_reading_only_forgets_nothing(folder):
    with service_on(folder.parent, {"gallery": 6}, read_only=True) as service, client(service) as asked:
        problem(asked.delete(f"{CROPS}/1"), 403, "for reading only")
        assert service.gallery(None).store.info().rows == 6
