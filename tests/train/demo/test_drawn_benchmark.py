"""The drawn benchmark: junk, distractors, wrong labels, unequal numbers of images, and groups in the same clothes."""

import dataclasses
import io
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rrid_edge.cli.app import run
from rrid_edge.crops.naming import read_labels
from rrid_train.data.layout import load_dataset
from rrid_train.demo.people import draw_people
from rrid_train.demo.plan import DemoPlan, plan_demo
from rrid_train.demo.shots import Shot
from rrid_train.demo.synthetic import DemoConfig, write_demo_data

LARGE = DemoConfig(people=400, junk=True, distractors=True)
SMALL = DemoConfig(seed=3, people=16, cameras=3, images_per_camera=2, junk=True, distractors=True, label_noise=0.05)
BAD_BOXES = {"cut", "two", "shifted", "wide", "background"}


@pytest.fixture(scope="module")
def large():
    return plan_demo(LARGE)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn") / "data"
    summary = write_demo_data(out, SMALL)
    return out, summary, json.loads((out / "demo.json").read_text(encoding="utf-8"))


def labelled(plan: DemoPlan, person: int) -> list[Shot]:
    return [shot for shot in plan.images if shot.label[0] == person]


def test_the_gallery_has_the_shares_of_market_1501(large):
    test = [shot for shot in large.images if shot.person >= 200]
    gallery = [shot for shot in test if not shot.query]
    assert len(test) - len(gallery) > 700
    assert len(labelled(large, -1)) / len(gallery) == pytest.approx(3819 / 19732, abs=1e-3)
    assert len(labelled(large, 0)) / len(gallery) == pytest.approx(2798 / 19732, abs=1e-3)
    strays = Counter(shot.label[0] for shot in large.gallery)
    assert strays[-1] / len(large.gallery) == pytest.approx(3819 / 19732, abs=1e-3)
    assert strays[0] / len(large.gallery) == pytest.approx(2798 / 19732, abs=1e-3)
    assert len({shot.name for shot in large.shots()}) == len(list(large.shots()))


@pytest.mark.parametrize(("left_out", "other"), [("junk", -1), ("distractors", 0)])
def test_each_flag_adds_its_own_crops_to_the_same_people(left_out, other):
    both, one = plan_demo(SMALL), plan_demo(dataclasses.replace(SMALL, **{left_out: False}))
    assert labelled(both, other)
    assert not labelled(one, other)
    assert [shot for shot in both.images if shot.label[0] != other] == list(one.images)


def test_half_of_the_people_are_for_testing_and_numbers_begin_with_1(large):
    assert {shot.label[0] for shot in large.images} == {*range(-1, 401)}
    assert {shot.person for shot in large.images if shot.query} == {*range(200, 400)}
    assert (DemoConfig(people=400).training_people, LARGE.training_people) == (267, 200)


def test_people_miss_cameras_and_have_1_to_6_images_in_the_others(large):
    people = [shot for shot in large.images if shot.label[0] > 0]
    per_camera = Counter((shot.person, shot.camera) for shot in people)
    assert {*per_camera.values()} == {1, 2, 3, 4, 5, 6}
    cameras = Counter(person for person, _ in per_camera)
    assert set(cameras) == {*range(400)}
    assert min(cameras.values()) >= 2
    assert 150 < sum(count < 6 for count in cameras.values()) < 390


def test_every_query_has_a_right_answer_in_another_camera(large):
    answers = {(shot.label[0], shot.label[1]) for shot in large.images if not shot.query and shot.label[0] > 200}
    for query in (shot for shot in large.images if shot.query):
        assert any((query.label[0], camera) in answers for camera in range(1, 7) if camera != query.label[1])
        assert query.label == (query.person + 1, query.camera + 1)


def test_a_told_share_of_the_labels_is_wrong_and_stays_within_its_half(large):
    people = [shot for shot in large.images if shot.label[0] > 0]
    wrong = [shot for shot in people if shot.label != (shot.person + 1, shot.camera + 1)]
    assert len(wrong) == round(0.005 * len(people))
    persons = [shot for shot in wrong if shot.label[0] != shot.person + 1]
    assert len(persons) == pytest.approx(len(wrong) / 2, abs=1)
    assert all((shot.label[0] <= 200) == (shot.person < 200) for shot in persons)
    assert all(shot.label[1] == shot.camera + 1 for shot in persons)
    clean = plan_demo(dataclasses.replace(SMALL, label_noise=0.0))
    assert all(shot.label[0] <= 0 or shot.label == (shot.person + 1, shot.camera + 1) for shot in clean.images)


def test_plain_demo_data_can_have_wrong_labels_too():
    plain = DemoConfig(people=9, cameras=2)
    assert all(shot.label == (shot.person, shot.camera + 1) for shot in plan_demo(plain).images)
    noisy = plan_demo(dataclasses.replace(plain, label_noise=0.1))
    wrong = [shot for shot in noisy.images if shot.label != (shot.person, shot.camera + 1)]
    assert len(wrong) == round(0.1 * 54)
    assert Counter(shot.name for shot in noisy.images).most_common(1)[0][1] == 1


