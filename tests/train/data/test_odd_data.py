"""Odd files and numbers in the original of a dataset: taken, refused by name, or counted."""

from __future__ import annotations

import json
import os
import shutil

import h5py
import numpy as np
import pytest
import scipy.io

from rrid_edge.crops.images import load_rgb
from rrid_edge.errors import DatasetError, UsageError
from rrid_train.data import writing
from rrid_train.data.cuhk03 import Cuhk03, read_new_protocol
from rrid_train.data.folders import read_folders
from rrid_train.data.layout import load_dataset
from rrid_train.data.market import read_market
from support.commands import refused, rrid_edge
from support.forms import save, write_msmt17, write_prid, write_viper
from support.originals import MARKET, write_cuhk03, write_folders, write_market


def test_the_first_people_are_printed_with_cameras_and_files(tmp_path):
    raw = write_folders(tmp_path / "raw", people=5)
    outcome = rrid_edge("prepare", "folders", raw, tmp_path / "out")
    assert outcome.err.splitlines()[0] == (
        "5 people: person a (cameras 1, 2; person a/cam1_000.jpg, ...), person b (cameras 1, 2; person b/cam1_000.jpg, "
        "...), person c (cameras 1, 2; person c/cam1_000.jpg, ...), ..."
    )
    market = rrid_edge("prepare", "market1501", write_market(tmp_path / "m", MARKET), tmp_path / "out2")
    # Junk and distractors are no people.
    told = market.err.splitlines()[0]
    assert told.startswith("5 people: 0001 (cameras 1, 2, 3; query/0001_c1s1_001051_00.jpg, ...), 0002 (cameras 1, 2; ")
    write_cuhk03(tmp_path / "cuhk-03.mat")
    cuhk = rrid_edge("prepare", "cuhk03", tmp_path, tmp_path / "out3")
    assert cuhk.err.startswith("7 people: 1_001 (cameras 1, 2; 1_001_1_01.png, ...), 1_002 ")


def test_every_file_is_taken_or_counted(tmp_path):
    raw = write_market(tmp_path / "raw", MARKET)
    train = raw / "bounding_box_train"
    endings = ("JPG", "jpeg", "Png", "bmp", "webp", "tif", "TIFF", "ppm", "jfif", "jpe", "gif")
    for number, ending in enumerate(endings, start=1):
        picture = train / f"00{20 + number}_c{number % 3 + 1}s1_000001_00.{ending}"
        save(picture.with_suffix({"gif": ".gif"}.get(ending, ".png")), number)
        if ending != "gif":
            picture.with_suffix(".png").rename(picture)
    for name in ("0040_c1s1_000001_00.heic", "0040_c1s1_000002_00.AVIF", "0040_c1s1_000003_00.avif", "README"):
        (train / name).write_bytes(b"x")
    (raw / "query" / "list.txt").write_bytes(b"x")
    outcome = rrid_edge("prepare", "market1501", raw, tmp_path / "out", "--combine-trainval", "--json")
    assert outcome.code == 0, outcome.err
    assert "left out: 6 files with other endings (.avif 2, none 1, .db 1, .heic 1, .txt 1)" in outcome.err
    assert json.loads(outcome.out)["subsets"]["train"] == {"persons": 3 + 11, "images": 7 + 11}
    (raw / "query" / "old").mkdir()
    shutil.copy(raw / "query" / MARKET["query"][0], raw / "query" / "old")
    words = f"old/{MARKET['query'][0]} is not named <person>_c<camera>... (1 in all)"
    refused(rrid_edge("prepare", "market1501", raw, tmp_path / "no"), 2, words)


