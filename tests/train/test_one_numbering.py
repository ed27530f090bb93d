"""``evaluate`` calls cameras and people as galleries of the same files, ``gallery list`` and ``match`` do."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from rrid_edge.crops.naming import PERSON
from rrid_edge.gallery.opening import open_store
from rrid_train.data.layout import load_dataset
from rrid_train.demo.config import DemoConfig
from rrid_train.demo.synthetic import write_demo_data
from support.commands import rrid_edge
from support.onnx_models import save_tiny_model
from support.originals import crop, write_market
from support.pictures import noise

MARKET = {
    "bounding_box_train": [f"{person:04d}_c{camera}s1_00000{camera}_00.jpg" for person in (1, 5) for camera in (3, 7)],
    "query": ["0002_c3s1_000001_00.jpg", "0002_c7s1_000001_00.jpg", "0750_c3s1_000001_00.jpg"],
    "bounding_box_test": [
        "0002_c3s1_000002_00.jpg", "0002_c7s1_000002_00.jpg", "0750_c7s1_000002_00.jpg", "0750_c3s1_000002_00.jpg",
        "0000_c3s1_000001_00.jpg", "-1_c7s1_000001_00.jpg",
    ],
}  # fmt: skip


def written_folders(root, cameras=("door", "hall"), people=("anna", "bo", "cy", "dan", "eve", "fay")):
    """Own crops in the form ``camera/person/number.jpg``."""
    for number, person in enumerate(people):
        base = np.asarray(noise(40 + number), dtype=np.int16)
        for place, camera in enumerate(cameras):
            for shot in range(2):
                jitter = np.random.default_rng([number, place, shot]).integers(-20, 21, base.shape)
                path = root / camera / person / f"{shot}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.clip(base + jitter, 0, 255).astype(np.uint8)).save(path)
    return root


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """A function from a dataset to what ``evaluate`` tells: its JSON, its text, and the answers on its sheets."""
    monkeypatch.chdir(tmp_path)
    model, drawn = save_tiny_model(tmp_path / "models" / "rrid.onnx"), []
    real = __import__("rrid_export.evaluation", fromlist=["contact_sheet"]).contact_sheet

    def kept(results, *arguments, **options):
        drawn.extend(results)
        return real(results, *arguments, **options)

    monkeypatch.setattr("rrid_export.evaluation.contact_sheet", kept)

    def evaluate(data, *options):
        drawn.clear()
        asked = ("evaluate", model, "--dataset", data, "--runtime", "onnxruntime", "--per-camera", *options)
        told = rrid_edge(*asked, "--no-thresholds", "--json", "--sheets", tmp_path / "sheets")
        assert told.code == 0, told.err
        return json.loads(told.out), rrid_edge(*asked, "--no-thresholds").out, list(drawn)

    return evaluate


def pairs(answer):
    return [(pair["query_camera"], pair["gallery_camera"]) for pair in answer["camera_pairs"]]


def table(text):
    return [
        tuple(line.split()[:2]) for line in text.splitlines() if re.search(r"\s\d+\s+[01]\.\d{4}\s+[01]\.\d{4}$", line)
    ]


def in_gallery(folder, *options):
    """Cameras and people, junk and distractors left out, as a gallery of a folder and ``match`` tell them."""
    assert rrid_edge("index", folder, "--runtime", "onnxruntime", *options).code == 0
    listed = json.loads(rrid_edge("gallery", "list", folder, "--json").out)["rows"]
    with open_store(folder / ".rrid-edge") as gallery:
        kinds = {row.person for row in gallery.rows() if row.person not in ("-1", "0000", "junk")}
    found = {row["person"] for row in listed} & kinds
    image = next(path for path in sorted(folder.rglob("*.jpg")))
    copied = folder.parent / "asked.jpg"
    shutil.copy(image, copied)
    answer = json.loads(rrid_edge("match", copied, folder, "--top-k", "99", "--json").out)["results"][0]["matches"]
    assert {match["person"] for match in answer} & kinds == found
    assert {match["camera"] for match in answer} == {row["camera"] for row in listed}
    return {row["camera"] for row in listed}, found


def test_names_of_market1501_files(evaluated, tmp_path):
    data = write_market(tmp_path / "data", MARKET)
    answer, text, drawn = evaluated(data)
    assert pairs(answer) == [("3", "7"), ("7", "3")]
    assert table(text) == [("3", "7"), ("7", "3")]
    assert {(result.person, result.camera) for result in drawn} == {("0002", "3"), ("0002", "7"), ("0750", "3")}
    for match in (match for result in drawn for match in result.matches):
        name = match.path.rsplit("/", 1)[1]
        assert (match.camera, match.kind == PERSON) == (name[name.index("_c") + 2], not name.startswith(("-1", "0000")))
        assert match.person == name[:4] if match.kind == PERSON else match.person == "0"
        assert drawn[0].query_kind == PERSON
    cameras, people = in_gallery(data / "bounding_box_test")
    assert (cameras, people) == ({"3", "7"}, {"0002", "0750"})


def test_a_prepared_dataset_keeps_the_names(evaluated, tmp_path):
    data = write_market(tmp_path / "raw", MARKET)
    assert rrid_edge("prepare", "market1501", data, tmp_path / "data", "--combine-trainval").code == 0
    answer, text, drawn = evaluated(tmp_path / "data")
    assert pairs(answer) == table(text) == [("3", "7"), ("7", "3")]
    assert {(result.person, result.camera) for result in drawn} == {("0002", "3"), ("0002", "7"), ("0750", "3")}


def test_own_folders_with_named_cameras(evaluated, tmp_path):
    raw = written_folders(tmp_path / "raw")
    prepared = rrid_edge("prepare", "folders", raw, tmp_path / "data", "--layout", "camera-first", "--combine-trainval")
    assert prepared.code == 0, prepared.err
    assert re.search(r"anna \(cameras door, hall; ", prepared.err)
    answer, text, drawn = evaluated(tmp_path / "data")
    assert pairs(answer) == table(text) == [("door", "hall"), ("hall", "door")]
    assert "query camera  gallery camera" in text
    cameras, people = in_gallery(raw, "--pattern", r"(?P<camera>\w+)/(?P<person>\w+)/")
    assert cameras == {"door", "hall"}
    asked = {result.person for result in drawn}
    assert asked <= people
    assert len(asked) == 3
    assert {match.person for result in drawn for match in result.matches} == asked
    assert {result.camera for result in drawn} == {"door", "hall"}


def test_own_folders_read_directly(evaluated, tmp_path):
    """A person's folder that is named like a distractor is a person here, and shown by its number."""
    root = tmp_path / "data"
    for part in ("train", "query", "gallery"):
        people = ("p1", "p2") if part == "train" else ("anna", "0")
        for number, person in enumerate(people):
            for camera in ("cam3", "cam07"):
                path = root / part / person / f"{camera}_{part}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(crop(100 * number + len(part))).save(path)
    answer, _, drawn = evaluated(root, "--dataset-type", "folders")
    assert pairs(answer) == [("3", "7"), ("7", "3")]
    shown = {result.person for result in drawn}
    assert shown == {"anna", "1"}
    assert all(result.query_kind == PERSON for result in drawn)


