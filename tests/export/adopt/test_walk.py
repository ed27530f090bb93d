"""The way of an adopted network: adopt, index, match, evaluate, serve, and a query of another one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rrid_edge as library
from rrid_edge.crops.images import read_image
from rrid_edge.errors import FingerprintMismatchError
from support.commands import refused, rrid_edge
from support.datasets import write_dataset
from support.foreign import HEIGHT_PX, VALUES, WIDTH_PX, ForeignFile
from support.pictures import save_crops

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def _done(*arguments: object) -> str:
    outcome = rrid_edge(*arguments)
    assert outcome.code == 0, outcome.err
    return outcome.out


def _crops(folder) -> list[Path]:
    return sorted((folder / "gallery").glob("*.jpg"))


def _descriptors(paths) -> np.ndarray:
    """What the network gives for files, by its formula in float64."""
    pixels = np.stack([read_image(path, HEIGHT_PX, WIDTH_PX) for path in paths])
    features = ForeignFile().forward(((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2))
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A folder with a network, its crops, and the folder models/ that adopt wrote."""
    root = tmp_path_factory.mktemp("walk")
    source = ForeignFile().write(root / "net.onnx")
    save_crops(root / "gallery", 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("RRID_EDGE_MODEL", raising=False)
        told = _done("adopt", source, "--preset", "torchreid", "--crops", "gallery")
        assert "next: rrid-edge index gallery/ --model models/net.onnx" in told
        # The only network of models/ is found. Rows keep their precision, so that near scores keep their order.
        _done("index", "gallery", "--runtime", "onnxruntime", "--dtype", "float32")
        yield root


def test_the_ranking_and_its_pictures_are_those_of_the_network(setting):
    crops = _crops(setting)
    query, others = crops[0], crops[1:]
    pictures = ("--sheet", "sheet.png", "--report", "report.html")
    outcome = rrid_edge("match", query, "gallery", "--runtime", "onnxruntime", "--top-k", 5, "--json", *pictures)
    assert outcome.code == 0, outcome.err
    scores = _descriptors(others) @ _descriptors([query])[0]
    order = np.argsort(-scores)[:5]
    matches = json.loads(outcome.out)["results"][0]["matches"]
    assert [match["path"] for match in matches] == [others[place].name for place in order]
    assert [match["score"] for match in matches] == pytest.approx(scores[order], abs=1e-6)
    assert [match["block_scores"] for match in matches] == [[pytest.approx(match["score"])] for match in matches]
    assert (setting / "report.html").read_text().count("<tr class=") == 5
    with Image.open(setting / "sheet.png") as sheet:
        assert sheet.width > 5 * 96


def test_the_service_answers_as_the_network(setting):
    from fastapi.testclient import TestClient

    from rrid_edge.serve.app import create_app
    from rrid_edge.serve.service import Service
    from rrid_edge.serve.settings import ServeSettings

    crops = _crops(setting)
    settings = ServeSettings((str(setting / "gallery"),), runtime="onnxruntime")
    with Service(settings) as service, TestClient(create_app(service), base_url="http://127.0.0.1") as asked:
        file = ("images", ("query.jpg", crops[0].read_bytes(), "image/jpeg"))
        answer = asked.post("/api/v1/search", files=[file], params={"top_k": 5}).json()
        engine = asked.get("/api/v1/info").json()["engines"][0]
    scores = _descriptors(crops) @ _descriptors(crops[:1])[0]  # the upload has no name that leaves its own file out
    order = np.argsort(-scores)[:5]
    assert [match["path"] for match in answer["matches"]] == [crops[place].name for place in order]
    assert [match["score"] for match in answer["matches"]] == pytest.approx(scores[order], abs=1e-6)
    assert [[block["name"] for block in match["blocks"]] for match in answer["matches"]] == [["descriptor"]] * 5
    assert (engine["family"], engine["fingerprint"]) == ("adopted", answer["fingerprint"])


def test_explain_says_in_one_line_why_it_shows_no_parts(setting):
    query = _crops(setting)[0]
    outcome = rrid_edge("match", query, "gallery", "--runtime", "onnxruntime", "--explain", "--top-k", 2)
    assert outcome.code == 0
    (line,) = [line for line in outcome.err.splitlines() if "parts" in line]
    assert line == "no parts to explain: an adopted network has one descriptor block of the whole body, and no stripes"
    assert "largest:" not in outcome.out


def test_info_tells_family_origin_and_preprocessing(setting):
    rows = dict(line.split(maxsplit=1) for line in _done("info").splitlines() if len(line.split()) > 1)
    assert rows["family"] == "adopted, the network net of another program"
    assert rows["origin"] == "net.onnx"
    assert rows["preprocessing"].startswith("RGB / 255, mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225, NCHW")
    assert rows["blocks"] == f"1 x {VALUES}"
    assert not {"stripes", "backbone"} & set(rows)
    facts = json.loads(_done("info", "--json"))
    assert (facts["family"], facts["blocks"], facts["dimension"]) == ("adopted", ["descriptor"], VALUES)
    assert facts["preprocessing"]["std"] == [0.229, 0.224, 0.225]
    assert "stripes" not in facts


def test_a_gallery_refuses_a_query_of_another_network(setting, tmp_path):
    query = _crops(setting)[0]
    facts = ("--color", "rgb", "--scale", "255", "--mean", "0.485,0.456,0.407", "--std", "0.229,0.224,0.225")
    _done("adopt", "net.onnx", "-o", tmp_path, "--name", "other", *facts)  # only the mean differs
    options = ("--model", tmp_path / "other.onnx", "--runtime", "onnxruntime")
    for command in (("match", query, "gallery"), ("index", "gallery")):
        outcome = rrid_edge(*command, *options)
        refused(outcome, 4, "indexed with another model (net, fingerprint", "(other, ", "--rebuild")
    other = library.read_any_spec(tmp_path / "other.onnx")
    with pytest.raises(FingerprintMismatchError, match=r"another model \(net"):
        library.open_gallery("gallery", other)


def test_programs_and_milvus_take_it(setting, tmp_path):
    pytest.importorskip("milvus_lite")
    crops = _crops(setting)
    expected = _descriptors(crops)
    for place in (tmp_path / "people", f"milvus+file:{tmp_path}/people.db/people"):
        with (
            library.Embedder("models/net.onnx", "onnxruntime") as embedder,
            library.open_gallery(place, embedder.spec, create=True) as gallery,
        ):
            found = embedder.embed([Image.open(path) for path in crops])
            assert np.abs(found - expected).max() < 1e-5
            gallery.add(found, camera="door")
            ((best, *_),) = gallery.search(found[3:4], top_k=3)
            assert best.score == pytest.approx(1, abs=1e-3)


def test_evaluate_measures_it_and_match_uses_its_thresholds(setting, tmp_path):
    data = write_dataset(tmp_path / "data", train=2, test=24, size=(HEIGHT_PX, WIDTH_PX))
    options = ("--runtime", "onnxruntime", "--sheets", tmp_path / "sheets", "--fpr", 0.1, "--json")
    found = json.loads(_done("evaluate", "models/net.onnx", "--dataset", data, *options))
    assert found["cmc"]["1"] == pytest.approx(_rank_1(data))
    assert sorted(path.name for path in (tmp_path / "sheets").iterdir()) == ["best.png", "median.png", "worst.png"]
    assert (setting / "models" / "net.thresholds.json").is_file()
    query = _crops(setting)[0]
    for rate in ("--fpr", "--fpir"):
        outcome = rrid_edge("match", query, "gallery", "--runtime", "onnxruntime", rate, "0.1", "--json")
        assert outcome.code == 0, outcome.err
        answer = json.loads(outcome.out)["results"][0]
        assert -1 <= answer["threshold"] <= 1
        assert all(match["score"] >= answer["threshold"] for match in answer["matches"])


def _rank_1(data) -> float:
    """Share of queries whose best crop of another camera is of their person."""
    sides = [json.loads((data / "test.json").read_text())[0][side] for side in ("query", "gallery")]
    query, gallery = (_descriptors([data / "images" / row[0] for row in side]) for side in sides)
    right = 0
    for row, descriptor in zip(sides[0], query, strict=True):
        left = [place for place, other in enumerate(sides[1]) if (other[1], other[2]) != (row[1], row[2])]
        best = max(left, key=lambda place: descriptor @ gallery[place])
        right += sides[1][best][1] == row[1]
    return right / len(sides[0])