def test_long_numbers_of_persons_and_cameras_are_numbered(tmp_path):
    serial, camera = "99112233445566778890", "88112233445566778890"
    folders = {
        "bounding_box_train": [f"{serial}_c1s1_000001_00.jpg", "12345_c1s1_000001_01.jpg", "00012_c3_f0001.jpg"],
        "query": [f"0003_c{camera}s1_000001_00.jpg"],
        "bounding_box_test": ["0003_c2s1_000001_00.jpg", f"000{serial}1_c2s1_000001_00.jpg"],
    }
    raw = tmp_path / "raw"
    for folder, names in folders.items():
        for number, name in enumerate(names):
            save(raw / folder / name, number + len(folder))
    original = read_market(raw)
    split = original.splits[0]
    # Numbers of six and more digits follow the largest short one, in the order of their names.
    assert {(sample.person, sample.camera) for sample in split.train} == {(12, 3), (12345, 1), (12346, 1)}
    assert [(sample.person, sample.camera) for sample in split.gallery] == [(3, 2), (12347, 2)]
    assert [(sample.person, sample.camera) for sample in split.query] == [(3, 4)]
    assert original.persons == {12346: serial, 12347: f"{serial}1"}
    assert rrid_edge("prepare", "market1501", raw, tmp_path / "out", "--combine-trainval").code == 0
    prepared, direct = (load_dataset(root, num_val=0) for root in (tmp_path / "out", raw))
    assert [sample.person for sample in prepared.gallery] == [sample.person for sample in direct.gallery]


def test_links_out_of_the_original_are_followed_only_if_asked(tmp_path):
    raw = write_market(tmp_path / "raw", MARKET)
    name = MARKET["query"][0]
    (raw / "query" / name).rename(tmp_path / name)
    (raw / "query" / name).symlink_to(tmp_path / name)
    words = f"query/{name} is a link that leads out of this folder (1 in all)"
    refused(rrid_edge("prepare", "market1501", raw, tmp_path / "no"), 2, words, "(option --follow-links)")
    with pytest.raises(DatasetError, match="is a link that leads out"):
        load_dataset(raw)
    outcome = rrid_edge("prepare", "market1501", raw, tmp_path / "out", "--combine-trainval", "--follow-links")
    assert outcome.code == 0, outcome.err
    assert len(load_dataset(tmp_path / "out", num_val=0).query) == 3
    (raw / "query").rename(tmp_path / "elsewhere")
    (raw / "query").symlink_to(tmp_path / "elsewhere")
    refused(rrid_edge("prepare", "market1501", raw, tmp_path / "no"), 2, "query is a link that leads out")


def test_all_damaged_images_are_counted(tmp_path):
    raw = write_market(tmp_path / "raw", MARKET)
    for name in MARKET["query"][:2]:
        (raw / "query" / name).write_bytes(b"\xff\xd8 cut")
    refused(rrid_edge("prepare", "market1501", raw, tmp_path / "out"), 2, MARKET["query"][0],
            f"(2 images in all; the others: {MARKET['query'][1]})", "(option --leave-out-damaged)")  # fmt: skip
    assert not (tmp_path / "out").exists()
    outcome = rrid_edge(
        "prepare", "market1501", raw, tmp_path / "out", "--num-val", "0", "--leave-out-damaged", "--json"
    )
    assert outcome.code == 0, outcome.err
    for name in MARKET["query"][:2]:
        assert f"left out {raw / 'query' / name}: " in outcome.err
    answer = json.loads(outcome.out)
    assert (answer["subsets"]["query"]["images"], len(answer["left_out"])) == (1, 2)
    assert [sample.person for sample in load_dataset(tmp_path / "out", num_val=0).query] == [3]