def test_groups_wear_the_same_clothes_and_are_people_of_one_half(large):
    groups = large.crowd.groups
    assert len(groups) >= 16
    before, _ = draw_people(LARGE)
    in_pairs = {person for pair in large.crowd.twins for person in pair.people}
    for group in groups:
        members = [large.crowd.person(person) for person in group]
        assert len({(member.upper, member.lower, member.hat) for member in members}) == 1
        assert len({(member.build, member.skin) for member in members}) == len(group) > 1
        assert len({person < 200 for person in group}) == 1
        assert not in_pairs & {*group}
        assert members[0] == before[group[0]]


def test_strangers_are_nobody_else_and_some_wear_the_clothes_of_a_group(large):
    crowd = large.crowd
    assert len(crowd.strangers) > 50
    assert not {*crowd.strangers} & {*crowd.people}
    uniforms = {crowd.person(group[0]).upper for group in crowd.groups}
    assert 0.1 < np.mean([stranger.upper in uniforms for stranger in crowd.strangers]) < 0.5
    assert all(shot.person >= 400 for shot in labelled(large, 0))
    assert {shot.kind for shot in labelled(large, -1)} == BAD_BOXES
    assert {shot.kind for shot in labelled(large, 0)} == {"person", "background", "cut", "shifted"}


def test_the_folder_loads_as_a_dataset_with_its_labels(drawn):
    out, summary, _ = drawn
    dataset = load_dataset(out)
    persons = Counter(sample.person for sample in dataset.gallery)
    assert persons[-1] == summary.junk > 0
    assert persons[0] == summary.distractors > 0
    assert {sample.person for sample in dataset.query} == {*range(9, 17)}
    assert len(dataset.train) + len(dataset.val_gallery) + len(dataset.query) + len(dataset.gallery) == summary.images
    assert sorted(path.name for path in (out / "images").iterdir()) == sorted(
        sample.path.name for sample in (*dataset.train, *dataset.val_gallery, *dataset.query, *dataset.gallery)
    )


def test_the_names_in_gallery_tell_junk_and_distractors(drawn):
    out, _, facts = drawn
    names = sorted(path.name for path in (out / "gallery").iterdir())
    assert not any(name.startswith("-") for name in names)
    persons, cameras = read_labels(names)
    shown = {Path(crop["file"]).name for crop in facts["junk"]}
    strangers = {Path(crop["file"]).name for crop in facts["distractors"]}
    assert {name for name, person in zip(names, persons, strict=True) if person == -1} == shown & {*names}
    assert {name for name, person in zip(names, persons, strict=True) if person == 0} == strangers & {*names}
    assert {*cameras.tolist()} == {1, 2, 3}


def test_demo_json_tells_what_is_true(drawn):
    out, summary, facts = drawn
    assert facts["first_person"] == 1
    assert len(facts["wrong_labels"]) == summary.wrong_labels > 0
    for wrong in facts["wrong_labels"]:
        person, camera = (int(part) for part in re.findall(r"\d+", wrong["file"])[:2])
        assert (person == wrong["true_person"]) != (camera == wrong["true_camera"])
        assert (out / wrong["file"]).is_file()
    for crop in (*facts["junk"], *facts["distractors"]):
        assert (out / crop["file"]).is_file()
    assert all(9 <= crop["person"] <= 16 for crop in facts["junk"])
    assert all(crop["stranger"] < len(facts["strangers"]) for crop in facts["distractors"])
    assert {person for group in facts["groups"] for person in group["people"]} <= {*range(1, 17)}


def test_the_same_settings_give_the_same_bytes(drawn):
    out, _, _ = drawn
    plan = plan_demo(SMALL)
    for shot in (*plan.images[::9], *plan.gallery[::9]):
        assert (out / shot.name).read_bytes() == plan.draw(shot)


def pixels(jpeg: bytes):
    return np.asarray(Image.open(io.BytesIO(jpeg)), dtype=np.float64)


def test_boxes_light_and_sharpness_vary_more_than_in_plain_demo_data():
    """Pictures of one person in one camera: the spread of their mean brightness, and the least sharp of them."""
    person = [Shot("", 0, 1, number, (1, 1)) for number in range(40)]
    spreads, edges = [], []
    for config in (DemoConfig(people=6, cameras=2), DemoConfig(people=6, cameras=2, junk=True)):
        plan = plan_demo(config)
        pictures = [pixels(plan.draw(shot)) for shot in person]
        spreads.append(np.std([picture.mean() for picture in pictures]))
        edges.append(np.min([np.abs(np.diff(picture, axis=1)).mean() for picture in pictures]))
    assert spreads[1] > 1.5 * spreads[0]
    assert edges[1] < 0.7 * edges[0]


def test_the_command_draws_a_benchmark_and_prints_its_counts(tmp_path, capsys):
    options = ["--people", "6", "--cameras", "2", "--images-per-camera", "2", "--junk", "--distractors"]
    assert run(["demo-data", str(tmp_path / "a"), *options]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"3 people to train on, 3 other people to test on", printed)
    assert re.search(r"\d junk crops, \d distractors, 0 wrong labels", printed)
    assert run(["demo-data", str(tmp_path / "a"), "--label-noise", "0.5"]) == 2
    assert capsys.readouterr().err == (
        "rrid-edge: label noise 0.5 does not work: expected a share of 0 to 0.2 (option --label-noise)\n"
    )
