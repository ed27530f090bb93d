"""How ``adopt`` names the people and cameras of crops: folders, patterns and datasets."""

from __future__ import annotations

import json
import shlex
import shutil

import pytest

from rrid_edge.model.onnx_header import read_spec
from rrid_edge.parity.goldens import load_goldens
from rrid_export.adopt.labelled import labelled_files
from support.commands import refused, rrid_edge
from support.datasets import write_dataset
from support.foreign import ForeignFile
from support.pictures import save_crops

FACTS = ("--scale", 255, "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", "--no-flip")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Folders of 11 people, each with a crop of two cameras."""
    folder = tmp_path_factory.mktemp("people")
    sources = save_crops(folder / "source", 11)
    for number, source in enumerate(sources):
        (folder / f"p{number}").mkdir()
        for camera in (1, 2):
            shutil.copy(source, folder / f"p{number}" / f"cam{camera}_{number:03d}.jpg")
    shutil.rmtree(folder / "source")
    return folder


def test_people_are_folders_if_the_pattern_says_so(people, tmp_path):
    model = ForeignFile().write(tmp_path / "net.onnx")
    refused(
        rrid_edge("adopt", model, "--suggest", people, *FACTS), 2,
        "no crop has a known person", "with the pattern person-folders", "--pattern",
    )  # fmt: skip
    told = ("--pattern", "person-folders")
    outcome = rrid_edge("adopt", model, "-o", tmp_path / "out", "--suggest", people, *told, *FACTS, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert {name: found["sample"][name] for name in ("people", "cameras", "queries")} == {
        "people": 11, "cameras": 2, "queries": 22,
    }  # fmt: skip
    arguments = shlex.split(found["variants"][0]["command"])[1:]
    assert arguments[arguments.index("--pattern") + 1] == "person-folders"
    outcome = rrid_edge(*arguments)
    assert outcome.code == 0, outcome.err
    goldens = load_goldens(tmp_path / "out" / "net.goldens.npz")
    assert read_spec(tmp_path / "out" / "net.onnx").fingerprint == goldens.fingerprint
    assert len(set(goldens.labels.persons.tolist())) == 11
    assert set(goldens.labels.cameras.tolist()) == {1, 2}


def test_people_are_what_a_regular_expression_finds(people):
    files = labelled_files(people, r"p(?P<person>\d+)/cam(?P<camera>\d)")
    assert files.names[:2] == ("p0/cam1_000.jpg", "p0/cam2_000.jpg")
    assert files.labels.persons[:4].tolist() == [0, 0, 1, 1]
    assert files.labels.cameras[:4].tolist() == [1, 2, 1, 2]


def test_a_dataset_gives_its_test_split(tmp_path):
    root = write_dataset(tmp_path / "data", train=4, test=3)
    files = labelled_files(root, None)
    expected = {f"images/{person:08d}_{camera:02d}_{shot:04d}.jpg": (person, camera) for person in (4, 5, 6)
                for camera in (0, 1) for shot in (0, 1)}  # fmt: skip
    labels = zip(files.labels.persons.tolist(), files.labels.cameras.tolist(), strict=True)
    assert dict(zip(files.names, labels, strict=True)) == expected
    everybody = labelled_files(root, "auto")
    assert everybody.labels.people == 6  # of persons 0 to 6, and 0 is a distractor's label


def test_links_out_of_the_folder_are_followed_if_asked(people, tmp_path):
    (tmp_path / "crops").mkdir()
    for crop in sorted(people.glob("p*/*"))[:6]:
        (tmp_path / "crops" / f"{crop.parent.name}_{crop.name}").symlink_to(crop)
    assert labelled_files(tmp_path / "crops", "none").names == ()
    assert len(labelled_files(tmp_path / "crops", "none", follow_links=True).names) == 6


def test_a_pattern_without_crops_is_refused(tmp_path):
    model = ForeignFile().write(tmp_path / "net.onnx")
    refused(rrid_edge("adopt", model, "-o", tmp_path / "out", "--color", "rgb", *FACTS, "--pattern", "folders"), 2,
            "there are none", "--crops")  # fmt: skip
