"""``gallery list`` and ``gallery export`` on the command line: filters, totals, forms, a reader that leaves."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.local.store import LocalGallery
from support.commands import refused, rrid_edge
from support.galleries import SPEC, vectors

NOON = 1_795_608_000_000_000  # 2026-11-25T12:00:00Z
ROWS = (
    NewRow("door/1.jpg", "a" * 64, 1, 1, "3", "0002", NOON),
    NewRow("door/2.jpg", "b" * 64, 1, 1, "3", "0750", NOON + 60_000_000),
    NewRow("hall/3.jpg", "c" * 64, 1, 1, "7", "0002", NOON + 120_000_000, label="Ann"),
    NewRow("hall/4.jpg", "d" * 64, 1, 1, "7", "-1", None, 250),
    NewRow("hall/5.jpg", "e" * 64, 1, 1, None, "0000", None, 90),
)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A gallery of five crops, with junk, a distractor and a confirmed label among them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with LocalGallery.create(tmp_path / "g" / ".rrid-edge", SPEC) as gallery:
        gallery.add(ROWS, vectors(len(ROWS)))
    return tmp_path


def names(*options):
    return [line.split()[-1] for line in rrid_edge("gallery", "list", "g", *options).out.splitlines()]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), "12345"),
        (("--camera", "3"), "12"),
        (("--camera", "03", "--camera", "7"), "1234"),
        (("--person", "0002"), "1"),
        (("--person", "Ann"), "3"),
        (("--since", "2026-11-25T12:01:00Z"), "23"),
        (("--until", "2026-11-25 12:00"), "1"),
        (("--since", "100"), "4"),
        (("--id", "1", "--id", "5"), "15"),
        (("--path", "hall/*"), "345"),
        (("--path", "*[13].jpg", "--camera", "7"), "3"),
        (("--source", "box"), ""),
        (("--person", "0002", "--camera", "7"), ""),
    ],
)
def test_filters_list_the_crops_that_meet_all_of_them(desk, options, found):
    assert names(*options) == [name for name in (row.path for row in ROWS) if name and name[5] in found]


def test_lines_and_totals(desk):
    outcome = rrid_edge("gallery", "list", "g")
    assert outcome.out.splitlines() == [
        "0002  3  2026-11-25T12:00:00Z    -  door/1.jpg",
        "0750  3  2026-11-25T12:01:00Z    -  door/2.jpg",
        "0002  7  2026-11-25T12:02:00Z  Ann  hall/3.jpg",
        "  -1  7             frame 250    -  hall/4.jpg",
        "0000  -              frame 90    -  hall/5.jpg",
    ]
    totals, second = outcome.err.splitlines()
    assert totals == ("5 crops, 3 people, 2 cameras, 2026-11-25T12:00:00Z to 2026-11-25T12:02:00Z, frames 90 to 250")
    assert second == f"float16, model {SPEC.fingerprint[:12]}, 0 dead slots"
    one = rrid_edge("gallery", "list", "g", "--path", "door/1*").err.splitlines()[0]
    assert one == "1 of 5 crops, 1 person, 1 camera, 2026-11-25T12:00:00Z to 2026-11-25T12:00:00Z"
    none = rrid_edge("gallery", "list", "g", "--camera", "99")
    assert (none.code, none.out, none.err.splitlines()[0]) == (0, "", "0 of 5 crops, 0 people, 0 cameras")


def test_json_has_the_facts_the_totals_and_every_row(desk):
    told = json.loads(rrid_edge("gallery", "list", "g", "--json").out)
    assert list(told) == ["info", "totals", "rows"]
    assert told["totals"] == {
        "rows": 5, "people": 3, "cameras": 2, "first_time": NOON, "last_time": NOON + 120_000_000, "first_frame": 90,
        "last_frame": 250,
    }  # fmt: skip
    assert [(row["path"], row["camera"], row["person"], row["label"], row["time"]) for row in told["rows"]] == [
        (row.path, row.camera, row.person, row.label, row.time) for row in ROWS
    ]
    none = json.loads(rrid_edge("gallery", "list", "g", "--json", "--id", "99").out)
    assert (none["rows"], none["totals"]["rows"], none["info"]["rows"]) == ([], 0, 5)


def test_wrong_filters_are_named(desk):
    refused(rrid_edge("gallery", "list", "g", "--since", "yesterday-ish"), 2, "yesterday-ish", "--since")
    refused(rrid_edge("gallery", "list", "nowhere"), 4, "nowhere")


def test_a_long_list_is_read_in_blocks_and_its_reader_may_leave(desk, tmp_path):
    many = [NewRow(f"m/{index:05d}.jpg", f"{index:064x}", 1, 1, str(index % 9)) for index in range(5000)]
    with LocalGallery(tmp_path / "g" / ".rrid-edge", write=True) as gallery:
        gallery.add(many, vectors(len(many)))
    assert names("--camera", "8") == [row.path for row in many if row.camera == "8"]
    assert len(json.loads(rrid_edge("gallery", "list", "g", "--json").out)["rows"]) == 5005
    for options in ((), ("--json",)):
        command = [sys.executable, "-m", "rrid_edge.cli", "gallery", "list", "g", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.read(10)
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait() == 141


@pytest.mark.parametrize("form", [("--output", "out.csv"), ("-o", "out.csv"), ("out.csv",)])
def test_an_export_goes_where_it_is_told_and_replaces_nothing_unasked(desk, form):
    assert rrid_edge("gallery", "export", "g", *form).out == "out.csv: 5 crops\n"
    with Path("out.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [(line["id"], line["path"], line["camera"], line["person"], line["label"]) for line in lines] == [
        (str(number), row.path, row.camera or "", "'-1" if row.person == "-1" else row.person, row.label or "")
        for number, row in enumerate(ROWS, start=1)
    ]
    assert Path("out.csv").stat().st_mode & 0o777 == 0o600
    refused(rrid_edge("gallery", "export", "g", *form), 2, "out.csv: this file exists", "--overwrite")
    assert rrid_edge("gallery", "export", "g", *form, "--overwrite").code == 0
    with_values = rrid_edge("gallery", "export", "g", *form, "--overwrite", "--descriptors", "--json").out
    size = os.stat("out.csv").st_size  # noqa: PTH116 - of the file that is there now
    assert json.loads(with_values) == {"output": "out.csv", "rows": 5, "dimension": 60, "bytes": size}
    table = np.genfromtxt("out.csv", delimiter=",", skip_header=1, usecols=range(9, 69), dtype=np.float32)
    with LocalGallery(Path("g/.rrid-edge")) as gallery:
        assert np.array_equal(table, gallery.vectors(gallery.rows()))


def test_exports_that_cannot_be_are_refused(desk):
    refused(rrid_edge("gallery", "export", "g"), 2, "no file to write was given", "--output descriptors.npz")
    refused(rrid_edge("gallery", "export", "g", "a.npz", "--output", "b.npz"), 2, "two files to write were given")
    refused(
        rrid_edge("gallery", "export", "g", "-o", "a.h5"), 2, "a.h5: the file name must end in .npz, .parquet or .csv"
    )
    refused(rrid_edge("gallery", "export", "g", "-o", "a.npz", "--descriptors"), 2, "option --descriptors")
    assert not list(desk.glob("[ab].*"))