def test_an_error_that_nobody_foresaw_costs_one_image_only(tmp_path, monkeypatch):
    raw = write_market(tmp_path / "raw", MARKET)
    spoilt = MARKET["bounding_box_test"][5]
    load = load_rgb

    def fails(path, content):
        if path.name == spoilt:
            raise ZeroDivisionError("in a\nlibrary")
        return load(path, content)

    monkeypatch.setattr(writing, "load_rgb", fails)
    outcome = rrid_edge("prepare", "market1501", raw, tmp_path / "out", "--combine-trainval", "--json")
    refused(
        outcome, 5, "written without 1 image(s), because of an error", f"{spoilt} (ZeroDivisionError: in a library)"
    )
    assert [entry["reason"] for entry in json.loads(outcome.out)["left_out"]] == ["ZeroDivisionError: in a library"]
    prepared, direct = (load_dataset(root, num_val=0) for root in (tmp_path / "out", raw))
    kept = [sample.path.read_bytes() for sample in direct.gallery if sample.path.name != spoilt]
    assert [sample.path.read_bytes() for sample in prepared.gallery] == kept
    assert len(prepared.train) == 7
    monkeypatch.setattr(writing, "load_rgb", lambda path, content: 1 // 0)
    refused(
        rrid_edge("prepare", "market1501", raw, tmp_path / "no"),
        2,
        "ZeroDivisionError",
        "(19 images in all; the others: ",
        ", ...)",
    )


def _external(file):
    file["#refs#"].create_dataset("outside", (3, 20, 40), np.uint8, external=[("/etc/passwd", 0, 2400)])
    cells = file[file["labeled"][0, 0]]
    cells[0, 0] = file["#refs#/outside"].ref


def _large(file):
    file["#refs#"].create_dataset("large", (3, 100_000, 100_000), np.uint8, chunks=(1, 1000, 1000))
    file[file["labeled"][0, 0]][0, 0] = file["#refs#/large"].ref


def _many(file):
    del file["labeled"]
    file.create_dataset("labeled", (1, 10**9), h5py.ref_dtype, chunks=(1, 1000))


def _itself(file):
    file["labeled"][0, 0] = file["labeled"].ref


def _group(file):
    file[file["labeled"][0, 0]][0, 0] = file["#refs#"].ref


def _linked(file):
    del file["labeled"]
    file["labeled"] = h5py.ExternalLink("other.mat", "labeled")


def _nan(file):
    file[file["testsets"][0, 0]][0, 0] = np.inf


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_external, "values are in another file"),
        (_large, "a picture of 100000 x 100000 pixels is in it"),
        (_many, "an array of 1,000,000,000 values is in it"),
        (_itself, "a test set has no images"),
        (_group, "cannot be read"),
        (_linked, "its 'labeled' is a link"),
        (_nan, "cannot be read (OverflowError"),
    ],
    ids=["external values", "large", "many", "itself", "group", "external link", "infinite"],
)
def test_hostile_mat_files_are_refused_in_one_line(tmp_path, change, words):
    mat = write_cuhk03(tmp_path / "cuhk-03.mat")
    with h5py.File(mat, "a") as file:
        change(file)
    refused(rrid_edge("prepare", "cuhk03", mat, tmp_path / "out"), 2, words, "copy or download")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("at", [0.3, 0.6, 0.95])
def test_cut_mat_files_are_refused(tmp_path, at):
    mat = write_cuhk03(tmp_path / "cuhk-03.mat")
    content = mat.read_bytes()
    mat.write_bytes(content[: int(len(content) * at)])
    with pytest.raises(DatasetError, match="copy or download it again"), Cuhk03(mat, "labeled") as dataset:
        dataset.pictures()


@pytest.mark.parametrize("number", [0, 3, 1.5, np.nan], ids=["zero", "beyond", "fraction", "nan"])
def test_lists_of_the_new_protocol_with_wrong_numbers_are_refused(tmp_path, number):
    path = tmp_path / "lists.mat"
    names = np.array([["1_001_1_01.png"], ["1_001_2_06.png"]], dtype=object)
    scipy.io.savemat(path, {"filelist": names, "train_idx": [[number]], "query_idx": [[1]], "gallery_idx": [[2]]})
    with pytest.raises(DatasetError, match=r"cannot be read as lists of the new protocol \((Index|Value)Error: .*"):
        read_new_protocol(path)


def test_folders_named_like_junk_are_told(tmp_path):
    raw = write_folders(tmp_path / "raw", people=5)
    for old, new in (("a", "-1"), ("b", "0000")):
        (raw / f"person {old}").rename(raw / new)
    rest = "of several people, take it out"
    assert read_folders(raw).remarks == (
        f"folder -1 counts as one person; if it holds junk crops {rest}",
        f"folder 0000 counts as one person; if it holds distractor crops {rest}",
    )


