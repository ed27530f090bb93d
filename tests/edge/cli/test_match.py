"""``match``: cameras, times and sources as users name them, warnings, remembered facts, and private outputs."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from PIL import Image

from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.opening import create_store, open_store
from rrid_edge.model.names import thresholds_path
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.ranking.thresholds import Threshold
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import noise
from support.thresholds import keep, record

PATTERN = r"(?P<person>\w+)/(?P<camera>[^_]+)_(?P<time>[^_]+)\.jpg"
NAMES = (
    "anna/lobby_20211125T080000.jpg",
    "anna/dock-2_20211125T120000.jpg",
    "bert/lobby_20211125T235959.jpg",
    "bert/01_20211126T000000.jpg",
    "carl/garage_451.jpg",
    "carl/lobby_unknown.jpg",
)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A gallery of 6 crops by named cameras, indexed with a pattern, and a query."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RRID_EDGE_MODEL", raising=False)
    for number, name in enumerate(NAMES):
        (tmp_path / "crops" / name).parent.mkdir(parents=True, exist_ok=True)
        noise(number).save(tmp_path / "crops" / name)
    save_tiny_model(tmp_path / "models" / "rrid.onnx")
    noise(0).save(tmp_path / "query.png")
    assert rrid_edge("index", "crops", "--pattern", PATTERN).code == 0
    return tmp_path


def answer(*options, query=("query.png",), gallery="crops"):
    outcome = rrid_edge("match", *query, gallery, "--json", *options)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def paths(*options, **arguments):
    return {match["path"] for match in answer(*options, **arguments)["results"][0]["matches"]}


def test_cameras_are_names_and_times_are_times(desk):
    assert paths() == set(NAMES)
    assert paths("--camera", "lobby") == {NAMES[0], NAMES[2], NAMES[5]}
    assert paths("--camera", "dock-2", "--camera", "1") == paths("--camera", "dock-2", "--camera", "01")
    assert paths("--camera", "01") == {NAMES[3]}
    assert paths("--since", "2021-11-25T12:00:00Z") == {NAMES[1], NAMES[2], NAMES[3]}
    assert paths("--since", "2021-11-25T13:00:00+01:00") == {NAMES[1], NAMES[2], NAMES[3]}
    assert paths("--until", "2021-11-25") == {NAMES[0], NAMES[1], NAMES[2]}  # that day included
    assert paths("--since", "2021-11-26", "--until", "2021-11-26") == {NAMES[3]}
    assert paths("--since", 400, "--until", 500) == {NAMES[4]}
    assert paths("--since", "1m") == set()
    found = {match["path"]: match for match in answer()["results"][0]["matches"]}
    assert found[NAMES[0]]["time"] == "2021-11-25T08:00:00Z"
    assert (found[NAMES[4]]["time"], found[NAMES[4]]["frame"]) == (None, 451)
    assert (found[NAMES[5]]["time"], found[NAMES[5]]["frame"]) == (None, None)
    table = rrid_edge("match", "query.png", "crops").out.splitlines()
    assert table[1].split() == ["rank", "score", "camera", "person", "time", "path"]
    assert table[2].split() == ["1", "1.000", "lobby", "anna", "2021-11-25T08:00:00Z", NAMES[0]]
    for option in ("--since", "--until"):
        refused(rrid_edge("match", "query.png", "crops", option, "soon"), 2, "'soon' is neither", f"(option {option})")


def test_a_duration_reaches_back_from_now(desk):
    now = datetime.now(timezone.utc)
    for hours in (1, 3):
        name = f"crops/anna/lobby_{now - timedelta(hours=hours):%Y%m%dT%H%M%S}.jpg"
        noise(90 + hours).save(name)
    assert rrid_edge("index", "crops").code == 0
    assert len(paths("--since", "2h")) == 1
    assert len(paths("--since", "1d")) == 2


def test_the_pattern_of_the_gallery_reads_the_names_of_queries_too(desk):
    found = answer(query=("crops/anna/lobby_20211125T080000.jpg",))["results"][0]
    assert (found["person"], found["camera"]) == ("anna", "lobby")
    assert found["matches"][0]["path"] != "anna/lobby_20211125T080000.jpg"  # the query itself is left out
    assert paths("--exclude-same-camera", query=("crops/anna/lobby_20211125T080000.jpg",)) == {*NAMES[3:5], NAMES[1]}
    # New files are read with the remembered pattern.
    noise(50).save("crops/anna/roof_20211127T000000.jpg")
    assert "anna/roof_20211127T000000.jpg" in paths("--camera", "roof")


def test_filters_that_let_nothing_pass_say_what_there_is(desk):
    outcome = rrid_edge("match", "query.png", "crops", "--json", "--camera", "garden")
    result = json.loads(outcome.out)
    (line,) = result["warnings"]
    assert line.startswith("no crop passes the filters; the gallery's 6 crops have cameras lobby (3), 1 (1), ")
    assert "times 2021-11-25T08:00:00Z to 2021-11-26T00:00:00Z; frames 451 to 451" in line
    assert f"warning: {line}" in outcome.err.splitlines()
    assert result["results"][0]["warnings"] == [line]


def test_doubtful_queries_are_answered_with_a_warning(desk):
    noise(3, 480, 640).save("frame.png")
    Image.new("RGB", (64, 128), (90, 90, 90)).save("flat.png")
    for name, words in (("frame.png", "640 x 480 pixels, as large as a full video frame"), ("flat.png", "one colour")):
        outcome = rrid_edge("match", name, "crops", "--json")
        assert outcome.code == 0
        result = json.loads(outcome.out)
        assert words in result["warnings"][0]
        assert result["results"][0]["warnings"] == result["warnings"]
        assert len(result["results"][0]["matches"]) == 6
        assert f"warning: {name}: " in outcome.err
    assert answer()["warnings"] == []


def test_a_query_removes_nothing_and_says_what_is_missing(desk):
    (desk / "crops" / NAMES[0]).unlink()
    shutil.rmtree(desk / "crops" / "carl")
    outcome = rrid_edge("match", "query.png", "crops", "--json")
    assert json.loads(outcome.out)["missing"] == 3
    assert "3 crops of the index have no file" in outcome.err
    assert paths() == set(NAMES)


def test_crops_without_files_answer_and_are_drawn(desk):
    thumbnail = desk / "thumbnail.jpg"
    Image.new("RGB", (64, 128), (250, 0, 250)).save(thumbnail, quality=95)
    with open_store(desk / "crops" / ".rrid-edge", write=True) as store:
        vector = store.vectors([row for row in store.rows() if row.path == NAMES[0]])
        store.add([NewRow(None, camera="roof", track="t1", source="north", thumbnail=thumbnail.read_bytes())], vector)
    found = answer("--source", "north", "--sheet", "s.png", "--report", "r.html")["results"][0]["matches"]
    assert [(match["path"], match["camera"], match["track"], match["source"]) for match in found] == [
        (None, "roof", "t1", "north")
    ]
    with Image.open("s.png") as sheet:
        magenta = np.abs(np.asarray(sheet.convert("RGB"), int) - (250, 0, 250)).max(axis=2) < 12
    assert magenta.sum() > 90 * 180
    assert rrid_edge("match", "query.png", "crops", "--source", "north").out.split()[-1] == f"#{found[0]['id']}"
    assert len(paths("--source", "local")) == 6
    for name in ("s.png", "r.html"):
        assert (desk / name).stat().st_mode & 0o777 == 0o600


def test_a_gallery_without_a_folder_of_crops(desk):
    with open_store(desk / "crops" / ".rrid-edge") as store:
        rows, vectors = store.rows(), store.vectors(store.rows())
        with create_store(desk / "alone", store.spec) as alone:
            alone.add([NewRow(None, camera=row.camera, person=row.person) for row in rows], vectors)
    found = answer(gallery="alone")["results"][0]["matches"]
    assert [match["path"] for match in found] == [None] * 6
    assert (found[0]["person"], found[0]["camera"]) == ("anna", "lobby")
    assert (desk / "alone" / "meta.sqlite").is_file()


def test_secrets_in_addresses_are_never_printed(desk):
    for address in (
        "milvus+http://root:hunter2@localhost:19530/people", "milvus+htp://root:hunter2@localhost:19530/people",
        "milvus://root:hunter2@localhost/people", "http://root:hunter2@localhost:19530/people",
        "milvus+http//root:hunter2@localhost:19530/people",
    ):  # fmt: skip
        for arguments in (("query.png", address), (address, "crops"), ("query.png", "crops", "--gallery", address)):
            outcome = rrid_edge("match", *arguments)
            assert outcome.code == 2, (arguments, outcome)
            assert "hunter2" not in outcome.out + outcome.err, arguments
            assert len(outcome.err.splitlines()) == 1


def test_a_gallery_in_milvus_is_asked_without_a_folder(desk, lite_file):
    pytest.importorskip("pymilvus")
    address = f"milvus+file:{lite_file}/asked_alone"
    assert rrid_edge("index", "crops", "--gallery", address, "--pattern", PATTERN).code == 0
    shutil.rmtree(desk / "crops")
    found = answer("--camera", "lobby", gallery=address)
    assert (found["gallery"], found["missing"]) == (address, 0)
    matches = found["results"][0]["matches"]
    assert {match["path"] for match in matches} == {NAMES[0], NAMES[2], NAMES[5]}
    assert (matches[0]["camera"], matches[0]["time"]) == ("lobby", "2021-11-25T08:00:00Z")
    (source,) = {match["source"] for match in matches}
    assert paths("--source", source, gallery=address) == set(NAMES)
    assert paths("--source", "elsewhere", gallery=address) == set()
    assert rrid_edge("match", "query.png", address, "--report", "r.html").code == 0
    assert "no picture of this crop is stored here" in (desk / "r.html").read_text()


def test_query_images_of_two_people_are_pointed_out(desk):
    noise(1).save("other.png")
    noise(0).save("same.png")
    assert answer(query=("query.png", "same.png"))["warnings"] == []
    (line,) = answer(query=("query.png", "other.png"))["warnings"]
    assert line.startswith("query.png and other.png do not look like one person (cosine ")
    assert "expected at least 0.50" in line
    assert answer("--fuse", "none", query=("query.png", "other.png"))["warnings"] == []
    # A measured threshold of this network replaces the default. That of another network, or a damaged file, does not.
    model = desk / "models" / "rrid.onnx"
    for fingerprint, doubted in ((read_spec(model).fingerprint, False), ("0" * 64, True)):
        keep(model, fingerprint, record("crops", (Threshold(1e-2, -0.9, 0.99),)))
        warnings = answer(query=("query.png", "other.png"))["warnings"]
        assert ["expected at least 0.50" in line for line in warnings] == [True] * doubted
    thresholds_path(model).write_text("words")
    assert "expected at least 0.50" in answer(query=("query.png", "other.png"))["warnings"][0]
