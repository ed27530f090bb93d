"""``prepare``: people, cameras, junk and distractors of each original dataset, and refused input."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from rrid_edge.crops.naming import read_labels
from rrid_train.data.layout import load_dataset
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model
from support.originals import (
    DUKE,
    MARKET,
    crop,
    cuhk03_pixels,
    write_cuhk03,
    write_folders,
    write_market,
    write_new_protocol,
)


def _labels(samples):
    return Counter((sample.person, sample.camera) for sample in samples)


def _bytes(samples):
    return sorted((sample.person, sample.camera, sample.path.read_bytes()) for sample in samples)


def test_market1501_keeps_split_cameras_junk_and_distractors(tmp_path):
    raw = write_market(tmp_path / "raw", MARKET)
    outcome = rrid_edge("prepare", "market1501", raw, tmp_path / "out", "--combine-trainval")
    assert outcome.code == 0, outcome.err
    rows = [[cell.strip() for cell in line.split("|")] for line in outcome.out.splitlines()]
    assert ["subset", "persons", "images"] in rows
    assert ["train", "3", "7"] in rows
    assert ["query", "2", "3"] in rows
    # As the field counts: distractors are scored, but no people; junk is neither.
    assert ["gallery", "2", "7"] in rows
    assert outcome.out.splitlines()[-1] == (
        "gallery: 7 of 9 crops are scored: 5 of 2 people, 2 distractors; 2 are junk"
    )
    data = load_dataset(tmp_path / "out", num_val=0)
    assert data.name == "market1501"
    assert _labels(data.query) == {(1, 1): 1, (1, 2): 1, (3, 1): 1}
    gallery = {(-1, 1): 1, (-1, 3): 1, (0, 1): 1, (0, 4): 1, (1, 1): 1, (1, 2): 1, (1, 3): 1, (3, 1): 1, (3, 4): 1}
    assert _labels(data.gallery) == gallery
    names = {sample.path.name for sample in data.gallery}
    assert {"00000003_04_0000.jpg", "00000000_04_0000.jpg", "junk_03_0000.jpg"} <= names
    assert not [name for name in names if name.startswith("-")]
    # The names read back as the lists give them.
    persons, cameras = read_labels([str(sample.path) for sample in data.gallery])
    assert [(sample.person, sample.camera) for sample in data.gallery] == list(zip(persons, cameras, strict=True))
    # Each subset has the same bytes as the original read directly, with the same people held out.
    direct, prepared = (load_dataset(root, num_val=1) for root in (raw, tmp_path / "out"))
    for subset in ("train", "val_query", "val_gallery", "query", "gallery"):
        assert _bytes(getattr(prepared, subset)) == _bytes(getattr(direct, subset)), subset


def test_dukemtmc_is_prepared(tmp_path):
    raw = write_market(tmp_path / "raw", DUKE)
    outcome = rrid_edge("prepare", "dukemtmc", raw, tmp_path / "out", "--num-val", "0", "--json")
    assert json.loads(outcome.out)["subsets"] == {
        "train": {"persons": 2, "images": 4},
        "query": {"persons": 1, "images": 1},
        "gallery": {"persons": 2, "images": 3},
    }
    data = load_dataset(tmp_path / "out", num_val=0)
    assert _labels(data.gallery) == {(2, 1): 1, (5, 1): 1, (5, 5): 1}


def test_cuhk03_old_protocol_has_its_splits_and_pixels(tmp_path):
    write_cuhk03(tmp_path / "cuhk-03.mat")
    outcome = rrid_edge("prepare", "cuhk03", tmp_path, tmp_path / "out", "--num-val", "0", "--json")
    assert outcome.code == 0, outcome.err
    answer = json.loads(outcome.out)
    assert (answer["name"], answer["splits"]) == ("cuhk03-labeled-old", 3)
    # Seven people, eight images each (two cells are empty); the first test set is people 1 and 2 of the first pair.
    assert answer["subsets"]["train"] == {"persons": 5, "images": 40}
    assert answer["subsets"]["query"] == answer["subsets"]["gallery"] == {"persons": 2, "images": 16}
    data = load_dataset(tmp_path / "out", num_val=0, split=1)
    assert _labels(data.query) == {(2, 1): 4, (2, 2): 4, (3, 1): 4, (3, 2): 4}
    second_camera = [sample for sample in data.query if (sample.person, sample.camera) == (3, 2)]
    pixels = np.asarray(Image.open(second_camera[0].path))  # person 3 of pair 1, image 6 of 10
    np.testing.assert_array_equal(pixels, cuhk03_pixels(1, 3, 6))


def test_cuhk03_detected_leaves_out_people_without_images(tmp_path):
    mat = write_cuhk03(tmp_path / "cuhk-03.mat")
    outcome = rrid_edge("prepare", "cuhk03", mat, tmp_path / "out", "--images", "detected", "--num-val", "0", "--json")
    subsets = json.loads(outcome.out)["subsets"]
    assert subsets["train"] == {"persons": 5, "images": 40}
    assert subsets["query"] == {"persons": 1, "images": 8}


def test_cuhk03_new_protocol_follows_its_lists(tmp_path):
    write_cuhk03(tmp_path / "cuhk-03.mat")
    train = [f"1_00{person}_{1 if n <= 5 else 2}_{n:02d}.png" for person in (1, 2, 3) for n in (1, 2, 6)]
    query, gallery = ["2_001_1_01.png", "2_001_2_06.png"], ["2_001_1_02.png", "2_001_2_07.png", "2_003_1_03.png"]
    write_new_protocol(tmp_path / "cuhk03_new_protocol_config_labeled.mat", train, query, gallery)
    outcome = rrid_edge("prepare", "cuhk03", tmp_path, tmp_path / "out", "--num-val", "0")
    assert outcome.code == 0, outcome.err
    data = load_dataset(tmp_path / "out", num_val=0)
    assert data.name == "cuhk03-labeled-new"
    assert _labels(data.query) == {(5, 1): 1, (5, 2): 1}
    assert _labels(data.gallery) == {(5, 1): 1, (5, 2): 1, (7, 1): 1}
    np.testing.assert_array_equal(np.asarray(Image.open(data.gallery[1].path)), cuhk03_pixels(2, 1, 7))
    # The lists of the other kind are refused.
    write_new_protocol(tmp_path / "cuhk03_new_protocol_config_detected.mat", train, query, gallery)
    outcome = rrid_edge("prepare", "cuhk03", tmp_path, tmp_path / "other", "--images", "detected")
    refused(outcome, 2, "1_002_1_01.png is not among the images", "3 in all")
    assert not (tmp_path / "other").exists()
    write_new_protocol(tmp_path / "cuhk03_new_protocol_config_labeled.mat", train, query, [*gallery, "1_002_1_03.png"])
    shared = rrid_edge("prepare", "cuhk03", tmp_path, tmp_path / "other")
    refused(shared, 2, "person 1_002 is both in training and in test (1 in all)")


def test_cuhk03_np_folders_are_the_new_protocol(tmp_path):
    folders = {
        "bounding_box_train": ["0001_c1_1.png", "0001_c2_6.png", "0002_c1_1.png"],
        "query": ["0003_c1_1.png"],
        "bounding_box_test": ["0003_c2_7.png"],
    }
    write_market(tmp_path / "raw" / "labeled", folders)
    outcome = rrid_edge("prepare", "cuhk03", tmp_path / "raw", tmp_path / "out", "--num-val", "0", "--json")
    assert json.loads(outcome.out)["name"] == "cuhk03-labeled-new"
    assert load_dataset(tmp_path / "raw" / "labeled", dataset_type="cuhk03", num_val=0).num_train_persons == 2


def test_folders_draw_test_people_and_find_cameras(tmp_path):
    raw = write_folders(tmp_path / "raw")
    outcome = rrid_edge("prepare", "folders", raw, tmp_path / "out", "--num-val", "0", "--test-share", "0.34", "--json")
    assert json.loads(outcome.out)["subsets"] == {
        "train": {"persons": 4, "images": 16},
        "query": {"persons": 2, "images": 4},
        "gallery": {"persons": 2, "images": 8},
    }
    data = load_dataset(tmp_path / "out", num_val=0)
    assert {sample.camera for sample in data.gallery} == {1, 2}
    persons = json.loads((tmp_path / "out" / "meta.json").read_text())["persons"]
    tested = {sample.person for sample in data.gallery}
    originals = {path.read_bytes() for person in tested for path in (raw / persons[str(person)]).iterdir()}
    assert {sample.path.read_bytes() for sample in data.gallery} == originals
    again = rrid_edge("prepare", "folders", raw, tmp_path / "again", "--num-val", "0", "--test-share", "0.34")
    assert again.code == 0
    assert (tmp_path / "again" / "test.json").read_bytes() == (tmp_path / "out" / "test.json").read_bytes()


def test_folders_with_subsets_and_a_pattern_are_prepared(tmp_path):
    for part, person, name in (
        ("train", "ann", "x7.jpg"),
        ("train", "bob", "x8.jpg"),
        ("query", "c3", "x1.jpg"),
        ("gallery", "c3", "x2.jpg"),
    ):
        (tmp_path / "raw" / part / person).mkdir(parents=True)
        Image.fromarray(crop(len(name))).save(tmp_path / "raw" / part / person / name)
    pattern = r"x(?P<camera>\d)"
    outcome = rrid_edge(
        "prepare", "folders", tmp_path / "raw", tmp_path / "out", "--pattern", pattern, "--num-val", "0"
    )
    assert outcome.code == 0, outcome.err
    data = load_dataset(tmp_path / "out", num_val=0)
    assert [(sample.person, sample.camera) for sample in (*data.query, *data.gallery)] == [(3, 1), (3, 2)]
    # A person's own name ("c3") is no camera.
    outcome = rrid_edge("prepare", "folders", tmp_path / "raw", tmp_path / "no")
    refused(outcome, 2, "no camera found in this path (4 in all)", "--pattern")


def test_named_cameras_of_folders_are_numbered_together(tmp_path):
    names = ("xlobby.jpg", "x2.jpg", "x99112233445566778890.jpg")
    for number, (part, person) in enumerate((("train", "ann"), ("train", "bob"), ("query", "cid"), ("gallery", "cid"))):
        (tmp_path / "raw" / part / person).mkdir(parents=True)
        for name in names:
            Image.fromarray(crop(10 * number + len(name))).save(tmp_path / "raw" / part / person / name)
    pattern = r"x(?P<camera>\w+)"
    outcome = rrid_edge(
        "prepare", "folders", tmp_path / "raw", tmp_path / "out", "--pattern", pattern, "--num-val", "0"
    )
    assert outcome.code == 0, outcome.err
    data = load_dataset(tmp_path / "out", num_val=0)
    # 2 keeps its number; the serial number and the name follow it.
    for samples in (data.train, data.query, data.gallery):
        assert {sample.camera for sample in samples} == {2, 3, 4}


def test_prepared_and_original_dataset_evaluate_equally(tmp_path):
    tiny_onnx = save_tiny_model(tmp_path / "rrid.onnx")
    raw = write_market(tmp_path / "raw", MARKET)
    assert rrid_edge("prepare", "market1501", raw, tmp_path / "out", "--combine-trainval").code == 0
    answers = []
    for dataset in (raw, tmp_path / "out"):
        outcome = rrid_edge(
            "evaluate", tiny_onnx, "--dataset", dataset, "--json", "--runtime", "onnxruntime", "--no-thresholds"
        )
        assert outcome.code == 0, outcome.err
        answer = json.loads(outcome.out)
        answers.append({key: answer[key] for key in ("mean_ap", "cmc", "mean_inp", "valid_queries")})
    assert answers[0] == answers[1]


def test_refused_input_leaves_no_files(tmp_path):
    raw = write_market(tmp_path / "raw", MARKET)
    out = tmp_path / "out"
    refused(
        rrid_edge("prepare", "voc", raw, out),
        2,
        "market1501, dukemtmc, cuhk03, msmt17, viper, prid2011, cuhk01, folders",
    )
    refused(rrid_edge("prepare", "market1501", tmp_path / "none", out), 2, "no such folder")
    refused(rrid_edge("prepare", "market1501", raw, raw), 2, "the folder is not empty; give a new or an empty folder")
    refused(rrid_edge("prepare", "market1501", raw, out, "--num-val", "2"), 2, "num_val 2.0 does not fit 3 people")
    refused(rrid_edge("prepare", "market1501", raw, out, "--split", "1"), 2, "--split 1 does not exist")
    refused(
        rrid_edge("prepare", "folders", raw, out, "--test-share", "1"),
        2,
        "test_share 1.0 does not work",
        "(option --test-share)",
    )
    refused(rrid_edge("prepare", "cuhk03", raw, out), 2, "cuhk-03.mat: no such file")
    (tmp_path / "cuhk-03.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    refused(rrid_edge("prepare", "cuhk03", tmp_path, out), 2, "it is not HDF5", "copy or download it again")
    write_cuhk03(tmp_path / "cuhk-03.mat")
    refused(
        rrid_edge("prepare", "cuhk03", tmp_path, out, "--protocol", "new"),
        2,
        "no such file",
        "or use the old protocol (option --protocol)",
    )
    refused(rrid_edge("prepare", "cuhk03", tmp_path, out, "--images", "both"), 2, "expected labeled or detected")
    (tmp_path / "cuhk03_new_protocol_config_labeled.mat").write_bytes(b"nothing")
    refused(rrid_edge("prepare", "cuhk03", tmp_path, out), 2, "cannot be read as lists of the new protocol")
    (raw / "query" / "0002_c1s1_001051_00.jpg").write_bytes((raw / "query" / MARKET["query"][0]).read_bytes())
    refused(rrid_edge("prepare", "market1501", raw, out), 2, "person 0002 is both in training and in test (1 in all)")
    (raw / "query" / "0002_c1s1_001051_00.jpg").unlink()
    (raw / "query" / MARKET["query"][1]).write_bytes(b"\xff\xd8 cut")
    refused(rrid_edge("prepare", "market1501", raw, out), 2, MARKET["query"][1], "or leave damaged images out")
    (raw / "query" / "me.jpg").write_bytes(b"")
    refused(rrid_edge("prepare", "market1501", raw, out), 2, "me.jpg is not named <person>_c<camera>... (1 in all)")
    assert not out.exists()
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


def test_one_camera_is_reported_and_too_few_people_are_refused(tmp_path):
    raw = write_folders(tmp_path / "raw", people=4, cameras=1)
    outcome = rrid_edge("prepare", "folders", raw, tmp_path / "out", "--num-val", "0", "--pattern", "none")
    assert outcome.code == 0
    assert "no query has a right answer" in outcome.err
    few = write_folders(tmp_path / "few", people=2)
    refused(rrid_edge("prepare", "folders", few, tmp_path / "no"), 2, "2 people, of whom 1 would be tested")
    (few / "loose.jpg").write_bytes(b"")
    refused(rrid_edge("prepare", "folders", few, tmp_path / "no"), 2, "loose.jpg lies in no person's folder (1 in all)")


@pytest.mark.parametrize("name", ["testsets", "labeled"])
def test_a_mat_file_without_its_parts_is_refused(tmp_path, name):
    import h5py

    mat = write_cuhk03(tmp_path / "cuhk-03.mat")
    with h5py.File(mat, "a") as file:
        del file[name]
    refused(rrid_edge("prepare", "cuhk03", mat, tmp_path / "out"), 2, f"it has no '{name}'")
