"""Reading datasets: the right images, and errors that name the first wrong entry and the number of them."""

from __future__ import annotations

import json

import pytest

from rrid_edge.errors import ArtefactError, DatasetError, UsageError
from rrid_train.data.layout import Dataset, Sample, load_dataset
from support.datasets import write_dataset
from support.pictures import noise


def _change(root, file, change):
    content = json.loads((root / file).read_text())
    change(content)
    (root / file).write_text(json.dumps(content))


def test_the_rrid_layout_is_read(tmp_path):
    data = load_dataset(write_dataset(tmp_path / "d"), num_val=1)
    assert data.name == "tiny"
    assert len(data.train) == 3 * 4
    assert sorted({sample.person for sample in data.train}) == [0, 1, 2]
    assert len({sample.person for sample in data.val_gallery}) == 1
    assert len(data.val_gallery) == 4
    assert len(data.val_query) == 2  # one a camera
    assert [len(data.query), len(data.gallery)] == [6, 6]
    assert {sample.person for sample in data.query} == {4, 5, 6}
    assert {sample.camera for sample in data.gallery} == {0, 1}


def test_held_out_persons_by_share_count_and_seed(tmp_path):
    root = write_dataset(tmp_path / "d", train=10)
    assert load_dataset(root, num_val=0.3).num_train_persons == 7
    assert load_dataset(root, num_val=4).num_train_persons == 6
    assert load_dataset(root, num_val=0).num_train_persons == 10
    assert load_dataset(root, seed=1).val_gallery != load_dataset(root, seed=2).val_gallery
    assert load_dataset(root, seed=1) == load_dataset(root, seed=1)
    with pytest.raises(UsageError, match=r"num_val 9 does not fit 10 people: .* leaves at least 2 people"):
        load_dataset(root, num_val=9)


def test_another_splits_file_and_split_are_read(tmp_path):
    root = write_dataset(tmp_path / "d")
    (root / "mine.json").write_text(json.dumps([{"trainval": [0, 1, 2, 3]}, {"trainval": [0, 1]}]))
    _change(root, "test.json", lambda content: content.append(content[0]))
    assert load_dataset(root, splits_file="mine.json", split=1, num_val=0).num_train_persons == 2
    with pytest.raises(UsageError, match="split 2 does not exist; expected 0 to 1"):
        load_dataset(root, splits_file="mine.json", split=2)


def _shared(content):
    content[0]["trainval"].append(5)


def _twice(content):
    content[0]["trainval"] += [0, 1]


def _unknown(content):
    content[0]["trainval"] += [77, 78]


def _two_people(content):
    content["identities"][1][0].append(content["identities"][0][0][0])


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("splits.json", _shared, r"person 00000005 is both in training and in test \(1 in all\)"),
        ("splits.json", _twice, r"person 0 is listed twice in trainval \(2 in all\)"),
        ("splits.json", _unknown, r"person 77 is not in meta.json, which has 7 \(2 in all\)"),
        ("meta.json", _two_people, r"'00000000_00_0000.jpg' is listed for persons 0 and 1"),
        (
            "test.json",
            lambda content: content[0]["gallery"].append(["00000000_00_0000.jpg", 6, 0]),
            r"'00000000_00_0000.jpg' is person 6, and person 0 in meta.json",
        ),
    ],
    ids=["shared", "twice", "unknown", "two people", "two labels"],
)
def test_contradictory_lists_are_refused(tmp_path, file, change, words):
    root = write_dataset(tmp_path / "d")
    _change(root, file, change)
    with pytest.raises(DatasetError, match=words):
        load_dataset(root)


def _row(*row):
    return lambda content: content[0]["query"].append(row)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("meta.json", lambda content: content.pop("identities"), r'expected "identities".*missing required field'),
        ("meta.json", lambda content: content["identities"][0].append([7]), r'expected "identities".*Expected str'),
        ("meta.json", lambda content: content.update(sequences=[1]), r'expected "identities".*sequences'),
        ("test.json", lambda content: content[0].pop("query"), r'expected \[{"query".*missing required field query'),
        ("test.json", _row("x.jpg", 1), r"expected .*\[file name, person, camera\].* length 3"),
        ("test.json", _row("x.jpg", 1.5, 0), r"Expected int, got float at .*\[0\].query"),
        ("test.json", _row("x.jpg", 10**30, 0), r"list of tests.*\[0\].query"),
        ("test.json", _row("x.jpg", -5, 0), r"int >= -1"),
        ("test.json", _row("", 5, 0), r"length >= 1"),
        ("splits.json", lambda content: content[0].update(trainval=[True]), r'expected \[{"trainval".*got bool'),
        ("splits.json", lambda content: content[0].update(trainval=[-1]), r"int >= 0"),
        ("splits.json", lambda content: content.append("x"), r"list of splits.*got str"),
    ],
    ids=[
        "no people", "number as name", "sequences", "no query", "short row", "fraction", "huge", "negative", "no name",
        "boolean", "negative person", "text",
    ],
)  # fmt: skip
def test_damaged_lists_are_refused_in_one_line(tmp_path, file, change, words):
    root = write_dataset(tmp_path / "d")
    _change(root, file, change)
    with pytest.raises(ArtefactError, match=words) as caught:
        load_dataset(root)
    assert caught.value.exit_code == 4
    assert caught.value.message.startswith(f"{root / file}: ")


