"""Datasets in their exact original forms: right labels, and equal numbers from the original and the prepared form."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rrid_edge.crops.images import resize
from rrid_edge.engines import FakeEngine
from rrid_edge.errors import DatasetError
from rrid_edge.ranking.labels import LabelledCrops, Labels
from rrid_edge.ranking.metrics import RankingSettings, evaluate_descriptors
from rrid_export.evaluation import EvaluationSettings, evaluate
from rrid_train.data.cuhk03 import Cuhk03
from rrid_train.data.layout import load_dataset
from rrid_train.data.prepare import PrepareSettings, plan_dataset
from rrid_train.data.two_cameras import read_prid
from support.commands import refused, rrid_edge
from support.forms import write_camera_first, write_cuhk01, write_msmt17, write_prid, write_viper
from support.originals import DUKE, MARKET, write_cuhk03, write_folders, write_market


def _labels(samples):
    return Counter((sample.person, sample.camera) for sample in samples)


@pytest.mark.parametrize("version", [1, 2])
def test_msmt17_is_read_by_its_lists(tmp_path, version):
    data = load_dataset(write_msmt17(tmp_path / "MSMT17", version), num_val=0)
    assert data.name == "msmt17"
    # Training and validation list together: 4 people, cameras 1, 14 and 14.
    assert _labels(data.train) == {
        (person, camera): count for person in range(4) for camera, count in ((1, 1), (14, 2))
    }
    # Test people follow the 4 training people, who are 1 to 4: person 0 would be a distractor.
    assert _labels(data.query) == {(person, camera): 1 for person in (5, 6, 7) for camera in (1, 2)}
    assert _labels(data.gallery) == {(person, camera): 1 for person in (5, 6, 7) for camera in (1, 2, 15)}
    first = data.gallery[0]
    assert first.path.name == "0000_002_01_0303afternoon_0015_0.jpg"
    assert (first.person, first.camera, first.sequence) == (5, 1, "0303afternoon")


def test_msmt17_in_market_style_folders_numbers_both_parts_separately(tmp_path):
    folders = {
        "bounding_box_train": ["0000_c1_0001.jpg", "0000_c2_0002.jpg", "0001_c14_0003.jpg", "0002_c1_0004.jpg"],
        "query": ["0000_c1_0005.jpg"],
        "bounding_box_test": ["0000_c2_0006.jpg", "0002_c2_0007.jpg"],
    }
    raw = write_market(tmp_path / "raw", folders)
    data = load_dataset(raw, dataset_type="msmt17", num_val=0)
    assert _labels(data.train) == {(0, 1): 1, (0, 2): 1, (1, 14): 1, (2, 1): 1}
    assert (_labels(data.query), _labels(data.gallery)) == ({(4, 1): 1}, {(4, 2): 1, (6, 2): 1})
    with pytest.raises(DatasetError, match="or read it as msmt17 if its parts number their people separately"):
        load_dataset(raw, num_val=0)
    assert rrid_edge("prepare", "msmt17", raw, tmp_path / "out", "--combine-trainval").code == 0
    assert json.loads((tmp_path / "out" / "meta.json").read_text())["persons"]["4"] == "test 0000"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("list_train.txt", lambda lines: [*lines[:2], "0000/x.jpg"], "line 3: '0000/x.jpg' is not a path and a person"),
        ("list_val.txt", lambda lines: ["../../x_000_01_a.jpg 1", *lines], "line 1: the name '../../x_000_01_a.jpg'"),
        ("list_query.txt", lambda lines: [lines[0], "/etc/passwd 1"], "line 2: the name '/etc/passwd' does not stay"),
        ("list_query.txt", lambda lines: [lines[0].replace("_01_", "_xx_")], "line 1: '0000_000_xx_"),
        ("list_query.txt", lambda lines: [lines[0].replace(".jpg", ".txt")], "line 1: '0000_000_01_"),
        ("list_query.txt", lambda lines: [lines[0] + "9" * 20], "line 1: '0000/0000_000_01"),
        ("list_query.txt", lambda lines: [lines[0].replace("_01_", f"_{9**20}_")], "line 1: '0000_000_"),
        ("list_query.txt", lambda lines: [*lines, "", lines[0]], "line 7: '' is not a path"),
        ("list_query.txt", lambda lines: [*lines, lines[0]], "_0303morning_0015_0.jpg' is in line 1 too"),
        ("list_gallery.txt", lambda lines: [lines[0].replace("0000_002", "0000_777")], "listed but missing (1 in all)"),
        ("list_gallery.txt", lambda lines: [lines[0].replace(".jpg 0", ".jpg 2")], "listed for the persons 0 and 2"),
        ("list_val.txt", lambda lines: ["0000/0000_000_01_0303morning_0015_0.jpg 0"], "list_train.txt and in list_val"),
        ("list_gallery.txt", lambda lines: [], "list_gallery.txt: no lines"),
        ("list_gallery.txt", None, "list_gallery.txt: missing"),
    ],
    ids=[
        "no person", "dots", "absolute", "camera", "suffix", "long person", "long camera", "empty", "twice", "missing",
        "two persons", "two lists", "no lines", "no list",
    ],
)  # fmt: skip
def test_wrong_lists_of_msmt17_are_refused_by_line(tmp_path, name, change, words):
    root = write_msmt17(tmp_path / "raw")
    lines = (root / name).read_text().splitlines()
    (root / name).unlink()
    if change is not None:
        (root / name).write_text("\n".join(change(lines)))
    refused(rrid_edge("prepare", "msmt17", root, tmp_path / "out"), 2, words)


def test_bytes_that_are_no_text_are_named_by_line(tmp_path):
    root = write_msmt17(tmp_path / "raw")
    (root / "list_train.txt").write_bytes(b"\n".join([b"0000/0000_000_01_a_0015_0.jpg 0", b"\xff\xfe 1"]))
    with pytest.raises(DatasetError, match=r"list_train.txt: line 2: this is no UTF-8 text"):
        load_dataset(root)
    (root / "list_val.txt").unlink()
    (root / "test").rename(root / "elsewhere")
    with pytest.raises(DatasetError, match=r"neither of the folders test and mask_test_v2"):
        load_dataset(root)


def test_viper_draws_ten_halves(tmp_path):
    root = write_viper(tmp_path / "VIPeR", people=9)
    tests = []
    for split in range(10):
        data = load_dataset(root, split=split, num_val=0)
        assert (len(data.train), data.num_train_persons) == (8, 4)
        tested = {sample.person for sample in data.query}
        assert _labels(data.query) == {(person, 1): 1 for person in tested}
        assert _labels(data.gallery) == {(person, 2): 1 for person in tested}
        # Person 0 of the dataset is person 1, because 0 is a distractor.
        assert all(int(sample.path.name[:3]) + 1 == sample.person for sample in data.query)
        tests.append(frozenset(tested))
    assert len(set(tests)) > 5
    assert load_dataset(root, split=3, num_val=0) == load_dataset(root, split=3, num_val=0)
    assert load_dataset(tmp_path, split=3, num_val=0).query == load_dataset(root, split=3, num_val=0).query


def test_prid_has_distractors_in_the_second_camera_only(tmp_path):
    root = write_prid(tmp_path / "prid_2011")
    data = load_dataset(root, num_val=0)
    assert data.name == "prid2011-single"
    assert data.remarks == (
        "left out: 32 images outside the folders of the dataset (multi_shot)",
        "left out: 2 images of people who are in the first camera only",
    )
    tested = {sample.person for sample in data.query}
    assert len(tested) == 3
    assert tested < {1, 2, 3, 4, 5, 6}
    assert _labels(data.query) == {(person, 1): 1 for person in tested}
    assert _labels(data.gallery) == {**{(person, 2): 1 for person in tested}, (0, 2): 2}
    many = load_dataset(root / "multi_shot", num_val=0)
    assert many.name == "prid2011-multi"
    assert {sample.person for sample in many.query} == tested
    assert _labels(many.gallery) == {**{(person, 2): 2 for person in tested}, (0, 2): 4}
    assert {sample.sequence for sample in many.query} == {f"person_{person:04d}" for person in tested}
    assert read_prid(root, "multi").splits[0].query == many.query


def test_cuhk01_has_two_images_per_camera(tmp_path):
    data = load_dataset(write_cuhk01(tmp_path / "CUHK01"), dataset_type="cuhk01", num_val=0)
    tested = {sample.person for sample in data.query}
    assert len(tested) == 3
    assert _labels(data.query) == {(person, 1): 2 for person in tested}
    assert _labels(data.gallery) == {(person, 2): 2 for person in tested}


@pytest.mark.parametrize(
    ("kind", "write", "spoilt", "words"),
    [
        ("viper", write_viper, "cam_b/holiday.bmp", "cam_b: holiday.bmp is not named <person>_<angle>"),
        ("viper", write_viper, "cam_a/00099112233445566778890_45.bmp", "_45.bmp is not named <person>_<angle>"),
        ("prid2011", write_prid, "single_shot/cam_a/0001.png", "cam_a: 0001.png is not named person_<person>"),
        ("cuhk01", write_cuhk01, "campus/0001005.png", "0001005.png is not named <person 4 digits>"),
    ],
    ids=["viper", "viper number", "prid", "cuhk01"],
)
def test_other_names_are_refused(tmp_path, kind, write, spoilt, words):
    root = write(tmp_path / "raw")
    (root / spoilt).write_bytes(b"")
    refused(rrid_edge("prepare", kind, root, tmp_path / "out"), 2, words)


def _write_cuhk03_np(root: Path) -> Path:
    names = {
        "bounding_box_train": [f"{person:04d}_c{camera}_{camera}.png" for person in (1, 2, 3) for camera in (1, 2)],
        "query": ["0004_c1_1.png", "0005_c2_6.png"],
        "bounding_box_test": ["0004_c1_2.png", "0004_c2_7.png", "0005_c1_1.png", "0005_c2_7.png"],
    }
    return write_market(root / "labeled", names)


FORMS = {
    "market1501": lambda root: write_market(root, MARKET),
    "dukemtmc": lambda root: write_market(root, DUKE),
    "cuhk03": _write_cuhk03_np,
    "msmt17": write_msmt17,
    "viper": write_viper,
    "prid2011": write_prid,
    "cuhk01": write_cuhk01,
    "folders": lambda root: write_folders(root, people=7, cameras=3),
}


@pytest.mark.parametrize("same_camera", [False, True], ids=["cameras", "same camera"])
@pytest.mark.parametrize("kind", FORMS)
def test_prepared_and_original_form_give_equal_numbers(tmp_path, kind, same_camera):
    raw = FORMS[kind](tmp_path / "raw")
    source = tmp_path / "raw" if kind == "cuhk03" else raw
    outcome = rrid_edge("prepare", kind, source, tmp_path / "out", "--combine-trainval")
    assert outcome.code == 0, outcome.err
    settings = EvaluationSettings(RankingSettings(same_camera=same_camera, per_camera=True), fpr=(0.2,))
    splits = 10 if kind in ("viper", "prid2011", "cuhk01") else 1
    for split in range(0, splits, 4):
        direct = load_dataset(raw, dataset_type=kind, split=split, num_val=0)
        prepared = load_dataset(tmp_path / "out", split=split, num_val=0)
        for subset in ("train", "query", "gallery"):
            left, right = getattr(direct, subset), getattr(prepared, subset)
            assert [(s.person, s.camera, s.path.read_bytes()) for s in left] == [
                (s.person, s.camera, s.path.read_bytes()) for s in right
            ], subset
        if same_camera and not direct.measurable(same_camera=True).ranking:
            continue
        left, right = (evaluate(FakeEngine(), data, settings) for data in (direct, prepared))
        assert left.metrics == right.metrics
        assert left.thresholds is not None
        assert right.thresholds is not None
        assert left.thresholds.pairs.points == right.thresholds.pairs.points


def test_validation_people_are_the_same_in_both_forms(tmp_path):
    raw = write_msmt17(tmp_path / "raw")
    assert rrid_edge("prepare", "msmt17", raw, tmp_path / "out").code == 0
    direct, prepared = (load_dataset(root, num_val=1, seed=3) for root in (raw, tmp_path / "out"))
    for subset in ("train", "val_query", "val_gallery"):
        assert [sample.path.read_bytes() for sample in getattr(direct, subset)] == [
            sample.path.read_bytes() for sample in getattr(prepared, subset)
        ]


def test_prid_multi_shot_is_prepared_with_its_sequences(tmp_path):
    raw = write_prid(tmp_path / "raw")
    outcome = rrid_edge("prepare", "prid2011", raw, tmp_path / "out", "--images", "multi", "--combine-trainval")
    assert outcome.code == 0, outcome.err
    assert "left out: 4 images of people who are in the first camera only" in outcome.err
    prepared, direct = load_dataset(tmp_path / "out", num_val=0), load_dataset(raw / "multi_shot", num_val=0)
    assert [sample.sequence for sample in prepared.query] == [sample.sequence for sample in direct.query]
    refused(rrid_edge("prepare", "prid2011", raw, tmp_path / "no", "--images", "both"), 2, "(option --images)")


def test_crops_sorted_by_camera_are_refused_or_read_as_asked(tmp_path):
    raw = write_camera_first(tmp_path / "raw")
    outcome = rrid_edge("prepare", "folders", raw, tmp_path / "out")
    refused(outcome, 2, "these look like 3 cameras with 8 people each", "(cam01, cam02, cam03) has one camera",
            "repeat (person_a, person_b, person_c, ...)", "(option --layout)")  # fmt: skip
    assert not (tmp_path / "out").exists()
    outcome = rrid_edge("prepare", "folders", raw, tmp_path / "out", "--layout", "camera-first", "--combine-trainval")
    assert outcome.code == 0, outcome.err
    told = outcome.err.splitlines()[0]
    assert told.startswith("8 people: person_a (cameras 1, 2, 3; cam01/person_a/cam01_person_a_frame000.jpg, ...), ")
    data = load_dataset(tmp_path / "out", num_val=0)
    assert (len(data.train), data.num_train_persons, len(data.gallery), len(data.query)) == (24, 4, 24, 12)
    # Told to take the first folder as the person, it does, and says so.
    outcome = rrid_edge("prepare", "folders", raw, tmp_path / "as", "--layout", "person-first", "--num-val", "0",
                        "--test-share", "0.3")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert outcome.err.splitlines()[0].startswith("3 people: cam01 (cameras 1; cam01/person_a/cam01_person_a_frame000")
    assert "no query has a right answer in another camera; mAP and CMC cannot be measured" in outcome.err


@pytest.mark.parametrize(
    ("cameras", "people", "pattern", "words"),
    [
        (("lobby", "door", "gate"), "abcd", "auto", "3 cameras with 4 people each: each first folder (door, "),
        (("lobby", "door", "gate"), "abcd", "none", "3 cameras with 4 people each"),
        (("c1", "c2"), "abcd", r"(?P<camera>c\d)", "2 cameras with 4 people each"),
    ],
    ids=["words", "one camera", "pattern"],
)  # fmt: skip
def test_other_trees_sorted_by_camera_are_refused(tmp_path, cameras, people, pattern, words):
    raw = write_camera_first(tmp_path / "raw", cameras, people)
    plan = ("prepare", "folders", raw, tmp_path / "out")
    refused(rrid_edge(*plan, "--pattern", pattern), 2, words, "(option --layout)")
    outcome = rrid_edge(*plan, "--layout", "camera-first", "--combine-trainval")
    assert outcome.code == 0, outcome.err
    named = sorted(camera.removeprefix("c") for camera in cameras)
    assert f"4 people: person_a (cameras {', '.join(named)}; " in outcome.err


def test_people_of_one_camera_each_are_refused_where_first_folders_are_named_like_cameras(tmp_path):
    for camera, person in (("cam1", "ann"), ("cam2", "bob"), ("cam3", "cid")):
        write_camera_first(tmp_path / "raw", (camera,), (person,))
    refused(rrid_edge("prepare", "folders", tmp_path / "raw", tmp_path / "out"), 2, "3 cameras with 1 people each",
            "and is named like one")  # fmt: skip
    for path in sorted((tmp_path / "raw").rglob("*.jpg")):
        path.rename(path.parent.parent / path.name)

    refused(rrid_edge("prepare", "folders", tmp_path / "raw", tmp_path / "out"), 2,
            "these look like 3 cameras (cam1, cam2, cam3) without a folder per person")  # fmt: skip


def test_cameras_and_days_in_the_folders_of_people_are_read(tmp_path):
    """``anna/cam1/1.jpg`` repeats names of folders, and is person-first; so is ``anna/monday/cam1_1.jpg``."""
    write_camera_first(tmp_path / "raw", ("anna", "bert", "cora", "dora"), ("x",))
    for path in sorted((tmp_path / "raw").rglob("*.jpg")):
        for camera in ("cam1", "cam2"):
            (path.parent.parent / camera).mkdir(exist_ok=True)
            (path.parent.parent / camera / path.name).write_bytes(path.read_bytes())
        path.unlink()
    plan = plan_dataset(tmp_path / "raw", "folders", PrepareSettings(), None)  # type: ignore[arg-type]
    assert set(plan.labels) == {(person, camera) for person in (1, 2, 3, 4) for camera in (1, 2)}
    for path in sorted((tmp_path / "raw").rglob("*.jpg")):
        (path.parents[1] / "monday").mkdir(exist_ok=True)
        path.rename(path.parents[1] / "monday" / f"{path.parent.name}_{path.name[-7:]}")
    again = plan_dataset(tmp_path / "raw", "folders", PrepareSettings(), None)  # type: ignore[arg-type]
    assert sorted(again.labels) == sorted(plan.labels)


def test_one_image_in_a_wrong_folder_hides_no_tree_sorted_by_camera(tmp_path):
    raw = write_camera_first(tmp_path / "raw", ("lobby", "door"), "abcdef")
    for path in sorted((tmp_path / "raw").rglob("*.jpg")):
        path.rename(path.with_name(path.name.replace("lobby", "cam1").replace("door", "cam2")))
    wrong = next((raw / "lobby").rglob("*.jpg"))
    wrong.rename(raw / "door" / "person_a" / wrong.name)
    refused(rrid_edge("prepare", "folders", raw, tmp_path / "out"), 2, "2 cameras with 6 people each")


def test_pictures_of_cuhk03_evaluate_as_those_in_the_file(tmp_path):
    """The old protocol: queries and gallery are all images of the test people, so the query itself is left out."""
    mat = write_cuhk03(tmp_path / "cuhk-03.mat")
    assert rrid_edge("prepare", "cuhk03", mat, tmp_path / "out", "--combine-trainval").code == 0
    with Cuhk03(mat, "labeled") as dataset:
        tested = [picture for picture in dataset.pictures() if (picture.pair, picture.person) in dataset.test_sets()[1]]
        pixels = np.stack([resize(Image.fromarray(dataset.pixels(picture)), 192, 64) for picture in tested])
    data = load_dataset(tmp_path / "out", split=1, num_val=0)
    result = evaluate(FakeEngine(), data, EvaluationSettings(RankingSettings(protocol="cuhk03"), fpr=(0.2,)))
    descriptors = FakeEngine().run(pixels)
    labels = Labels.of([picture.person for picture in tested], [picture.camera for picture in tested])
    crops = LabelledCrops(descriptors, labels)
    expected = evaluate_descriptors(crops, crops, RankingSettings(protocol="cuhk03"))
    assert result.metrics.mean_ap == pytest.approx(expected.mean_ap, abs=1e-12)
    assert result.metrics.cmc == pytest.approx(expected.cmc, abs=1e-12)
    assert result.metrics.valid_queries == 16


@pytest.mark.parametrize(
    ("camera", "words"), [("cam1", "named like one"), ("lobby", "holds several folders (person_a, ")]
)
def test_one_camera_with_folders_of_people_is_refused_or_read_as_asked(tmp_path, camera, words):
    raw = write_camera_first(tmp_path / "raw", (camera,), "abcd")
    refused(rrid_edge("prepare", "folders", raw, tmp_path / "out"), 2, "this looks like 1 camera with 4 people", words)
    outcome = rrid_edge("prepare", "folders", raw, tmp_path / "out", "--layout", "camera-first", "--num-val", "0")
    assert outcome.code == 0, outcome.err
    assert "2 people, 1 camera: no query has a right answer in another camera" in outcome.err
