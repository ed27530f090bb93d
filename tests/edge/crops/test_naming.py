"""Person, camera, time, frame and track from file names."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rrid_edge.crops.naming import (
    FOLDER_PRESETS,
    PRESETS,
    NameFacts,
    camera_name,
    label_kind,
    name_reader,
    natural_order,
    read_labels,
)
from rrid_edge.errors import UsageError

NOON = int(datetime(2026, 11, 25, 17, 30, 15, tzinfo=timezone.utc).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("pattern", "path", "facts"),
    [
        ("auto", "0002_c1s1_000451_03.jpg", NameFacts("0002", "1", frame=451)),
        ("auto", "a/-1_c6s4_002202_01.jpg", NameFacts("-1", "6", frame=2202)),
        ("auto", "0005_c2_f0046985.jpg", NameFacts("0005", "2", frame=46985)),
        ("auto", "00000012_03_0001.jpg", NameFacts("00000012", "3")),
        ("auto", "0002_c01s1_000451_03.jpg", NameFacts("0002", "1", frame=451)),
        ("auto", "0002_c000s1_000451_03.jpg", NameFacts("0002", "0", frame=451)),
        ("auto", "12345_c1s1_000001_01.jpg", NameFacts("12345", "1", frame=1)),
        ("auto", "00012_c3_f0001.jpg", NameFacts("00012", "3", frame=1)),
        ("auto", "-1_c3_f0001.jpg", NameFacts("-1", "3", frame=1)),
        ("auto", "test/0012/0012_007_14_0113noon_2159_3.jpg", NameFacts("0012", "14", frame=2159)),
        ("auto", "0000_000_01_0303morning_0015_0_ex.jpg", NameFacts("0000", "1", frame=15)),
        ("auto", "0776_c020_00084190_0.jpg", NameFacts("0776", "20", frame=84190)),
        ("auto", "labeled/query/0003_c1_21.png", NameFacts("0003", "1")),
        ("auto", "0001/0001C6T0012F003.jpg", NameFacts("0001", "6", frame=3, track="0012")),
        ("auto", "00-1/00-1C1T0002F017.jpg", NameFacts("-1", "1", frame=17, track="0002")),
        ("auto", "cam1/person001/cam1_person001_00317.png", NameFacts("001", "1", frame=317)),
        ("auto", "images/cam2/person319/cam2_person319.png", NameFacts("319", "2")),
        ("auto", "single_shot/cam_a/person_0001.png", NameFacts("0001", "a")),
        ("auto", "multi_shot/cam_b/person_0749/0021.png", NameFacts("0749", "b", frame=21)),
        ("auto", "cam_b/person_0749/0021.png", NameFacts("0749", "b", frame=21)),
        ("auto", "00000012_103_12345.jpg", NameFacts("00000012", "103")),
        ("auto", "-0000001_03_0001.jpg", NameFacts("-0000001", "3")),
        ("auto", "images/junk_03_0001.jpg", NameFacts("junk", "3")),
        ("auto", "junk_0001.jpg", NameFacts()),
        ("auto", "gallery/junk_c2s1_000001_00.jpg", NameFacts("junk", "2", frame=1)),
        ("auto", "junk_c3_f0001.jpg", NameFacts("junk", "3", frame=1)),
        ("auto", "junk_c3_1.jpg", NameFacts("junk", "3")),
        ("auto", "-0001_c1s1_000401_03.jpg", NameFacts("-0001", "1", frame=401)),
        ("auto", "-001_c3_f0001.jpg", NameFacts("-001", "3", frame=1)),
        ("auto", "-01_c3_1.jpg", NameFacts("-01", "3")),
        ("auto", "VIPeR/cam_a/000_45.bmp", NameFacts()),
        ("viper", "VIPeR/cam_a/000_45.bmp", NameFacts("000", "a")),
        ("viper", "000_45.bmp", NameFacts()),
        ("auto", "0002_c1s1_000451_03_old/notes.jpg", NameFacts()),
        ("auto", "20261125_173015.jpg", NameFacts()),
        ("auto", "20261125_1730_0001.jpg", NameFacts()),
        ("auto", "20261125_c2_173015.jpg", NameFacts()),
        ("auto", "20261125_c002_17301500_1.jpg", NameFacts()),
        ("rrid", "20261125_03_0001.jpg", NameFacts("20261125", "3")),
        ("auto", "portrait.jpg", NameFacts()),
        ("cuhk03", "1_001_2_07.png", NameFacts("1_001", "2")),
        ("none", "0002_c1s1_000451_03.jpg", NameFacts()),
        (r"(?P<camera>[\w-]+)/", "dock-2/7.jpg", NameFacts(camera="dock-2")),
        (r"(?P<camera>c\d+)_", "c01_7.jpg", NameFacts(camera="c01")),
        (r"cam(?P<camera>\d+)_t(?P<track>\w+)_(?P<time>\d+)", "cam2_t007_451.x",
         NameFacts(None, "2", None, 451, "007")),
        (r"(?P<time>.+)\.jpg", "2026-11-25T17-30-15.jpg", NameFacts(time=NOON)),
        (r"(?P<time>\d+_\d+)_(?P<frame>\d+)", "20261125_173015_09.jpg", NameFacts(time=NOON, frame=9)),
        (r"(?P<time>\d+)_(?P<frame>\d+)", "12_9.jpg", NameFacts(frame=9)),
        (r"(?P<time>\w+)\.", "noon.jpg", NameFacts()),
        (r"_(?P<time>.+)", "a_2026-11-25T17-30-15.jpeg", NameFacts(time=NOON)),
        (r"_(?P<time>.+)", "a_2026-11-25T17:30:15.25.JPG", NameFacts(time=NOON + 250_000)),
        (r"_(?P<frame>.+)", "a_000451.jpg", NameFacts(frame=451)),
        (r"(?P<person>\d*)_(?P<camera>x)?", "_y.jpg", NameFacts()),
        ("person-folders", "anna/c2_001.jpg", NameFacts("anna", "2")),
        ("person-folders", "c3/cam02/7.jpg", NameFacts("c3", "2")),
        ("person-folders", "c3/7.jpg", NameFacts("c3")),
        ("person-folders", "anna/0002_c1s1_000451_03.jpg", NameFacts("anna", "1", frame=451)),
        ("person-folders", "anna/lobby_20261125_173015.jpg", NameFacts("anna", time=NOON)),
        ("person-folders", "7.jpg", NameFacts()),
        ("camera-folders", "lobby/0002_c1s1_000451_03.jpg", NameFacts("0002", "lobby", frame=451)),
        ("camera-folders", "cam01/x.jpg", NameFacts(camera="1")),
        ("camera-folders", "007/20261125_173015_4.jpg", NameFacts(camera="7", time=NOON)),
        ("camera-folders", "x_c4.jpg", NameFacts(camera="4")),
        ("folders", "cam01/anna/1.jpg", NameFacts("anna", "1")),
        ("folders", "anna/camera-lobby/1.jpg", NameFacts("anna", "camera-lobby")),
        ("folders", "C3/1.jpg", NameFacts(camera="3")),
        ("folders", "camilla/1.jpg", NameFacts("camilla")),
        ("folders", "anna/c2_001.jpg", NameFacts("anna", "2")),
    ],
)  # fmt: skip
def test_facts_of_names(pattern, path, facts):
    assert name_reader(pattern)(path) == facts


def test_numbers_that_do_not_fit_never_raise():
    read = name_reader(r"cam(?P<camera>\d+)_(?P<time>\d+)")
    assert read("cam2_20261125173015123450.jpg") == NameFacts(camera="2", time=NOON + 123_450)
    assert read("cam2_99999999999999999999.jpg") == NameFacts(camera="2")
    assert read(f"cam2_{2**62}.jpg") == NameFacts(camera="2")
    assert read("cam99112233445566778890_1.jpg") == NameFacts(camera="99112233445566778890", frame=1)
    assert read("cam" + "9" * 5000 + "_" + "8" * 5000) == NameFacts()
    assert name_reader()("0002_c1s1_99999999999999999999_03.jpg") == NameFacts("0002", "1")


def test_names_that_are_no_utf8_can_be_stored():
    facts = name_reader(r"(?P<person>[^/]+)/(?P<camera>[^_]+)_")("jos\udce9/caf\udce9_1.jpg")
    assert facts == NameFacts("jos\\udce9", "caf\\udce9")


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw compiles the expression, on a busy machine too
@given(st.text(max_size=60) | st.from_regex(r"(c|cam|[0-9]){1,30}/?[0-9_cs-]{0,40}\.jpg"))
def test_no_path_raises(path):
    for pattern in ("auto", "none", *PRESETS, *FOLDER_PRESETS, r"(?P<camera>.*)_(?P<time>.*)_(?P<person>.*)"):
        facts = name_reader(pattern)(path)
        for text in (facts.person, facts.camera, facts.track):
            assert text is None or text.encode("utf-8")
        for number in (facts.time, facts.frame):
            assert number is None or abs(number) < 2**62


def test_camera_names():
    names = {"01": "1", "0": "0", "000": "0", "dock-2": "dock-2", "c01": "c01", "": None, "x" * 1001: None}
    assert {text: camera_name(text) for text in names} == names


def test_refused_patterns():
    with pytest.raises(UsageError, match=r"is not a regular expression .*presets: market1501, .*folders, none"):
        name_reader("(?P<camera>")
    with pytest.raises(UsageError, match=r"no named group: expected one of .*\(\?P<time>.*\(\?P<track>"):
        name_reader(r"(?P<cam>\d+)")


def test_labels_keep_whole_numbers_and_number_other_names():
    names = ["p/-1_c2", "p/anna_clobby", "p/7_c03", "p/bert_cdock", "p/anna_c2", "x"]
    persons, cameras = read_labels(names, r"p/(?P<person>.+)_c(?P<camera>.+)")
    assert persons.dtype == cameras.dtype == np.int64
    assert persons.tolist() == [-1, 1_000_000, 7, 1_000_001, 1_000_000, -1]
    assert cameras.tolist() == [2, 1_000_001, 3, 1_000_000, 2, -1]


def test_labels_never_share_a_number_and_never_overflow():
    names = ["1000000_c1", "anna_c2", "1000001_c1000000", "99112233445566778890_clobby", "9_c99112233445566778890"]
    persons, cameras = read_labels(names, r"(?P<person>.+)_c(?P<camera>.+)")
    assert persons.tolist() == [1_000_000, 1_000_003, 1_000_001, 1_000_002, 9]
    assert cameras.tolist() == [1, 2, 1_000_000, 1_000_002, 1_000_001]


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("unknown", (None, "")),
        ("person", ("0002", "1", "10", "anna", "0x", "junkie", "1_000", "-anna", "99112233445566778890")),
        ("junk", ("-1", "-0001", "-0000001", "-2", "junk", "Junk")),
        ("distractor", ("0", "0000", "00000000", "distractor")),
    ],
)
def test_junk_and_distractors_are_no_people(kind, labels):
    assert {label_kind(label) for label in labels} == {kind}


@pytest.mark.parametrize(
    ("name", "person", "kind"),
    [
        ("test/0000/0000_000_01_0303morning_0015_0.jpg", "0000", "person"),
        ("data/cam_a/000_45.bmp", "000", "person"),
        ("0000_c1s1_000151_01.jpg", "0000", "distractor"),
        ("00000000_01_0000.jpg", "00000000", "distractor"),
        ("0000/0000C6T0012F003.jpg", "0000", "distractor"),
        # A label that does not come from the name.
        ("test/0000/0000_000_01_0303morning_0015_0.jpg", "0", "distractor"),
        ("test/0000/0000_000_01_0303morning_0015_0.jpg", "-1", "junk"),
        ("test/0012/0012_007_14_0113noon_2159_3.jpg", "0000", "distractor"),
    ],
)
def test_person_0_is_a_person_where_a_dataset_numbers_people_from_0(name, person, kind):
    assert label_kind(person, name) == kind


def test_labels_of_junk_distractors_and_persons_numbered_from_0():
    names = ["-0001_c1s1_000401_03.jpg", "junk_02_0000.jpg", "0000_c1s1_000151_01.jpg", "00000000_03_0000.jpg",
             "0000_000_01_0303morning_0015_0.jpg", "0001_c1s1_000151_01.jpg", "x.jpg"]  # fmt: skip
    persons, _ = read_labels(names)
    assert persons.tolist() == [-1, -1, 0, 0, 1_000_000, 1, -1]
    assert read_labels(["cam_b/000_90.bmp", "cam_b/001_90.bmp"], "viper")[0].tolist() == [1_000_000, 1]


def test_names_have_a_natural_order_and_the_unknown_one_is_last():
    names = [None, "lobby", "cam10", "10", "", "cam2", "2", "02b"]
    assert sorted(names, key=natural_order) == ["", "2", "02b", "10", "cam2", "cam10", "lobby", None]
