"""The demo data: reproducible bytes, a valid layout, near-twins, and a difficulty between trivial and hopeless."""

import dataclasses
import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rrid_edge.cli.app import run
from rrid_edge.errors import OutputError, UsageError
from rrid_train.demo.pedestrian import TWIN_PARTS, Person
from rrid_train.demo.people import draw_people
from rrid_train.demo.plan import plan_demo
from rrid_train.demo.synthetic import DemoConfig, count_files, write_demo_data
from support.progress import CountedProgress

CONFIG = DemoConfig(seed=5, people=30, cameras=4, images_per_camera=2)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "data"
    write_demo_data(out, CONFIG)
    return out


def hashes(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_same_seed_gives_the_same_bytes_in_another_process(demo, tmp_path):
    config = ", ".join(f"{key}={value}" for key, value in dataclasses.asdict(CONFIG).items())
    code = (
        "import sys, pathlib; from rrid_train.demo.synthetic import *; "
        f"write_demo_data(pathlib.Path(sys.argv[1]), DemoConfig({config}))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again")], check=True, env={"PYTHONHASHSEED": "99"})
    assert hashes(tmp_path / "again") == hashes(demo)


def test_another_seed_gives_other_people(tmp_path):
    small = DemoConfig(people=6, cameras=2, images_per_camera=2)
    write_demo_data(tmp_path / "a", small)
    write_demo_data(tmp_path / "b", dataclasses.replace(small, seed=1))
    a, b = hashes(tmp_path / "a"), hashes(tmp_path / "b")
    assert a.keys() == b.keys()
    assert not {name for name in a if name.endswith(".jpg") and a[name] == b[name]}


def test_drawing_does_not_need_torch():
    code = "import sys; import rrid_train.demo.synthetic; assert not {'torch', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_dataset_lists_exactly_the_files_that_exist(demo):
    meta = read(demo / "meta.json")
    listed = [name for cameras in meta["identities"] for names in cameras for name in names]
    assert len(meta["identities"]) == 30
    # Cameras count from 1, as in the names of gallery/.
    assert all(list(map(len, cameras)) == [0, 2, 2, 2, 2] for cameras in meta["identities"])
    assert meta["persons"] == {str(person): f"{person:04d}" for person in range(30)}
    assert sorted(listed) == sorted(path.name for path in (demo / "images").iterdir())
    for person, cameras in enumerate(meta["identities"]):
        for camera, names in enumerate(cameras):
            for name in names:
                assert re.fullmatch(rf"{person:08d}_{camera:02d}_\d{{4}}\.jpg", name)


def test_training_and_test_people_are_disjoint_and_complete(demo):
    (split,) = read(demo / "splits.json")
    assert split["trainval"] == list(range(20))
    assert split["query"] == split["gallery"] == list(range(20, 30))
    (test,) = read(demo / "test.json")
    assert len(test["query"]) == 10 * 4
    assert len(test["gallery"]) == 10 * 4
    names = [name for part in ("query", "gallery") for name, _, _ in test[part]]
    assert len(set(names)) == len(names)
    for part in ("query", "gallery"):
        for name, person, camera in test[part]:
            assert person in split[part]
            assert name.startswith(f"{person:08d}_{camera:02d}_")
            assert (demo / "images" / name).is_file()


def test_every_picture_is_a_64_x_128_jpeg(demo):
    pictures = list(demo.rglob("*.jpg"))
    assert len(pictures) == count_files(CONFIG)
    for path in pictures:
        with Image.open(path) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 128))
    assert len(set(hashes(demo).values())) == len(hashes(demo))  # no two files alike


def test_the_gallery_shows_the_query_people_in_other_cameras_only(demo):
    truth = read(demo / "demo.json")
    assert truth["complete"] is True
    gallery = [re.fullmatch(r"(\d{4})_c(\d+)s1_\d{6}_00\.jpg", path.name) for path in (demo / "gallery").iterdir()]
    assert None not in gallery
    seen = [(match[1], int(match[2])) for match in gallery if match]
    assert len(seen) == len(set(seen)) == 10 * 4 - 2
    assert {person for person, _ in seen} == {f"{person:04d}" for person in range(20, 30)}
    for question in (truth["query"], truth["queries"]):
        assert (question["person"], question["camera"]) not in seen
        assert sum(person == question["person"] for person, _ in seen) == 3
    name = re.fullmatch(r"query/(\d{4})_c(\d+)s1_\d{6}_00\.jpg", truth["query"]["file"])
    assert name
    assert (name[1], int(name[2])) == (truth["query"]["person"], truth["query"]["camera"])
    assert [path.name for path in (demo / "query").iterdir()] == [Path(truth["query"]["file"]).name]
    files = truth["queries"]["files"]
    assert sorted(files) == sorted(f"queries/{path.name}" for path in (demo / "queries").iterdir())
    assert len(files) == 3
    for name in files:
        assert Path(name).name.startswith(f"{truth['queries']['person']}_c{truth['queries']['camera']}s1_")


