"""``POST /search`` answers as ``rrid-edge match --json`` does on the same gallery and files."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from edge.serve.support import client, problem
from rrid_edge.model.names import thresholds_path
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.ranking.thresholds import Threshold
from rrid_edge.serve.service import Service
from rrid_edge.serve.settings import ServeSettings
from support.commands import rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import noise, save_crops
from support.thresholds import keep, open_set, record

MODEL = "models/rrid.onnx"
RATES = ((1e-4, 0.9), (1e-3, 0.5), (1e-2, 0.2))


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A gallery of 30 crops that the command line indexed, and queries of several kinds."""
    folder = tmp_path_factory.mktemp("desk")
    model = save_tiny_model(folder / MODEL)
    save_crops(folder / "crops", 30)
    noise(1001, 300, 150).save(folder / "large.jpg", quality=70)
    noise(1002).save(folder / "plain.png")
    noise(1003).convert("L").save(folder / "grey.webp")
    turned = noise(1000).rotate(90, expand=True)
    turned.save(folder / "turned.jpg", exif=_orientation(6))
    outcome = rrid_edge("index", folder / "crops", "--model", folder / MODEL)
    assert outcome.code == 0, outcome
    points = tuple(Threshold(rate, score, 0.5) for rate, score in RATES)
    keep(folder / MODEL, read_spec(folder / MODEL).fingerprint, record("tiny", points, open_set({0.1: 0.3})))
    assert thresholds_path(folder / MODEL).is_file(), model
    return folder


def _orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.fixture(scope="module")
def asked(desk):
    with Service(ServeSettings((str(desk / "crops"),))) as service, client(service) as found:
        for worker in service.workers.values():
            worker.wait_until_open(60)
        yield found


def matched(desk, *arguments):
    outcome = rrid_edge("match", *arguments, desk / "crops", "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)["results"][0]


def searched(asked, files, **choices):
    images = [("images", (file.name, file.read_bytes())) for file in files]
    found = asked.post("/api/v1/search", files=images, params=choices)
    assert found.status_code == 200, found.text
    return found.json()


def same(answer, result):
    assert [match["id"] for match in answer["matches"]] == [match["id"] for match in result["matches"]]
    for one, other in zip(answer["matches"], result["matches"], strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-6)
        assert one["distance"] == pytest.approx(other["distance"], abs=1e-6)
        for name in ("rank", "path", "camera", "frame", "track", "source"):
            assert one[name] == other[name], name
        assert one["told"] == other["person"]
        assert [block["share"] for block in one["blocks"]] == pytest.approx(other["block_scores"], abs=1e-6)
        contrasts = [block["contrast"] for block in one["blocks"]]
        assert contrasts == pytest.approx(other["contrasts"], rel=1e-3, abs=1e-3)
        for name in ("name", "region", "usual"):
            usual = [block[name] for block in result["blocks"]]
            assert [block[name] for block in one["blocks"]] == (pytest.approx(usual) if name == "usual" else usual)
    assert answer["others"] == result["others"]
    told = [found and (found["block"], found["clear"]) for found in (answer["separation"], result["separation"])]
    assert told[0] == told[1]
    assert answer["searched"] == result["searched"]
    assert answer["mode"] == result["search"]


@pytest.mark.parametrize("name", ["large.jpg", "plain.png", "grey.webp", "turned.jpg"])
def test_an_uploaded_file_gets_the_pixels_of_the_file(desk, asked, name):
    answer = searched(asked, [desk / name])
    same(answer, matched(desk, desk / name, "--top-k", "8"))
    assert len(answer["matches"]) == 8


def test_several_images_are_averaged(desk, asked):
    files = [desk / "large.jpg", desk / "plain.png"]
    answer, result = searched(asked, files, top_k=5), matched(desk, *files, "--top-k", "5")
    same(answer, result)
    assert answer["query"]["images"] == 2
    doubts = [line for line in answer["warnings"] if "do not look like one person" in line]
    assert len(doubts) == len(result["warnings"]) == 1
    assert answer["marks"] == []  # measured on queries of one image
    assert {match["passes"] for match in answer["matches"]} == {None}


@pytest.mark.parametrize(
    ("choices", "options"),
    [
        ({"camera": "2"}, ["--camera", "2"]),
        ({"camera": ["1", "03"]}, ["--camera", "1", "--camera", "3"]),
        ({"since": "5", "until": "20"}, ["--since", "5", "--until", "20"]),
        ({"min_score": "0.3", "top_k": "100"}, ["--threshold", "0.3", "--top-k", "100"]),
        ({"fpr": "0.001"}, ["--fpr", "0.001", "--top-k", "8"]),
        ({"fpir": "0.1", "top_k": "20"}, ["--fpir", "0.1", "--top-k", "20"]),
        ({"rerank": "true", "top_k": "30"}, ["--rerank", "--top-k", "30"]),
    ],
)
def test_choices_are_those_of_the_command(desk, asked, choices, options):
    top = [] if "--top-k" in options else ["--top-k", "8"]
    answer, result = searched(asked, [desk / "plain.png"], **choices), matched(desk, desk / "plain.png", *options, *top)
    same(answer, result)
    told = answer["threshold"]
    assert (None if told is None else told["score"]) == (
        None if result["threshold"] is None else pytest.approx(result["threshold"], abs=1e-9)
    )


def test_an_excluded_camera_leaves_the_others(desk, asked):
    answer = searched(asked, [desk / "plain.png"], exclude_camera="2", top_k=30)
    same(answer, matched(desk, desk / "plain.png", "--camera", "1", "--camera", "3", "--top-k", "30"))


def test_the_strictest_rate_that_a_score_reaches_is_told(desk, asked):
    answer = searched(asked, [desk / "plain.png"], top_k=30)
    assert answer["marks"] == [{"kind": "fpr", "rate": rate, "score": score} for rate, score in RATES[::-1]]
    passed = {1e-4: 0, 1e-3: 0, 1e-2: 0, None: 0}
    for match in answer["matches"]:
        expected = next((rate for rate, least in RATES if match["score"] >= least), None)
        assert (match["passes"] or {"rate": None})["rate"] == expected
        passed[expected] += 1
    assert passed[1e-4] > 0
    assert sum(count > 0 for count in passed.values()) >= 2


def test_rates_are_refused_for_queries_of_several_images(desk, asked):
    files = [("images", (name, (desk / name).read_bytes())) for name in ("large.jpg", "plain.png")]
    problem(asked.post("/api/v1/search?fpr=0.001", files=files), 422, "fpr and a query of 2 images")
    problem(asked.post("/api/v1/search?fpir=0.1", files=files), 422, "fpir and a query of 2 images")
    kept = searched(asked, [desk / "large.jpg", desk / "plain.png"])["query"]["id"]
    problem(asked.post("/api/v1/search?fpr=0.001", json={"query": kept}), 422, "2 images")


def test_embed_gives_the_descriptors_that_match_used(desk, asked):
    file = desk / "large.jpg"
    found = asked.post("/api/v1/embed", files=[("images", (file.name, file.read_bytes()))]).json()
    answer = asked.post(
        "/api/v1/search", json={"descriptor": found["descriptors"][0], "fingerprint": found["fingerprint"]}
    ).json()
    same(answer, matched(desk, file, "--top-k", "8"))