@pytest.mark.parametrize("file", ["meta.json", "splits.json", "test.json"])
@pytest.mark.parametrize(
    "content", [b"[" * 200_000, b"\xff", b"", b"NaN", b"null"], ids=["deep", "binary", "empty", "nan", "null"]
)
def test_files_that_are_no_lists_are_refused(tmp_path, file, content):
    root = write_dataset(tmp_path / "d")
    (root / file).write_bytes(content)
    with pytest.raises(ArtefactError, match=f"{file}: damaged list"):
        load_dataset(root)


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../meta.json", "a/../../meta.json", "..", ".", "a\0b.jpg"),
        *("C:\\x.jpg", "..\\x.jpg", " ", "\ud800"),
    ],
    ids=["absolute", "above", "inside", "dots", "dot", "nul", "drive", "backslashes", "blank", "half a pair"],
)  # fmt: skip
@pytest.mark.parametrize("file", ["meta.json", "test.json"])
def test_names_stay_below_the_images(tmp_path, file, name):
    root = write_dataset(tmp_path / "d")

    def change(content):
        if file == "meta.json":
            content["identities"][0][0].append(name)
        else:
            content[0]["gallery"].append([name, 5, 0])

    _change(root, file, change)
    with pytest.raises(DatasetError, match=rf"{file}: the name .* does not stay below .*images; expected a relative"):
        load_dataset(root)


def test_links_that_lead_out_are_refused(tmp_path):
    root = write_dataset(tmp_path / "d")
    image = root / "images" / "00000004_01_0001.jpg"
    outside = image.rename(tmp_path / "private.jpg")
    image.symlink_to(outside)
    words = r"images/00000004_01_0001.jpg is a link that leads out of this folder \(1 in all\)"
    with pytest.raises(DatasetError, match=words):
        load_dataset(root)
    # A link to a file of the dataset, and the dataset's folder as a link, are no way out.
    image.unlink()
    outside.rename(root / "kept.jpg")
    image.symlink_to("../kept.jpg")
    (tmp_path / "link").symlink_to(root)
    assert len(load_dataset(tmp_path / "link", num_val=0).gallery) == 6
    (root / "images").rename(tmp_path / "elsewhere")
    (root / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=r"images is a link that leads out of this folder"):
        load_dataset(root)


def test_what_is_no_file_is_missing(tmp_path):
    root = write_dataset(tmp_path / "d")
    image = root / "images" / "00000004_01_0001.jpg"
    image.unlink()
    image.symlink_to(image.name)
    with pytest.raises(DatasetError, match=r"images/00000004_01_0001.jpg is listed but missing"):
        load_dataset(root)
    image.unlink()
    image.mkdir()
    _change(root, "test.json", _row("9" * 3000 + ".jpg", 5, 0))
    with pytest.raises(DatasetError, match=r"00000004_01_0001.jpg is listed but missing \(2 in all\)"):
        load_dataset(root)


def test_missing_images_and_invalid_json_are_refused(tmp_path):
    root = write_dataset(tmp_path / "d")
    for name in ("00000000_00_0000.jpg", "00000004_01_0001.jpg"):
        (root / "images" / name).unlink()
    with pytest.raises(DatasetError, match=r"images/00000000_00_0000.jpg is listed but missing \(2 in all\)"):
        load_dataset(root)
    (root / "splits.json").write_text("[{")
    with pytest.raises(ArtefactError, match=r"splits.json: damaged list of splits"):
        load_dataset(root)
    (root / "splits.json").unlink()
    with pytest.raises(DatasetError, match=r"splits.json: missing"):
        load_dataset(root)


def test_folders_without_a_dataset_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no such dataset folder"):
        load_dataset(tmp_path / "none")
    with pytest.raises(DatasetError, match="neither the RRID layout"):
        load_dataset(tmp_path)
    with pytest.raises(UsageError, match="dataset type 'voc' is unknown"):
        load_dataset(tmp_path, dataset_type="voc")