def test_images_outside_the_folders_of_a_dataset_are_counted(tmp_path):
    market = write_market(tmp_path / "market", MARKET)
    for number in range(3):
        save(market / "gt_bbox" / f"{number}.jpg", number)
    save(market / "sheet.png", 9)
    assert load_dataset(market, num_val=0).remarks == (
        "left out: 1 file with other endings (.db 1)",
        "left out: 4 images outside the folders of the dataset (gt_bbox)",
    )
    assert load_dataset(market, num_val=0).table().endswith("outside the folders of the dataset (gt_bbox)")
    msmt17 = write_msmt17(tmp_path / "msmt17")
    save(msmt17 / "train" / "0009" / "0009_000_01_0303morning_0015_0.jpg", 1)
    remarks = load_dataset(msmt17, num_val=0).remarks
    assert remarks == ("left out: 1 image(s) that no list names (train/0009/0009_000_01_0303morning_0015_0.jpg)",)
    folders = write_folders(tmp_path / "folders", people=4)
    for place, name in enumerate(("train", "train", "query", "gallery")):
        (folders / name).mkdir(exist_ok=True)
        person = f"person {'abcd'[place]}"
        (folders / person).rename(folders / name / person)
    save(folders / "val" / "x" / "cam1_1.jpg", 1)
    outcome = rrid_edge("prepare", "folders", folders, tmp_path / "out", "--num-val", "0")
    assert "left out: 1 image outside the folders of the dataset (val)" in outcome.err
    prid = load_dataset(write_prid(tmp_path / "prid"), num_val=0)
    assert "left out: 32 images outside the folders of the dataset (multi_shot)" in prid.remarks


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--num-val", "nan"), "num_val nan does not fit"),
        (("--num-val", "inf"), "num_val inf does not fit"),
        (("--test-share", "nan"), "test_share nan does not work"),
        (("--seed", "-1"), "seed -1 does not work"),
        (("--layout", "both"), "layout 'both' is unknown: expected one of auto, person-first, camera-first"),
    ],
    ids=["nan", "infinite", "share", "seed", "layout"],
)
def test_wrong_settings_are_refused(tmp_path, options, words):
    raw = write_folders(tmp_path / "raw")
    refused(rrid_edge("prepare", "folders", raw, tmp_path / "out", *options), 2, words, f"(option {options[0]})")


def test_a_file_of_splits_fits_the_rrid_layout_only(tmp_path):
    with pytest.raises(UsageError, match="a file of splits fits the RRID layout only, and this is viper"):
        load_dataset(write_viper(tmp_path / "raw"), splits_file="mine.json")


def test_names_that_are_no_utf8_are_prepared(tmp_path):
    raw = write_folders(tmp_path / "raw")
    for person in sorted(raw.iterdir()):
        person.rename(person.with_name(f"{person.name[-1]} \udce9\x1b[2J"))
    outcome = rrid_edge("prepare", "folders", raw, tmp_path / "out", "--num-val", "0", "--json")
    assert outcome.code == 0, outcome.err
    assert "\x1b" not in outcome.err
    assert r"6 people: a \udce9\x1b[2J (cameras 1, 2; a \udce9\x1b[2J/cam1_000.jpg, ...)" in outcome.err
    assert json.loads((tmp_path / "out" / "meta.json").read_text())["persons"]["1"] == r"a \udce9\x1b[2J"


def test_lists_that_are_no_files_or_lead_out_are_refused(tmp_path):
    root = write_msmt17(tmp_path / "raw")
    listed = root / "list_train.txt"
    outside = listed.rename(tmp_path / "list_train.txt")
    os.mkfifo(listed)
    with pytest.raises(DatasetError, match=r"list_train.txt: no ordinary file; expected a list of MSMT17"):
        load_dataset(root, dataset_type="msmt17")
    listed.unlink()
    listed.symlink_to(outside)
    with pytest.raises(DatasetError, match=r"list_train.txt is a link that leads out"):
        load_dataset(root)
    assert rrid_edge("prepare", "msmt17", root, tmp_path / "out", "--num-val", "0", "--follow-links").code == 0
    (tmp_path / "out" / "test.json").rename(tmp_path / "test.json")
    (tmp_path / "out" / "test.json").symlink_to(tmp_path / "test.json")
    with pytest.raises(DatasetError, match=r"test.json is a link that leads out"):
        load_dataset(tmp_path / "out")
