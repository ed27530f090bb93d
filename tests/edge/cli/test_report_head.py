"""The top of a report: when, which model, and how ``rrid-edge match`` was asked. The table says who is right."""

from __future__ import annotations

import re
import shutil
from datetime import datetime, timedelta, timezone
from html import unescape
from pathlib import Path

import pytest

from rrid_edge import __version__
from rrid_edge.cli.answers import Answer, print_answer
from rrid_edge.engines.fake import fake_spec
from rrid_edge.matching import Match, MatchResult
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.ranking.thresholds import Threshold
from support.commands import rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import noise, save_crops
from support.thresholds import keep, open_set, record

QUERY = "0002_c2s1_000901_00.jpg"


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A gallery of 24 crops, indexed, and a query."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RRID_EDGE_MODEL", raising=False)
    save_crops(tmp_path / "gallery", 24)
    save_tiny_model(tmp_path / "models" / "rrid.onnx")
    shutil.copy(tmp_path / "gallery" / "0002_c2s1_000001_00.jpg", tmp_path / QUERY)
    assert rrid_edge("index", "gallery").code == 0
    return tmp_path


def head(*arguments) -> dict[str, list[str]]:
    outcome = rrid_edge("match", *arguments, "--report", "r.html")
    assert outcome.code == 0, outcome.err
    found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", Path("r.html").read_text(encoding="utf-8"), re.DOTALL)
    return {name: list(map(unescape, re.findall(r"<span>(.*?)</span>", lines))) for name, lines in found}


def test_a_plain_question(desk):
    before = datetime.now(timezone.utc).replace(microsecond=0)
    found = head(QUERY, "gallery")
    told = re.fullmatch(r"(\S+ \S+) UTC by rrid-edge (\S+)", found.pop("made")[0])
    assert told is not None
    made, version = told.groups()
    assert before <= datetime.fromisoformat(f"{made}+00:00") <= before + timedelta(minutes=10)
    assert version == __version__
    (model,) = found.pop("model")
    path = desk / "models" / "rrid.onnx"
    assert model.startswith(f"{path}, fingerprint {read_spec(path).fingerprint[:12]}, ")
    assert found == {
        "gallery": ["gallery, 24 crops"],
        "filters": ["none: all crops were searched"],
        "threshold": ["none: the best crops are shown, however low their scores are"],
        "ranking": ["at most 10 crops per query, by cosine"],
        "queries": ["1"],
        "first matches": ["1 of 1 right"],
    }


def test_filters_and_settings_are_said_as_they_were_asked(desk):
    shutil.copy(QUERY, "second.jpg")
    asked = ("--camera", "01", "--camera", 3, "--source", "local", "--since", 0, "--until", "20", "--top-k", 5)
    found = head(QUERY, "second.jpg", "gallery", *asked, "--exclude-same-camera", "--fuse", "max", "--expand", 2)
    assert found["filters"] == [
        "camera 01 or 3",
        "source local",
        "since frame 0",
        "until frame 20",
        "not the query's own camera",
    ]
    assert found["ranking"] == [
        "at most 5 crops per query, by cosine",
        "several images per query: each crop has its best score over them",
        "query expansion: the query and its 2 nearest crops are averaged",
    ]
    found = head(QUERY, "second.jpg", "gallery", "--rerank", "--rerank-depth", 20, "--since", "2026-11-25")
    assert found["filters"] == ["since 2026-11-25T00:00:00Z (2026-11-25)"]
    assert found["ranking"][1:] == [
        "several images per query: their descriptors are averaged",
        "the best 20 crops are re-ranked by shared neighbours (k-reciprocal)",
    ]
    assert head("gallery/0002_c2s1_000001_00.jpg", "gallery")["filters"] == ["not the query's own files"]


def test_thresholds_say_where_they_come_from(desk):
    found = head(QUERY, "gallery", "--threshold", 0.9999)
    assert found["threshold"] == ["0.9999, as given"]
    model = desk / "models" / "rrid.onnx"
    keep(model, read_spec(model).fingerprint, record("crops", (Threshold(1e-4, 0.5, 0.99),), open_set()))
    outcome = rrid_edge("match", QUERY, "gallery", "--fpr", 1e-4)
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("threshold ")]
    assert line.startswith("threshold 0.5000 for a false-positive rate of 0.0001 per pair (thresholds of crops, ")
    assert head(QUERY, "gallery", "--fpr", 1e-4)["threshold"] == [line.removeprefix("threshold ")]
    outcome = rrid_edge("match", QUERY, "gallery", "--fpir", 0.1)
    lines = [line.removeprefix("threshold ") for line in outcome.err.splitlines() if line.startswith("threshold ")]
    assert len(lines) == 1
    assert "a false-positive rate of 0.1 per search among 24 crops" in lines[0]
    assert head(QUERY, "gallery", "--fpir", 0.1)["threshold"] == lines


def test_queries_without_a_match_unreadable_ones_and_missing_files_are_said(desk):
    (desk / "queries").mkdir()
    shutil.copy(QUERY, desk / "queries")
    noise(99).save("queries/0003_c1s1_000000_00.png")
    (desk / "queries" / "words.jpg").write_text("<words>")
    (desk / "gallery" / "0001_c1s1_000000_00.jpg").unlink()
    found = head("queries", "gallery", "--threshold", 0.9999)
    assert found["gallery"] == ["gallery, 24 crops, 1 of them without a file now"]
    assert found["queries"] == ["2", "without a match: 1 (0003_c1s1_000000_00.png)"]
    assert found["first matches"] == ["1 of 1 right"]
    (line,) = found["left out"]
    assert line.startswith("queries/words.jpg: ")


def test_an_index_that_lies_elsewhere_is_named(desk):
    assert rrid_edge("index", "gallery", "--gallery", "elsewhere").code == 0
    found = head(QUERY, "gallery", "--gallery", "elsewhere")
    assert found["gallery"] == ["gallery with its index in elsewhere, 24 crops"]
    assert head(QUERY, "elsewhere")["gallery"] == ["elsewhere, 24 crops"]


def shown(capsys, person, labels) -> list[list[str]]:
    matches = tuple(Match(rank, 0.9, f"{rank}.jpg", "1", label) for rank, label in enumerate(labels, 1))
    result = MatchResult(("q.jpg",), matches, person, searched=5)
    answer = Answer((result,), "crops", None, "local", Path("m.onnx"), fake_spec(), "fake", 5)
    print_answer(answer, written=[], as_json=False, explain=False)
    return [line.split() for line in capsys.readouterr().out.splitlines()[1:]]


def test_the_table_says_right_and_wrong_where_both_labels_are_known(capsys):
    heading, *rows = shown(capsys, "0001", ("0001", "0002", "-1", "0000", None))
    assert heading == ["rank", "score", "camera", "person", "verdict", "path"]
    assert [row[4] for row in rows] == ["right", "wrong", "junk", "distractor", "-"]
    for person, labels in (("0001", (None, None)), (None, ("0001", "0002")), ("-1", ("-1", "0002"))):
        assert "verdict" not in shown(capsys, person, labels)[0]


def test_odd_names_are_shown_as_text(desk):
    Path("gallery").rename("g\udce9<b>&")
    found = head(QUERY, "g\udce9<b>&", "--camera", "<i>\udcff\n")
    assert found["gallery"] == ["g\\udce9<b>&, 24 crops"]
    assert found["filters"] == ["camera <i>\\udcff\\n"]
    assert "no crop passes the filters" in Path("r.html").read_text(encoding="utf-8").split("<section>")[0]
