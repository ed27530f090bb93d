"""``evaluate``: measures, re-ranking and query expansion, sheets, and the thresholds that ``match --fpr`` uses."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rrid_edge.crops.images import read_image
from rrid_edge.engines import FakeEngine, open_engine
from rrid_edge.engines.fake import fake_spec
from rrid_edge.pictures.ranked_lists import ListSettings, choose_queries, ranked_list, sample_of
from rrid_edge.ranking.labels import LabelledCrops, Labels
from rrid_edge.ranking.metrics import RankingSettings, evaluate_ranking
from rrid_edge.ranking.rerank import RerankSettings, average_query_expansion, k_reciprocal
from rrid_export.evaluation import EvaluationSettings, evaluate
from rrid_train.data.layout import load_dataset
from rrid_train.data.samples import labels_of
from support.commands import refused, rrid_edge
from support.datasets import write_dataset
from support.onnx_models import save_tiny_model
from support.originals import crop, write_market
from support.pictures import save_crops


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluate")
    data = write_dataset(root / "data", train=3, test=8, cameras=3, shots=3)
    return save_tiny_model(root / "models" / "rrid.onnx"), data


def _evaluate(model, data, *options):
    return rrid_edge("evaluate", model, "--dataset", data, "--runtime", "onnxruntime", *options)


def _by_hand(model, data):
    """Descriptors and labels, computed image by image."""
    dataset = load_dataset(data, num_val=0)
    with open_engine(model, "onnxruntime") as engine:
        sides = [
            np.concatenate(
                [
                    engine.run(read_image(sample.path, engine.spec.height_px, engine.spec.width_px)[None])
                    for sample in samples
                ]
            )
            for samples in (dataset.query, dataset.gallery)
        ]
    labels = [
        Labels.of([sample.person for sample in samples], [sample.camera for sample in samples])
        for samples in (dataset.query, dataset.gallery)
    ]
    return (*sides, labels)


@pytest.mark.parametrize(
    ("options", "distances"),
    [
        ((), lambda q, g: 2 - 2 * q @ g.T),
        (("--expand", "3"), lambda q, g: 2 - 2 * average_query_expansion(q, g, neighbours=3) @ g.T),
        (
            ("--rerank", "--k1", "6", "--k2", "3", "--lambda", "0.2"),
            lambda q, g: k_reciprocal(q, g, RerankSettings(6, 3, 0.2)),
        ),
    ],
)
def test_measures_equal_an_independent_computation(setting, options, distances):
    model, data = setting
    outcome = _evaluate(model, data, "--json", "--per-camera", "--no-thresholds", *options)
    assert outcome.code == 0, outcome.err
    answer = json.loads(outcome.out)
    query, gallery, labels = _by_hand(model, data)
    expected = evaluate_ranking(distances(query, gallery), labels[0], labels[1], RankingSettings(per_camera=True))
    assert answer["mean_ap"] == pytest.approx(expected.mean_ap, abs=1e-6)
    assert answer["cmc"] == {str(rank): pytest.approx(value) for rank, value in expected.cmc.items()}
    assert [pair["rank_1"] for pair in answer["camera_pairs"]] == [pair.rank_1 for pair in expected.camera_pairs]
    assert len(answer["camera_pairs"]) == 6


@pytest.fixture(scope="module")
def with_junk(setting, tmp_path_factory):
    """The data with 12 junk crops and 3 distractors. Each is a blend of two people, so it is a neighbour of both."""
    root = tmp_path_factory.mktemp("junk") / "data"
    shutil.copytree(setting[1], root)
    test = json.loads((root / "test.json").read_text())
    rows = test[0]["gallery"]
    crops = [(*row, other) for row, (other, _, _) in zip(rows, rows[6:], strict=False)]
    for number, (name, _, camera, other) in enumerate(crops[::2][:15]):
        kind, person = ("junk", -1) if number < 12 else ("00000000", 0)
        rows.insert(3 * number, [f"{kind}_{camera:02d}_{9000 + number}.jpg", person, camera])
        with Image.open(root / "images" / name) as image, Image.open(root / "images" / other) as second:
            Image.blend(image, second, 0.5).save(root / "images" / rows[3 * number][0])
    (root / "test.json").write_text(json.dumps(test))
    (root / "splits.json").write_text(json.dumps([{"trainval": [1, 2]}]))  # 0 is the distractors' number
    return root


class _PoorEngine(FakeEngine):
    """Descriptors with much noise, which depends on the pixels alone: the figures are far from 1."""

    def _run_batch(self, images):
        noise = np.stack([np.random.default_rng(int(image.sum())).standard_normal(240) for image in images])
        vectors = super()._run_batch(images) + 0.1 * noise.astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _slow_measures(distances, query, gallery):
    """mAP and rank-1 of the plain definition, over lists."""
    precisions, first = [], []
    for row, person, camera in zip(distances, query.persons, query.cameras, strict=True):
        others = zip(row, gallery.persons, gallery.cameras, strict=True)
        ranked = sorted((distance, p == person) for distance, p, c in others if p != -1 and (p, c) != (person, camera))
        right = [place for place, (_, same) in enumerate(ranked) if same]
        precisions.append(sum((found + 1) / (place + 1) for found, place in enumerate(right)) / len(right))
        first.append(right[0] == 0)
    return sum(precisions) / len(precisions), sum(first) / len(first)


@pytest.mark.parametrize(
    ("settings", "distances"),
    [
        (
            EvaluationSettings(rerank=RerankSettings(6, 3, 0.2)),
            lambda q, g: k_reciprocal(q, g, RerankSettings(6, 3, 0.2)),
        ),
        (EvaluationSettings(expand=5), lambda q, g: -average_query_expansion(q, g, neighbours=5) @ g.T),
    ],
    ids=["re-ranked", "expanded"],
)
def test_junk_is_no_neighbour(with_junk, settings, distances):
    """The figures are those of a gallery from which the junk was deleted."""
    data = load_dataset(with_junk, num_val=0)
    deleted = replace(data, gallery=tuple(sample for sample in data.gallery if sample.person != -1))
    engine = _PoorEngine()
    found, expected = evaluate(engine, data, settings), evaluate(engine, deleted, settings)
    assert found.metrics == expected.metrics
    assert found.thresholds == expected.thresholds
    vectors = [
        np.concatenate(
            [
                engine.run(read_image(sample.path, engine.spec.height_px, engine.spec.width_px)[None])
                for sample in samples
            ]
        )
        for samples in (data.query, data.gallery)
    ]
    query, gallery = labels_of(data.query), labels_of(data.gallery)
    kept = gallery.persons != -1
    slow = _slow_measures(distances(vectors[0], vectors[1][kept]), query, gallery[kept])
    assert (found.metrics.mean_ap, found.metrics.cmc[1]) == pytest.approx(slow, abs=1e-6)
    # As neighbours, these junk crops would change the figures.
    assert slow != pytest.approx(_slow_measures(distances(*vectors), query, gallery), abs=1e-3)


class _AngleEngine(FakeEngine):
    """The descriptor of a grey image is a unit vector in a plane; its angle is the grey level in degrees."""

    def _run_batch(self, images):
        vectors = np.zeros((len(images), self.spec.dimension), np.float32)
        angles = np.radians(images[:, 0, 0, 0])
        vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
        return vectors


def test_junk_does_not_turn_an_expanded_query(tmp_path):
    """By hand: the right crop is 20 degrees from the query, the wrong one 25 on the other side, junk 10 beside it.

    Expanded with the right crop the query turns by +10, which leaves 10 and 35 degrees. With the junk it would turn by
    -5, which leaves 25 and 20.
    """
    grey = {"0001_c1_1": 100, "0001_c2_1": 120, "0002_c2_1": 75, "-1_c2_1": 90, "0005_c1_1": 1, "0006_c1_1": 2}
    folders = dict(zip(grey, ["query", *["bounding_box_test"] * 3, *["bounding_box_train"] * 2], strict=True))
    for name, level in grey.items():
        (tmp_path / folders[name]).mkdir(exist_ok=True)
        Image.new("RGB", (16, 48), (level,) * 3).save(tmp_path / folders[name] / f"{name}.png")
    data = load_dataset(tmp_path, num_val=0)
    assert evaluate(_AngleEngine(), data, EvaluationSettings(expand=1)).metrics.mean_ap == 1
    # Counted as a person, junk is a neighbour and a wrong answer nearer than the right one; then the order is -1, 2, 1.
    counted = EvaluationSettings(RankingSettings(junk_person=None), expand=1)
    assert evaluate(_AngleEngine(), data, counted).metrics.mean_ap == pytest.approx(1 / 3)


def test_the_text_says_what_changed_the_ranking_and_what_the_gallery_holds(setting, with_junk, tmp_path):
    model, _ = setting
    options = ("--no-thresholds", "--sheets", tmp_path, "--sheet-queries", "2")
    outcome = _evaluate(model, with_junk, "--rerank", "--k1", "6", "--k2", "3", "--expand", "2", *options)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("tiny, query expansion 2, re-ranked: mAP ")
    assert "gallery: 51 of 63 crops are scored: 48 of 8 people, 3 distractors; 12 are junk" in outcome.err
    assert "24 queries, 51 gallery images" in outcome.err


def test_a_distractor_on_a_sheet_is_neither_right_nor_wrong():
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 0]]
    gallery = LabelledCrops(vectors, Labels.of([0, 7, 8], [1, 2, 2]), [Path(f"{letter}.jpg") for letter in "abc"])
    for person, verdicts in ((7, ["distractor", "same", "different"]), (0, ["unknown"] * 3)):
        query = LabelledCrops(vectors[:1], Labels.of([person], [5]), [Path("q.jpg")])
        result = ranked_list(0, query, gallery, 1 - vectors @ vectors[0], ListSettings(10, 2))
        assert [result.verdict(match) for match in result.matches] == verdicts


def test_evaluate_prints_tables_and_writes_sheets_and_thresholds(setting, tmp_path):
    model, data = setting
    sheets = tmp_path / "sheets"
    outcome = _evaluate(model, data, "--per-camera", "--sheets", sheets, "--sheet-queries", "2", "--fpr", "0.05")
    assert outcome.code == 0, outcome.err
    assert "tiny: mAP" in outcome.out
    assert "FPR 0.05: TPR" in outcome.out
    assert "absent people and 24 for present ones (score TPIR):" in outcome.out
    assert "FPIR 0.1: unknown, needs at least 30 searches for 10 people" in outcome.out
    assert "fitted on half of the people, measured on the other half (mean of both ways):" in outcome.out
    assert "thresholds for match --fpir and --fpr: " in outcome.err
    assert "query camera" in outcome.out
    for name in ("worst", "median", "best"):
        with Image.open(sheets / f"{name}.png") as sheet:
            assert sheet.width > 600
            assert sheet.height > 400
    kept = json.loads(model.with_name("rrid.thresholds.json").read_text())
    (record,) = kept["datasets"]
    assert (kept["in_use"], record["dataset"], record["people"]) == ("tiny", "tiny", 8)
    assert [point["fpr"] for point in record["pairs"]["points"]] == [0.05]
    assert [rate["fpir"] for rate in record["searches"]["rates"] if rate["growth"]] == [0.3]
    # The table has the threshold and the TPIR of each size.
    for point in record["searches"]["rates"][-1]["points"]:
        assert f"{point['size']:>10}  {point['score']:.4f} {point['tpir']:.4f}" in outcome.out


def test_another_dataset_comes_into_use_only_if_asked(setting, tmp_path):
    model = save_tiny_model(tmp_path / "rrid.onnx")
    other = write_dataset(tmp_path / "other", train=3, test=5, cameras=2, shots=2)
    (other / "meta.json").write_text((other / "meta.json").read_text().replace('"tiny"', '"other"'))
    path = tmp_path / "rrid.thresholds.json"
    assert _evaluate(model, setting[1], "--fpr", "0.2").code == 0
    first = json.loads(path.read_text())
    added = _evaluate(model, other, "--fpr", "0.2")
    assert "thresholds of other added: " in added.err
    assert "match uses those of tiny; for these, give match --thresholds-of other" in added.err
    both = json.loads(path.read_text())
    assert (both["in_use"], both["datasets"][0]) == ("tiny", first["datasets"][0])
    assert "thresholds for match --fpir and --fpr" in _evaluate(model, other, "--fpr", "0.2", "--use-thresholds").err
    assert json.loads(path.read_text()) == {**both, "in_use": "other"}
    # Other data of the same name, and the same data by another protocol, replace nothing unless asked.
    (other / "meta.json").write_text((other / "meta.json").read_text().replace('"other"', '"tiny"'))
    before = path.read_text()
    told = "the thresholds of tiny, 8 people, were measured on other data or by another protocol; keep both with"
    refused(_evaluate(model, other, "--fpr", "0.2"), 2, f"{path}: {told}")
    refused(_evaluate(model, setting[1], "--fpr", "0.2", "--same-camera"), 2, told)
    assert path.read_text() == before
    assert _evaluate(model, other, "--fpr", "0.2", "--thresholds-as", "yard").code == 0
    assert _evaluate(model, other, "--fpr", "0.2", "--use-thresholds").code == 0
    kept = json.loads(path.read_text())
    assert (kept["in_use"], {one["dataset"]: one["people"] for one in kept["datasets"]}) == (
        "tiny", {"other": 5, "yard": 5, "tiny": 5},
    )  # fmt: skip
    path.write_text("{")
    replaced = _evaluate(model, other, "--fpr", "0.2")
    assert f"replaced: {path}: damaged thresholds" in replaced.err
    path.write_text('{"format": 99}')
    refused(_evaluate(model, other), 4, "format 99, expected at most 2")


def test_match_uses_the_measured_threshold(setting, tmp_path):
    model, data = setting
    assert _evaluate(model, data, "--fpr", "0.05", "--fpr", "1e-6").code == 0
    (stored,) = json.loads(model.with_name("rrid.thresholds.json").read_text())["datasets"]
    score = stored["pairs"]["points"][1]["score"]
    crops = save_crops(tmp_path / "gallery", 8)
    arguments = ("match", crops[0], tmp_path / "gallery", "--model", model, "--runtime", "onnxruntime", "--json")
    measured = rrid_edge(*arguments, "--fpr", "0.05")
    assert measured.code == 0, measured.err
    whose = "(thresholds of tiny, 8 people)"
    assert f"threshold {score:.4f} for a false-positive rate of 0.05 per pair {whose}" in measured.err
    results = json.loads(measured.out)["results"]
    assert results == json.loads(rrid_edge(*arguments, "--threshold", score).out)["results"]
    refused(rrid_edge(*arguments, "--fpr", "0.01"), 2, "expected one of 1e-06, 0.05")
    refused(rrid_edge(*arguments, "--fpr", "1e-6"), 2, "needs 10,000,000")
    refused(rrid_edge(*arguments, "--fpr", "0.05", "--threshold", "0.5"), 2, "exclude each other")
    refused(rrid_edge(*arguments, "--fpr", "0.05", "--expand", "2"), 2, "exclude each other")
    model.with_name("rrid.thresholds.json").unlink()
    refused(rrid_edge(*arguments, "--fpr", "0.05"), 2, "rrid-edge evaluate")


def test_match_takes_the_threshold_for_the_crops_that_it_searches(setting, tmp_path):
    model, data = setting
    assert _evaluate(model, data, "--fpr", "0.05").code == 0
    (stored,) = json.loads(model.with_name("rrid.thresholds.json").read_text())["datasets"]
    crops = save_crops(tmp_path / "gallery", 8)
    arguments = ("match", crops[0], tmp_path / "gallery", "--model", model, "--runtime", "onnxruntime", "--json")
    refused(rrid_edge(*arguments, "--fpir", "0.3", "--fpr", "0.05"), 2, "--fpir and --fpr exclude each other")
    refused(rrid_edge(*arguments, "--fpir", "0.3", "--expand", "2"), 2, "query expansion changes the scores")
    refused(rrid_edge(*arguments, "--fpir", "0.01"), 2, "it needs 300 searches for 100 people", "(option --fpir)")
    refused(rrid_edge(*arguments, "--fpir", "0.3", "--thresholds-of", "no"), 2, "expected one of tiny", "-of)")
    for option in ("--fpr", "--fpir"):
        refused(
            rrid_edge("match", crops[1], *arguments[1:], option, "0.05"),
            2,
            f"{option} and a query of several images: the thresholds were measured on queries of one image",
        )
    per_search = rrid_edge(*arguments, "--fpir", "0.3", "--top-k", "20", "--thresholds-of", "tiny")
    assert per_search.code == 0, per_search.err
    (found,) = json.loads(per_search.out)["results"]
    first, second = stored["searches"]["rates"][-1]["points"][:2]
    assert (first["size"], second["size"]) == (5, 10)
    share = math.log(7 / 5) / math.log(10 / 5)
    assert (found["fpir"], found["searched"]) == (0.3, 7)  # the query is a crop of the gallery
    assert found["threshold"] == pytest.approx(first["score"] + share * (second["score"] - first["score"]))
    assert f"threshold {found['threshold']:.4f} for a false-positive rate of 0.3 per search among 7 crops (thr" in (
        per_search.err
    )
    plain = json.loads(rrid_edge(*arguments, "--threshold", found["threshold"], "--top-k", "20").out)["results"][0]
    assert plain == {**found, "fpir": None}


@pytest.fixture(scope="module")
def one_camera(tmp_path_factory):
    """Crops of one camera, each in two folders: in one file per crop, and as two sequences per person."""
    root = tmp_path_factory.mktemp("one")
    for person in range(6):
        for shot in range(4):
            path = root / "raw" / f"person{person}" / f"t{shot // 2}_{shot}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(crop(100 * person + shot)).save(path)
    return root / "raw"


def test_one_camera_is_measured_within_it_only_if_asked(setting, one_camera, tmp_path):
    model, _ = setting
    model = save_tiny_model(tmp_path / "rrid.onnx")
    made = rrid_edge("prepare", "folders", one_camera, tmp_path / "d", "--pattern", "none", "--num-val", "0.34")
    assert made.code == 0, made.err
    nothing = "1 camera: no query has a right answer in another camera; mAP and CMC cannot be measured"
    assert f"val query: 1 person, {nothing}" in made.err
    assert f"query: 3 people, {nothing}" in made.err
    assert "rrid-edge evaluate MODEL --dataset" in made.err
    refused(_evaluate(model, tmp_path / "d"), 2, nothing, "set same_camera (option --same-camera)")
    outcome = _evaluate(model, tmp_path / "d", "--same-camera", "--json", "--fpr", "0.2")
    assert outcome.code == 0, outcome.err
    assert "3 of 3 queries have a right answer in another file or sequence" in outcome.err
    answer = json.loads(outcome.out)
    assert (answer["same_camera"], answer["valid_queries"]) == (True, 3)
    # Only the query's own file is left out: the same numbers by hand, with a camera per file.
    query, gallery, labels = _by_hand(model, tmp_path / "d")
    data = load_dataset(tmp_path / "d", num_val=0)
    files = [sample.path for sample in data.gallery]
    by_file = (Labels.of(labels[0].persons, [files.index(sample.path) for sample in data.query]),
               Labels.of(labels[1].persons, range(len(files))))  # fmt: skip
    expected = evaluate_ranking(2 - 2 * query @ gallery.T, *by_file)
    assert answer["mean_ap"] == pytest.approx(expected.mean_ap, abs=1e-9)
    assert answer["thresholds"]["pairs"]["genuine_pairs"] == 9
    text = _evaluate(model, tmp_path / "d", "--same-camera", "--fpr", "0.2", "--sheets", tmp_path / "sheets")
    assert "with right answers of the query's own camera: only its own sequence or file was left out" in text.out
    assert "genuine pairs (one person, two sequences or files)" in text.out


def test_sequences_of_the_pattern_are_left_out_whole(setting, one_camera, tmp_path):
    model, _ = setting
    outcome = rrid_edge("prepare", "folders", one_camera, tmp_path / "d", "--combine-trainval", "--pattern",
                        r"(?P<camera>)(?P<track>t\d)_")  # fmt: skip
    refused(outcome, 2, "no camera found in this path")
    outcome = rrid_edge("prepare", "folders", one_camera, tmp_path / "d", "--combine-trainval", "--pattern",
                        r"(?P<track>(?P<camera>t)\d)_")  # fmt: skip
    assert outcome.code == 0, outcome.err
    answer = json.loads(_evaluate(model, tmp_path / "d", "--same-camera", "--json", "--no-thresholds").out)
    # Each query has two crops in its person's other sequence.
    assert answer["thresholds"]["pairs"]["genuine_pairs"] == 3 * 2


def test_one_person_has_no_thresholds(setting, tmp_path):
    model, _ = setting
    folders = {
        "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0007_c2s1_000451_03.jpg"],
        "query": ["0001_c1s1_001051_00.jpg"],
        "bounding_box_test": ["0001_c2s1_001051_03.jpg", "-1_c2s1_000401_03.jpg"],
    }
    raw = write_market(tmp_path / "raw", folders)
    outcome = _evaluate(model, raw, "--json")
    assert outcome.code == 0, outcome.err
    assert "there is no crop of another person, so score thresholds cannot be measured" in outcome.err
    assert "left out: 1 file with other endings (.db 1)" in outcome.err
    answer = json.loads(outcome.out)
    assert (answer["thresholds"], answer["mean_ap"]) == (None, 1.0)


def test_wrong_use_is_refused(setting, tmp_path):
    model, data = setting
    refused(_evaluate(model, data, "--expand", "-1"), 2, "expand -1 does not work", "(option --expand)")
    refused(_evaluate(model, data, "--expand", "1000"), 2, "the gallery's size")
    refused(_evaluate(model, data, "--fpr", "2"), 2, "a false-positive rate of 2 does not work", "(option --fpr)")
    refused(_evaluate(model, data, "--sheet-queries", "0"), 2, "(option --sheet-queries)")
    refused(_evaluate(model, data, "--rerank", "--k1", "0"), 2, "re-ranking with k1 0")
    refused(_evaluate(model, data, "--protocol", "mine"), 2, "mine")
    refused(_evaluate(model, data, "--splits-file", "other.json"), 2, "other.json: missing")
    (tmp_path / "file").write_text("")
    refused(_evaluate(model, data, "--sheets", tmp_path / "file"), 2, "this is a file")


def test_ranked_lists_leave_out_junk_and_the_own_camera():
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 0, 1, 0]]
    paths = [Path(f"{letter}.jpg") for letter in "abcde"]
    gallery = LabelledCrops(vectors, Labels.of([7, 7, -1, 8, 0], [1, 2, 2, 2, 3]), paths)
    query = LabelledCrops(vectors[:1], Labels.of([7], [1]), [Path("q.jpg")])
    result = ranked_list(0, query, gallery, 1 - vectors @ vectors[0], ListSettings(10, 2))
    # a is the query's own camera, c is junk; b and the distractor e are at the same distance, in the gallery's order.
    assert [(match.path, match.person, match.rank) for match in result.matches] == [
        ("b.jpg", "7", 1),
        ("e.jpg", "0", 2),
        ("d.jpg", "8", 3),
    ]
    assert [match.score for match in result.matches] == [1, 1, 0]


def test_ranked_lists_measure_their_answers_against_other_people():
    spec = fake_spec(block_width=4)
    vectors = np.random.default_rng(3).standard_normal((30, spec.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    persons = [7, 7, *range(100, 128)]
    gallery = LabelledCrops(vectors, Labels.of(persons, [2] * 30), [Path(f"{place}.jpg") for place in range(30)])
    query = LabelledCrops(vectors[:1], Labels.of([7], [1]), [Path("q.jpg")])
    listed = ListSettings(5, len(spec.blocks), sample=sample_of(gallery, spec))
    result = ranked_list(0, query, gallery, 1 - vectors @ vectors[0], listed)
    others = np.sqrt(np.square(vectors[2:] - vectors[0]).reshape(28, len(spec.blocks), -1).sum(axis=2))
    assert result.others == 28
    assert result.matches[0].contrasts == pytest.approx(others.mean(axis=0) / others.std(axis=0), rel=1e-4)


def test_ranked_lists_within_one_camera_leave_out_the_own_sequence_only():
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1]]
    paths = [Path(f"{letter}.jpg") for letter in "abc"]
    gallery = LabelledCrops(vectors, Labels.of([7, 7, 8], [1, 1, 1], [5, 6, 7]), paths)
    query = LabelledCrops(vectors[:1], Labels.of([7], [1], [5]), [Path("q.jpg")])
    result = ranked_list(0, query, gallery, 1 - vectors @ vectors[0], ListSettings(10, 2, same_camera=True))
    assert [match.path for match in result.matches] == ["b.jpg", "c.jpg"]


def test_sheets_show_worst_median_and_best_queries():
    chosen = choose_queries(np.array([0.5, np.nan, 0.1, 0.9, 0.3, 0.7]), 2)
    assert chosen == {"worst": [2, 4], "median": [4, 0], "best": [3, 5]}
