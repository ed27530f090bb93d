"""Matching: the command with its table, sheet, report and refusals, and the library."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from rrid_edge.embedding.queries import Query
from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import UsageError
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.matching import MatchSettings, match, match_all
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model, tiny_model
from support.pictures import noise, save_crops
from support.reranking import dense_reranking


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A gallery of 12 crops of 4 people by 3 cameras, a query, and a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RRID_EDGE_MODEL", raising=False)
    save_crops(tmp_path / "gallery", 12)
    save_tiny_model(tmp_path / "models" / "rrid.onnx")
    shutil.copy(tmp_path / "gallery" / "0002_c2s1_000001_00.jpg", tmp_path / "0002_c2s1_000901_00.jpg")
    return tmp_path


def test_match_indexes_a_changed_folder_and_ranks(desk):
    first = rrid_edge("match", "0002_c2s1_000901_00.jpg", "gallery", "--top-k", 3)
    assert first.code == 0, first
    assert "indexed 12 crops" in first.err
    table = first.out.splitlines()
    assert table[0] == "query 0002_c2s1_000901_00.jpg, person 0002, camera 2"
    assert table[1].split() == ["rank", "score", "camera", "person", "verdict", "path"]
    assert table[2].split() == ["1", "1.000", "2", "0002", "right", "0002_c2s1_000001_00.jpg"]
    assert [line.split()[3] for line in table[2:]] == ["0002"] * 3
    second = rrid_edge("match", "0002_c2s1_000901_00.jpg", "gallery", "--top-k", 3)
    assert second.out == first.out
    assert "indexed" not in second.err.replace("was indexed", "")
    save_crops(desk / "gallery" / "more", 1)
    assert "indexed 1 crops" in rrid_edge("match", "0002_c2s1_000901_00.jpg", "gallery").err


def test_json_sheet_and_report(desk):
    arguments = [
        "match",
        "0002_c2s1_000901_00.jpg",
        "gallery",
        "--sheet",
        "out/sheet.png",
        "--report",
        "out/report.html",
    ]
    outcome = rrid_edge(*arguments, "--json")
    result = json.loads(outcome.out)["results"][0]
    assert [found["rank"] for found in result["matches"]] == list(range(1, 11))
    assert [found["verdict"] for found in result["matches"]] == [
        "same" if found["person"] == "0002" else "different" for found in result["matches"]
    ]
    assert sum(result["matches"][0]["block_scores"]) == pytest.approx(result["matches"][0]["score"], abs=1e-5)
    with Image.open("out/sheet.png") as sheet:
        assert sheet.size[0] > 600
    assert "0002_c2s1_000001_00.jpg" in (desk / "out" / "report.html").read_text()
    assert "largest:  stripe" in rrid_edge(*arguments[:3], "--explain").out


def test_what_carried_a_match_is_told_with_other_people_beside(desk):
    asked = ("match", "0002_c2s1_000901_00.jpg", "gallery", "--top-k", "2")
    result = json.loads(rrid_edge(*asked, "--json").out)["results"][0]
    names = [block["name"] for block in result["blocks"]]
    assert [block["region"] for block in result["blocks"]][:6] == ["head", "torso", "torso", "legs", "legs", "shoes"]
    assert result["others"] >= 8
    assert all(block["usual"] > 0 and block["spread"] > 0 for block in result["blocks"])
    assert [len(found["contrasts"]) for found in result["matches"]] == [len(names)] * 2
    lines = rrid_edge(*asked, "--explain").out.splitlines()
    told = [line for line in lines if line.strip().startswith("against other people: head ")]
    first = result["matches"][0]["contrasts"]
    expected = [f"{first[place]:+.1f} ({names[place]})" for place in range(6)]
    assert re.findall(r"[+-]\d+\.\d \(stripe-\d-of-6\)", told[0]) == expected
    summary = [line for line in lines if "rank 1" in line and "rank 2" in line]
    if (found := result["separation"]) is None:
        assert summary == ["no part speaks for rank 1 and against rank 2"]
    else:
        place = names.index(found["block"])
        one, other = (match["contrasts"][place] for match in result["matches"])
        assert found["difference"] == pytest.approx(one - other)
        doubt = "" if found["clear"] else ", but not clearly"
        where = f"{found['region']} ({found['block']}){doubt}: by {found['difference']:.1f} standard deviations"
        assert summary == [f"rank 1 and rank 2 differ most in the {where}"]


def _without(result, keys):
    """An answer whose matches lack some keys."""
    matches = [{key: value for key, value in found.items() if key not in keys} for found in result["matches"]]
    return {**result, "matches": matches}


def test_without_fusion_every_image_is_a_query(desk):
    noise(5).save("stranger.png")
    files = ("0002_c2s1_000901_00.jpg", "stranger.png")

    def asked(*arguments):
        return json.loads(rrid_edge("match", *arguments, "gallery", "--json").out)["results"]

    apart, alone = asked(*files, "--fuse", "none"), [*asked(files[0]), *asked(files[1])]
    assert [result["query"] for result in apart] == [result["query"] for result in alone] == [[file] for file in files]
    for result, own in zip(apart, alone, strict=True):
        # A descriptor may change with its batch in the last bits, which depends on the processor.
        rounded = {"score": 2e-6, "block_scores": 2e-6, "contrasts": 1e-3}
        for key, tolerance in rounded.items():
            values, expected = ([found[key] for found in answer["matches"]] for answer in (result, own))
            np.testing.assert_allclose(values, expected, atol=tolerance)
        for key in ("blocks", "separation"):
            del result[key], own[key]
        assert _without(result, rounded) == _without(own, rounded)
    assert len(asked(*files)) == 1
    refused(
        rrid_edge("match", *files, "gallery", "--fuse", "sum"), 2, "fuse 'sum' is unknown", "none", "(option --fuse)"
    )
    with LocalGallery(desk / "gallery" / ".rrid-edge") as gallery:
        both = Query(("a.jpg", "b.jpg"), gallery.vectors(gallery.rows()[:2]))
        with pytest.raises(UsageError, match="a query of 2 images with fuse 'none'"):
            match(gallery, both, MatchSettings(fuse="none"))


def test_same_camera_and_other_filters(desk):
    def cameras(*options):
        outcome = rrid_edge("match", "0002_c2s1_000901_00.jpg", "gallery", "--json", "--top-k", 50, *options)
        return {found["camera"] for found in json.loads(outcome.out)["results"][0]["matches"]}

    assert cameras() == {"1", "2", "3"}
    assert cameras("--exclude-same-camera") == {"1", "3"}
    assert cameras("--camera", 3) == {"3"}
    noise(1).save("unnamed.png")
    outcome = rrid_edge("match", "unnamed.png", "gallery", "--exclude-same-camera")
    refused(outcome, 2, "unnamed.png", "the file name has no camera")


def test_threshold_answers_no_match(desk):
    noise(999).save("stranger.png")
    outcome = rrid_edge("match", "stranger.png", "gallery", "--threshold", 0.999)
    assert outcome.code == 0
    assert "no match in the gallery (no score reaches 0.999)" in outcome.out
    refused(rrid_edge("match", "stranger.png", "gallery", "--threshold", 7), 2, "threshold 7.0 is not a cosine")


def test_no_match_is_below_the_threshold(desk):
    found = json.loads(rrid_edge("match", "0002_c2s1_000901_00.jpg", "gallery", "--json", "--threshold", 0.9).out)
    scores = [match["score"] for match in found["results"][0]["matches"]]
    assert scores
    assert min(scores) >= 0.9


@pytest.mark.parametrize("alias", [("--min-score", "0.9"), ("--store", "elsewhere")])
def test_options_have_one_name(desk, alias):
    outcome = rrid_edge("match", "0002_c2s1_000901_00.jpg", "gallery", *alias)
    assert outcome.code == 2
    assert f"there is no option {alias[0]}" in outcome.err


def test_reranking_from_the_command_line(desk):
    save_crops(desk / "gallery", 40)
    query = "0002_c2s1_000901_00.jpg"
    outcome = rrid_edge("match", query, "gallery", "--rerank", "--top-k", 5)
    assert outcome.out.splitlines()[1].split() == ["rank", "score", "distance", "camera", "person", "verdict", "path"]
    assert all(line.split()[4] == "0002" for line in outcome.out.splitlines()[2:])
    result = json.loads(rrid_edge("match", query, "gallery", "--rerank", "--rerank-depth", 30, "--json").out)
    found = result["results"][0]
    assert found["reranked"] == 30
    distances = [item["distance"] for item in found["matches"]]
    assert distances == sorted(distances)
    refused(rrid_edge("match", query, "gallery", "--rerank", "--rerank-depth", 3), 2, "depth of 3 crops", "10", "20")
    refused(
        rrid_edge("match", query, "gallery", "--rerank", "--camera", 1),
        2,
        "14 crops pass",
        "search without re-ranking (option --rerank)",
    )


def test_several_images_are_one_person_and_a_folder_is_several(desk):
    names = ["gallery/0002_c2s1_000001_00.jpg", "gallery/0002_c3s1_000005_00.jpg"]
    outcome = rrid_edge("match", *names, "gallery", "--json")
    result = json.loads(outcome.out)["results"]
    assert len(result) == 1
    assert result[0]["person"] == "0002"
    assert result[0]["camera"] is None  # two cameras
    assert "2 query image(s) that are crops of the gallery" in outcome.err
    assert result[0]["matches"][0]["person"] == "0002"
    save_crops(desk / "queries", 3)
    assert len(json.loads(rrid_edge("match", "queries", "gallery", "--json").out)["results"]) == 3


def test_broken_crops_are_named_and_the_rest_is_indexed(desk):
    (desk / "gallery" / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    (desk / "gallery" / "words.png").write_text("words")
    outcome = rrid_edge("index", "gallery")
    assert outcome.code == 0
    assert "left out broken.jpg: " in outcome.err
    assert "left out words.png: " in outcome.err
    assert "12 crops (12 added, 0 changed, 0 removed, 0 unchanged, 2 failed)" in outcome.out


def test_bad_queries(desk):
    rrid_edge("index", "gallery")
    (desk / "words.jpg").write_text("words")
    (desk / "cut.jpg").write_bytes((desk / "gallery" / "0001_c1s1_000000_00.jpg").read_bytes()[:700])
    Image.new("RGB", (1, 1)).save("dot.png")
    noise(1).convert("CMYK").save("print.jpg")
    Image.fromarray(np.full((64, 32), 40_000, np.uint16)).save("deep.png")
    noise(1).save("moving.gif", save_all=True, append_images=[noise(2)])
    for name, words in (
        ("none.jpg", "no such file"),
        ("words.jpg", "not an image"),
        ("cut.jpg", "truncated"),
        ("dot.png", "1 x 1 pixels"),
        ("print.jpg", "CMYK"),
        ("deep.png", "8 bits"),
        ("moving.gif", "animation"),
    ):
        refused(rrid_edge("match", name, "gallery"), 2, name, words)


@pytest.mark.slow
def test_a_query_of_400_megapixels_is_refused(desk):
    Image.new("1", (20_000, 20_000)).save("huge.png")
    refused(rrid_edge("match", "huge.png", "gallery"), 2, "huge.png", "at most 64,000,000")


def test_bad_galleries(desk):
    query = "0002_c2s1_000901_00.jpg"
    (desk / "empty").mkdir()
    refused(rrid_edge("match", query, "empty"), 2, "empty: no images in it")
    refused(rrid_edge("index", "empty"), 2, "empty: no images in it")
    refused(rrid_edge("index", "nowhere"), 2, "nowhere: no such folder")
    refused(rrid_edge("match", query, "nowhere"), 2, "nowhere: no such folder")
    refused(rrid_edge("match", query, query), 2, "the last argument is the gallery")
    refused(rrid_edge("match", query), 2, "match needs a query and a gallery")
    (desk / "broken").mkdir()
    (desk / "broken" / "a.jpg").write_text("words")
    refused(rrid_edge("index", "broken"), 2, "none of its 1 images could be read")


def test_bad_models(desk):
    query = "0002_c2s1_000901_00.jpg"
    rrid_edge("index", "gallery")
    (desk / "words.onnx").write_text("words")
    refused(rrid_edge("match", query, "gallery", "--model", "words.onnx"), 4, "words.onnx: this is a text file")
    refused(rrid_edge("match", query, "gallery", "--model", "none.onnx"), 2, "none.onnx: no such model file")
    foreign = tiny_model()
    del foreign.metadata_props[:]
    (desk / "foreign.onnx").write_bytes(foreign.SerializeToString())
    refused(rrid_edge("match", query, "gallery", "--model", "foreign.onnx"), 4, "has no rrid-edge metadata")
    save_tiny_model(desk / "other.onnx", fake_spec("other"))
    outcome = rrid_edge("match", query, "gallery", "--model", "other.onnx")
    refused(outcome, 4, "this gallery was indexed with another model", "--rebuild")
    refused(rrid_edge("index", "gallery", "--model", "other.onnx"), 4, "indexed with another model")
    assert rrid_edge("index", "gallery", "--model", "other.onnx", "--rebuild").code == 0
    assert rrid_edge("match", query, "gallery").code == 0  # the gallery remembers its model
    (desk / "models" / "rrid.onnx").unlink()
    (desk / "other.onnx").unlink()
    refused(rrid_edge("match", query, "gallery"), 2, "no model", "rrid-edge export")


def test_unwritable_outputs(desk):
    query = "0002_c2s1_000901_00.jpg"
    (desk / "file").write_text("")
    refused(rrid_edge("match", query, "gallery", "--sheet", "file/sheet.png"), 2, "cannot be written")
    refused(rrid_edge("index", "gallery", "--gallery", "file/index"), 2, "file: this is a file; expected a folder")


def test_model_by_environment(desk, monkeypatch):
    save_tiny_model(desk / "mine.onnx")
    monkeypatch.setenv("RRID_EDGE_MODEL", "mine.onnx")
    assert "model mine.onnx (from RRID_EDGE_MODEL)" in rrid_edge("index", "gallery").err


def test_match_on_an_indexed_gallery_imports_only_what_it_needs(desk):
    """No packages of the workshop, not OpenVINO's model converter with its telemetry, no masked arrays of NumPy."""
    rrid_edge("index", "gallery")
    code = (
        "import sys; from rrid_edge.cli import main; sys.argv = ['rrid-edge', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit as leave: print(leave.code)\n"
        "print({name.split('.')[0] for name, module in sys.modules.items() if module is not None}\n"
        "    & {'openvino', 'torch', 'torchvision', 'onnx', 'rrid_export', 'rrid_train', 'openvino_telemetry', 'http'},"
        " 'numpy.ma' in sys.modules)"
    )
    query = ["match", "0002_c2s1_000901_00.jpg", "gallery", "--runtime", "openvino", "--precision", "fp32"]
    done = subprocess.run([sys.executable, "-c", code, *query], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["0", "{'openvino'} False"]
    assert "leaked" not in done.stderr


def test_gallery_commands(desk):
    rrid_edge("index", "gallery")
    assert len(rrid_edge("gallery", "list", "gallery").out.splitlines()) == 12
    assert "12 rows, 0 damaged" in rrid_edge("gallery", "verify", "gallery").out
    assert "3 crops forgotten" in rrid_edge("gallery", "forget", "gallery", "--person", "0001").out
    assert "9 crops kept" in rrid_edge("gallery", "compact", "gallery").out
    assert rrid_edge("gallery", "export", "gallery", "d.npz").code == 0
    with np.load("d.npz") as stored:
        assert stored["descriptors"].shape == (9, 240)
    refused(rrid_edge("gallery", "forget", "gallery", "none.jpg"), 2, "none.jpg: not in the index")
    refused(rrid_edge("gallery", "forget", "gallery"), 2, "nothing to forget")
    refused(rrid_edge("gallery", "list", "nowhere"), 4, "no index here")
    file = next((desk / "gallery" / ".rrid-edge").glob("vec.*"))
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    refused(rrid_edge("gallery", "verify", "gallery"), 1, "1 stored descriptors are damaged")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_gallery_can_be_searched(desk):
    rrid_edge("index", "gallery")
    index = desk / "gallery" / ".rrid-edge"
    index.chmod(0o500)
    try:
        assert rrid_edge("match", "0002_c2s1_000901_00.jpg", "gallery").code == 0
    finally:
        index.chmod(0o700)


# --- the library ------------------------------------------------------------------------------------------------


def _unit(values):
    values = np.asarray(values, np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.fixture
def small(tmp_path):
    spec = fake_spec(block_width=1)
    vectors = _unit(np.random.default_rng(4).standard_normal((30, 15)))
    with LocalGallery.create(tmp_path / "g", spec, dtype="float32") as gallery:
        gallery.add([NewRow(f"{index:02d}.jpg", "0" * 64, 1, 1, str(index % 4)) for index in range(30)], vectors)
        yield gallery, vectors


def test_maximum_over_images_and_expansion_against_slow_ones(small):
    gallery, vectors = small
    queries = _unit(np.random.default_rng(5).standard_normal((3, 15)))
    query = Query(("a", "b", "c"), queries)
    best = (vectors @ queries.T).max(axis=1)
    found = match(gallery, query, MatchSettings(top_k=30, fuse="max")).matches
    np.testing.assert_allclose([item.score for item in found], np.sort(best)[::-1], atol=1e-6)
    mean = _unit(queries.mean(axis=0))
    nearest = np.argsort(-(vectors @ mean))[:4]
    expanded = _unit(np.concatenate([mean[None], vectors[nearest]]).mean(axis=0))
    found = match(gallery, query, MatchSettings(top_k=5, expand=4)).matches
    np.testing.assert_allclose([item.score for item in found], np.sort(vectors @ expanded)[::-1][:5], atol=1e-6)


@pytest.mark.parametrize("fusion", ["mean", "max"])
def test_reranking_orders_the_best_crops_by_the_papers_distances(small, fusion):
    gallery, vectors = small
    queries = _unit(np.random.default_rng(6).standard_normal((2, 15)))
    asked = _unit(queries.mean(axis=0))[None] if fusion == "mean" else queries
    scores = (vectors @ asked.T).max(axis=1)
    best = np.argsort(-scores)[:24]
    distances = dense_reranking(asked, vectors[best], 20, 6, 0.3).min(axis=0)
    found = match(gallery, Query(("a", "b"), queries), MatchSettings(top_k=8, fuse=fusion, rerank=24))
    assert [item.path for item in found.matches] == [f"{best[index]:02d}.jpg" for index in np.argsort(distances)[:8]]
    np.testing.assert_allclose(
        np.array([item.distance for item in found.matches], float), np.sort(distances)[:8], atol=1e-5
    )
    for item in found.matches:
        assert item.score == pytest.approx(scores[int(item.name[:2])], abs=1e-6)
    assert found.reranked == 24
    limit = float(np.sort(scores)[-3])
    kept = match(gallery, Query(("a", "b"), queries), MatchSettings(8, fusion, rerank=24, threshold=limit - 1e-6))
    assert len(kept.matches) == 3


def test_several_queries_get_the_same_answers_as_one_by_one(small):
    gallery, _ = small
    vectors = _unit(np.random.default_rng(7).standard_normal((6, 15)))
    queries = [
        Query(("a.jpg", "b.jpg"), vectors[:2], None, "1"),
        Query(("c.jpg",), vectors[2:3], None, "2"),
        Query(("d.jpg", "e.jpg", "f.jpg"), vectors[3:], None, "1"),
    ]
    for settings in (
        MatchSettings(5),
        MatchSettings(5, "max", exclude_same_camera=True),
        MatchSettings(5, expand=3),
        MatchSettings(5, rerank=25),
    ):
        assert match_all(gallery, queries, settings) == tuple(match(gallery, query, settings) for query in queries)
    assert match_all(gallery, []) == ()


@pytest.mark.parametrize(
    "settings",
    [{"top_k": 30, "rerank": 25}, {"rerank": 15}, {"top_k": 0}, {"fuse": "sum"}, {"threshold": 2.0}, {"expand": -1}],
)
def test_settings_that_do_not_work(settings):
    with pytest.raises(UsageError):
        MatchSettings(**settings)