def test_the_demo_has_one_numbering(evaluated, tmp_path):
    write_demo_data(tmp_path / "demo", DemoConfig(people=9, cameras=3, images_per_camera=2))
    answer, _, drawn = evaluated(tmp_path / "demo")
    cameras, people = in_gallery(tmp_path / "demo" / "gallery")
    assert {camera for pair in pairs(answer) for camera in pair} == cameras == {"1", "2", "3"}
    assert {result.person for result in drawn} == people == {"0006", "0007", "0008"}


def test_a_dataset_without_names_takes_those_of_its_files(evaluated, tmp_path):
    write_demo_data(tmp_path / "demo", DemoConfig(people=9, cameras=3, images_per_camera=2))
    meta = json.loads((tmp_path / "demo" / "meta.json").read_text())
    del meta["persons"]
    (tmp_path / "demo" / "meta.json").write_text(json.dumps(meta))
    _, _, drawn = evaluated(tmp_path / "demo")
    assert {result.person for result in drawn} == {"00000006", "00000007", "00000008"}
    meta["cameras"], meta["persons"] = {"1": "lobby"}, {"6": "Ann", "7": "0000"}  # 0000 would be a distractor
    (tmp_path / "demo" / "meta.json").write_text(json.dumps(meta))
    names = load_dataset(tmp_path / "demo", num_val=0).names
    assert [names.person(number) for number in (6, 7, 99)] == ["Ann", "00000007", "99"]
    assert [names.camera(number) for number in (1, 2)] == ["lobby", "2"]