@pytest.mark.parametrize("seed", range(8))
def test_the_near_twin_of_the_query_is_named_with_the_part_in_which_they_differ(seed, tmp_path):
    config = DemoConfig(seed=seed, people=18, cameras=2, images_per_camera=2)
    summary = write_demo_data(tmp_path, config)
    people, _ = draw_people(config)
    query = people[int(summary.query_person)]
    differing = {
        f"{number:04d}": [
            f.name for f in dataclasses.fields(Person) if getattr(query, f.name) != getattr(other, f.name)
        ]
        for number, other in enumerate(people)
    }
    (twin,) = [number for number, parts in differing.items() if len(parts) == 1]
    (part,) = differing[twin]
    assert (summary.query_twin, summary.query_twin_differs_in) == (twin, part)
    assert read(tmp_path / "demo.json")["query"]["near_twin"] == {"person": twin, "differs_in": part}
    words = {"upper": "the upper clothes differ", "lower": "the lower clothes differ", "shoes": "the shoes differ"}
    told = f"drawn as a near-twin of person {twin}: only {words.get(part, f'the {part} differs')}"
    about = (tmp_path / "about.txt").read_text(encoding="utf-8")
    assert about == f"{summary.query_file} shows person {summary.query_person}, {told}.\n"


def test_a_query_without_a_near_twin_names_none(tmp_path):
    summary = write_demo_data(tmp_path, DemoConfig(people=6, cameras=2, images_per_camera=2))
    assert (summary.query_twin, summary.query_twin_differs_in) == (None, None)
    assert (tmp_path / "about.txt").read_text(encoding="utf-8") == f"{summary.query_file} shows person 0005.\n"
    assert read(tmp_path / "demo.json")["query"]["near_twin"] is None


@pytest.mark.parametrize("seed", range(4))
def test_near_twins_differ_in_one_part_and_are_in_the_same_split(seed):
    config = DemoConfig(seed=seed, people=90)
    people, twins = draw_people(config)
    assert len(twins) >= 25
    assert {pair.part for pair in twins} == set(TWIN_PARTS)
    for pair in twins:
        one, other = (people[person] for person in pair.people)
        differing = [f.name for f in dataclasses.fields(Person) if getattr(one, f.name) != getattr(other, f.name)]
        assert differing == [pair.part]
        assert len({person < config.training_people for person in pair.people}) == 1
    strangers = [people[i] for i in range(90) if i not in {pair.people[1] for pair in twins}]
    assert len(set(strangers)) == len(strangers)


def test_near_twins_differ_in_the_pixels_of_the_same_shot():
    plan = plan_demo(DemoConfig(people=60, images_per_camera=2))
    for pair in plan.crowd.twins:
        pictures = []
        for person in pair.people:
            everybody = (plan.crowd.person(person),) * 60
            swapped = dataclasses.replace(plan, crowd=dataclasses.replace(plan.crowd, people=everybody))
            shots = [shot for shot in plan.images if shot.person == 0]
            pictures.append([swapped.draw(shot) for shot in shots])
        differ = sum(one != other for one, other in zip(*pictures, strict=True))
        assert differ >= len(pictures[0]) - 3, pair  # An occluder or the body can hide the part.


def mean_ap(features, query, gallery) -> float:
    """Mean average precision with loops; items with the query's person and camera are left out."""
    values = []
    for name, person, camera in query:
        rest = [row for row in gallery if not (row[1] == person and row[2] == camera)]
        rest.sort(key=lambda row: float(np.linalg.norm(features[name] - features[row[0]])))
        hits = [row[1] == person for row in rest]
        values.append(np.mean([sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit]))
    return float(np.mean(values))


