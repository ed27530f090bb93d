"""What ``match`` is asked, and how its answer is printed."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import pytest

from rrid_edge.cli.answers import Answer, print_answer
from rrid_edge.cli.asked import query_and_gallery, row_filter
from rrid_edge.cli.common import print_json
from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import UsageError
from rrid_edge.gallery.base import GalleryRow, SearchFilter
from rrid_edge.json_text import name_of_text
from rrid_edge.matching import Match, MatchResult

NOON_US = 1_795_608_000_000_000
"""2026-11-25, 12:00 UTC."""
SECRET = "hunter2"


def test_a_gallery_is_a_folder_or_an_address(tmp_path):
    (tmp_path / "crops").mkdir()
    queries, asked = query_and_gallery(["a.jpg", "b.jpg", str(tmp_path / "crops")], None)
    assert queries == [Path("a.jpg"), Path("b.jpg")]
    assert (asked.folder, asked.location) == (tmp_path / "crops", tmp_path / "crops" / ".rrid-edge")
    address = "milvus+http://host:19530/people"
    _, asked = query_and_gallery(["a.jpg", address], None)
    assert (asked.text, asked.folder, str(asked.location)) == (address, None, address)
    _, asked = query_and_gallery(["a.jpg", str(tmp_path / "crops")], address)
    assert (asked.folder, str(asked.location)) == (tmp_path / "crops", address)
    with pytest.raises(UsageError, match="two galleries are given"):
        query_and_gallery(["a.jpg", address], str(tmp_path))


def test_the_index_itself_is_a_gallery_too(tmp_path):
    for folder in (tmp_path / "crops" / ".rrid-edge", tmp_path / "alone"):
        folder.mkdir(parents=True)
        (folder / "meta.sqlite").touch()
    _, asked = query_and_gallery(["a.jpg", str(tmp_path / "crops" / ".rrid-edge")], None)
    assert (asked.folder, asked.location) == (tmp_path / "crops", tmp_path / "crops" / ".rrid-edge")
    _, asked = query_and_gallery(["a.jpg", str(tmp_path / "alone")], None)
    assert (asked.folder, asked.location) == (None, tmp_path / "alone")


@pytest.mark.parametrize(
    "paths",
    [
        ["q.jpg", "nowhere"],
        ["q.jpg"],
        ["q.jpg", f"milvus+http://root:{SECRET}@host:19530/people"],
        ["q.jpg", f"milvus+htp://root:{SECRET}@host:19530/people"],
        [f"milvus+http://root:{SECRET}@host:19530/people", "q.jpg"],
        [f"milvus+http:/root:{SECRET}@host:19530/people", "q.jpg"],
        ["milvus+http://host:19530/people", "q.jpg", "nowhere"],
        [f"root:{SECRET}@host:19530/people", "nowhere"],
        ["q.jpg", f"root:{SECRET}@host:19530/people"],
        [f"http//root:{SECRET}@host", "nowhere"],
    ],
)
def test_wrong_arguments_are_refused_in_one_line_without_secrets(paths):
    with pytest.raises(UsageError) as caught:
        query_and_gallery(paths, None)
    assert "\n" not in caught.value.message
    assert SECRET not in caught.value.message


def test_bounds_are_times_or_frames():
    found = row_filter([], [], "2026-11-25", "2026-11-25")
    midnight = NOON_US - 12 * 3_600_000_000
    assert (found.since, found.until) == (midnight, midnight + 86_400_000_000 - 1)
    assert (found.since_frame, found.until_frame) == (None, None)
    found = row_filter([], [], "4000", "2026-11-25T12:00:00Z")
    assert (found.since, found.until, found.since_frame, found.until_frame) == (None, NOON_US, 4000, None)
    now_us = datetime.now(timezone.utc).timestamp() * 1e6
    assert row_filter([], [], "2h", None).since == pytest.approx(now_us - 7_200e6, abs=60e6)
    for name, bounds in (("since", ("noon", None)), ("until", (None, "noon"))):
        with pytest.raises(UsageError, match="'noon' is neither a time nor a frame") as caught:
            row_filter([], [], *bounds)
        assert caught.value.parameters == (name,)


def test_cameras_and_sources_are_names():
    found = row_filter(["lobby", "01"], ["north"], None, None)
    assert found == SearchFilter(frozenset({"lobby", "01", "1"}), sources=frozenset({"north"}))
    rows = [GalleryRow("a.jpg", camera="1", source="north"), GalleryRow(None, camera="01", source="north")]
    assert all(found.passes(row) for row in rows)
    assert not found.passes(GalleryRow("a.jpg", camera="1"))
    assert row_filter([], [], None, None) == SearchFilter()


def test_bytes_that_are_no_utf8_are_escaped_as_in_names():
    found = row_filter(["caf\udce9"], ["\udcff"], None, None)
    assert (found.cameras, found.sources) == (frozenset({"caf\\udce9"}), frozenset({"\\udcff"}))


def shown(capsys, matches, *, as_json=False, **fields):
    result = MatchResult(("q.jpg",), tuple(matches), searched=5, **fields)
    answer = Answer(
        (result, result), "crops", Path("crops"), "local", Path("m.onnx"), fake_spec(), "fake", 5, missing=2
    )
    print_answer(answer, written=[], as_json=as_json, explain=False)
    return capsys.readouterr()


def test_the_table_shows_times_labels_and_rows_without_files(capsys):
    matches = [
        Match(1, 0.9, "a\n.jpg", "lobby-entrance", "0001", time=NOON_US, label="anna"),
        Match(2, 0.8, None, None, None, id=7, frame=9),
    ]
    lines = shown(capsys, matches).out.splitlines()
    assert lines[1:4] == [
        "rank   score          camera    person                  time  path",
        "   1   0.900  lobby-entrance      anna  2026-11-25T12:00:00Z  a\\n.jpg",
        "   2   0.800               -         -                     -  #7",
    ]
    lines = shown(capsys, [Match(1, 0.9, "a.jpg", "1", "0001", distance=0.25)], reranked=20).out.splitlines()
    assert lines[1:3] == [
        "rank   score  distance  camera    person  path",
        "   1   0.900     0.250       1      0001  a.jpg",
    ]


def test_json_has_times_in_utc_and_warnings(capsys):
    printed = shown(capsys, [Match(1, 0.9, None, id=7, time=NOON_US, frame=9)], as_json=True, warnings=("flat", "wide"))
    answer = json.loads(printed.out)
    assert (answer["gallery"], answer["missing"], answer["warnings"]) == ("crops", 2, ["flat", "wide"])
    assert answer["results"][0]["warnings"] == ["flat", "wide"]
    (match,) = answer["results"][0]["matches"]
    assert (match["time"], match["frame"], match["id"], match["path"]) == ("2026-11-25T12:00:00Z", 9, 7, None)
    assert (match["track"], match["label"], match["source"]) == (None, None, "local")
    # Both results have the same doubts; each is said once.
    assert printed.err.splitlines() == ["warning: flat", "warning: wide"]


def test_no_score_and_no_crop_are_told_apart(capsys):
    assert "no match in the gallery (no score reaches 0.5)" in shown(capsys, [], threshold=0.5).out


def test_names_that_are_no_utf8_are_valid_json(capsysbinary):
    path = "caf\udce9\n\u4eba\U0001f9cd.jpg"
    print_json({"path": path})
    printed = capsysbinary.readouterr().out
    told = json.loads(printed.decode("utf-8"))["path"]
    told.encode("utf-8")  # strict parsers refuse halves of surrogate pairs
    assert msgspec.json.decode(printed) == {"path": "caf\uefe9\n\u4eba\U0001f9cd.jpg"} == {"path": told}
    assert os.fsencode(name_of_text(told)) == b"caf\xe9\n" + "\u4eba\U0001f9cd.jpg".encode()
    assert "\u4eba\U0001f9cd".encode() in printed  # only what is no UTF-8 is escaped