def _market(root, folder, *names):
    (root / folder).mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        noise(index, 64, 32).save(root / folder / name)


def test_market_folders_are_read_directly(tmp_path):
    """Junk (-1) and distractors (0000) stay in the gallery; training leaves them out."""
    train = ("0002_c1s1_000451_03.jpg", "0002_c2s1_000001_01.jpg", "0007_c3s2_000010_00.jpg", "0007_c1s2_000011_00.jpg")
    _market(tmp_path, "bounding_box_train", *train, "-1_c1s1_000001_00.jpg")
    _market(tmp_path, "query", "0001_c1s1_001051_00.jpg")
    gallery = ("0001_c2s1_000001_00.jpg", "-1_c2s1_000002_00.jpg", "0000_c3s1_000003_00.jpg")
    _market(tmp_path, "bounding_box_test", *gallery)
    data = load_dataset(tmp_path, num_val=0)
    assert sorted((sample.person, sample.camera) for sample in data.train) == [(0, 1), (0, 2), (1, 1), (1, 3)]
    assert [(sample.person, sample.camera) for sample in data.query] == [(1, 1)]
    assert sorted((sample.person, sample.camera) for sample in data.gallery) == [(-1, 2), (0, 3), (1, 2)]
    assert data.counts()["gallery"] == {"persons": 1, "images": 2, "distractors": 1, "junk": 1}
    assert [sample.person for sample in data.scored().gallery] == [0, 1]


def test_other_names_of_junk_are_read(tmp_path):
    _market(tmp_path, "bounding_box_train", "0002_c1s1_000001_00.jpg", "0003_c1s1_000001_00.jpg")
    _market(tmp_path, "query", "0001_c1s1_001051_00.jpg")
    _market(tmp_path, "bounding_box_test", "-0001_c2s1_000001_00.jpg", "0001_c2_1.jpg", "junk_c3s1_000001_00.jpg")
    data = load_dataset(tmp_path, num_val=0)
    assert [(sample.person, sample.camera) for sample in data.gallery] == [(-1, 2), (1, 2), (-1, 3)]
    assert data.explained() == ["gallery: 1 of 3 crops are scored: 1 of 1 person; 2 are junk"]


def test_market_1501_is_counted_as_published(tmp_path):
    """Zheng et al., ICCV 2015: 750 people, 3,368 queries, 19,732 crops: 3,819 junk, 2,798 distractors."""
    path = tmp_path / "x.jpg"
    query = tuple(Sample(path, 1 + number % 750, 1) for number in range(3368))
    gallery = tuple(
        Sample(path, person, 2)
        for person in (*(1 + number % 750 for number in range(13_115)), *[0] * 2798, *[-1] * 3819)
    )
    data = Dataset("market", tmp_path, (Sample(path, 0, 1), Sample(path, 1, 1)), (), (), query, gallery)
    lines = data.table().splitlines()
    assert [[cell.strip() for cell in line.split("|")] for line in lines[2:5]] == [
        ["train", "2", "2"],
        ["query", "750", "3,368"],
        ["gallery", "750", "15,913"],
    ]
    assert lines[5:] == [
        "gallery: 15,913 of 19,732 crops are scored: 13,115 of 750 people, 2,798 distractors; 3,819 are junk"
    ]
    assert len(data.scored().gallery) == 15_913


def test_a_held_out_person_0_is_a_person(tmp_path):
    """In the test lists 0 is a distractor, but all people to train on are people."""
    data = load_dataset(write_dataset(tmp_path / "d"), num_val=2, seed=5)
    held = {sample.path.name[:8] for sample in data.val_gallery}
    assert "00000000" in held
    assert sorted({sample.person for sample in data.val_gallery}) == [1, 2]
    assert data.counts()["val gallery"] == {"persons": 2, "images": 8}
    assert data.measurable("val").describe().startswith("query: 2 people, 2 cameras: 4 of 4 queries")


def test_dukemtmc_names_are_read(tmp_path):
    _market(tmp_path, "bounding_box_train", "0001_c2_f0046182.jpg", "0005_c1_f0051341.jpg")
    _market(tmp_path, "query", "0009_c1_f0051341.jpg")
    _market(tmp_path, "bounding_box_test", "0009_c6_f0000001.jpg")
    data = load_dataset(tmp_path, num_val=0)
    assert [(sample.person, sample.camera) for sample in data.gallery] == [(9, 6)]


def test_a_market_folder_with_other_names_is_refused(tmp_path):
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        _market(tmp_path, folder, "holiday.jpg")
    with pytest.raises(DatasetError, match=r"holiday.jpg is not named"):
        load_dataset(tmp_path)