def colour_by_stripe(jpeg: bytes):
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)))[4:124, 16:48]
    stripes = [np.histogramdd(part.reshape(-1, 3), bins=8, range=[(0, 256)] * 3)[0] for part in np.split(pixels, 6)]
    return np.sqrt(np.concatenate([stripe.ravel() / stripe.sum() for stripe in stripes]))


def test_colours_alone_rank_better_than_chance_but_far_from_perfectly():
    plan = plan_demo(DemoConfig(people=90, images_per_camera=2))
    rows = [(shot.name, shot.person, shot.camera) for shot in plan.images if shot.person >= 60]
    query, gallery = rows[::2], rows[1::2]
    features = {shot.name: colour_by_stripe(plan.draw(shot)) for shot in plan.images if shot.person >= 60}
    chance = np.random.default_rng(0)
    by_colour = mean_ap(features, query, gallery)
    by_chance = mean_ap({name: chance.normal(size=8) for name in features}, query, gallery)
    assert by_colour > 2 * by_chance
    assert by_colour < 0.4


def test_an_earlier_demo_is_replaced_and_other_files_are_kept(tmp_path):
    out = tmp_path / "demo"
    write_demo_data(out, DemoConfig(people=9, cameras=2, images_per_camera=2))
    (out / "gallery" / "index.db").write_text("mine", encoding="utf-8")
    (out / "query.jpg").write_bytes(b"of an earlier version")
    small = DemoConfig(people=6, cameras=2, images_per_camera=2)
    counted = CountedProgress()
    summary = write_demo_data(out, small, progress=counted)
    assert counted.done == counted.total == count_files(small) == len(list(out.rglob("*.jpg")))
    assert summary.images == 24
    assert len(list((out / "images").iterdir())) == 24
    assert len(list((out / "query").iterdir())) == 1
    assert not (out / "query.jpg").exists()
    assert (out / "gallery" / "index.db").read_text(encoding="utf-8") == "mine"


def test_a_folder_with_other_files_is_refused_and_unchanged(tmp_path):
    (tmp_path / "images").mkdir()
    mine = tmp_path / "images" / "holiday.jpg"
    mine.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"holds other files than demo data; give a new or empty folder"):
        write_demo_data(tmp_path, DemoConfig(people=6))
    for text in ("", "[", "[" * 99_999, "3", '{"kind": 3}'):
        (tmp_path / "demo.json").write_text(text, encoding="utf-8")
        with pytest.raises(OutputError, match="holds other files than demo data"):
            write_demo_data(tmp_path, DemoConfig(people=6))
    (tmp_path / "demo.json").write_text('{"kind": "something else"}', encoding="utf-8")
    with pytest.raises(OutputError, match="holds other files than demo data"):
        write_demo_data(tmp_path, DemoConfig(people=6))
    assert mine.read_bytes() == b"mine"


def test_a_file_as_output_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="this is a file, expected a folder; give a new or empty folder"):
        write_demo_data(tmp_path / "out", DemoConfig(people=6))


def test_an_unwritable_path_is_named(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match=r"file.*cannot be written .*; give a folder on a writable file system"):
        write_demo_data(tmp_path / "file" / "out", DemoConfig(people=6))


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", -1), ("people", 5), ("people", 10_000), ("cameras", 1), ("images_per_camera", 1), ("label_noise", 0.3)],
)
def test_settings_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(
        UsageError, match=rf"{field.replace('_', ' ')} {value} does not work: expected [a-z ]*\d+ to \d+"
    ):
        DemoConfig(**{field: value})


def test_the_command_writes_the_folder_and_prints_its_counts(tmp_path, capsys):
    out = tmp_path / "demo"
    options = ["--people", "6", "--cameras", "2", "--images-per-camera", "2", "--seed", "3"]
    assert run(["demo-data", str(out), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{out}: 24 images, 6 people, 2 cameras")
    assert lines[-1] == f"{out}/{(out / 'about.txt').read_text(encoding='utf-8').strip().rstrip('.')}"
    first = hashes(out)
    assert run(["demo-data", str(out), *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 24
    assert hashes(out) == first
    assert run(["demo-data", str(out), "--cameras", "1"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "rrid-edge: cameras 1 does not work: expected 2 to 32 (option --cameras)\n"
