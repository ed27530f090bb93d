"""Ctrl-C and SIGTERM in real processes: one true line about what is kept, the exit code, and nothing half-written."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from support.commands import rrid_edge
from support.datasets import write_dataset
from support.pictures import save_crops
from support.stopped import Moment, stopped

INT, TERM = signal.SIGINT, signal.SIGTERM
TAKE = "rrid_edge.gallery.indexing.writing.GalleryWriter.take"
INDEX = ("index", "gallery", "--model", "rrid.onnx", "--runtime", "onnxruntime", "--batch", 4, "--workers", 1)


def _rows(folder: str = "gallery") -> int:
    outcome = rrid_edge("gallery", "list", folder, "--json")
    return len(json.loads(outcome.out)["rows"]) if outcome.code == 0 else 0


@pytest.mark.parametrize(("signals", "code"), [((INT,), 130), ((TERM,), -TERM)])
def test_index_says_how_many_crops_are_indexed_and_goes_on(desk, signals, code):
    ended = stopped(INDEX, Moment(TAKE, 2), signals, folder=desk)
    stored = _rows()
    name = signals[0].name
    assert ended.after[-1] == (
        f"stopped by {name}; {stored} of 12 new and changed crops are indexed; run the same command again to go on"
    )
    assert (ended.code, ended.out) == (code, "")
    assert rrid_edge("gallery", "verify", "gallery").code == 0
    outcome = rrid_edge(*INDEX, "--json")
    assert json.loads(outcome.out)["added"] == 12 - stored
    assert _rows() == 12


def test_a_stopped_rebuild_goes_on_without_another_rebuild(desk):
    assert rrid_edge(*INDEX).code == 0
    ended = stopped((*INDEX, "--rebuild"), Moment(TAKE, 2), folder=desk)
    stored = _rows()
    assert stored < 12
    words = f"{stored} of 12 new and changed crops are indexed; run it again without --rebuild to go on"
    assert ended.after == [f"stopped by SIGINT; {words}"]
    assert rrid_edge(*INDEX).code == 0
    assert _rows() == 12


@pytest.mark.parametrize(
    ("arguments", "place", "words"),
    [
        (INDEX, "rrid_edge.cli.app.register", ""),
        (INDEX, "rrid_edge.cli.index.open_model", "; no crop was indexed"),
        (
            ("match", "gallery/a.png", "gallery"),
            "rrid_edge.matching.ranking._answered",
            "; 0 new and changed crops are ",
        ),
        (("gallery", "verify", "gallery"), "rrid_edge.gallery.local.verifying._verify", "; nothing was changed"),
        (
            ("gallery", "export", "gallery", "--output", "d.npz"),
            "rrid_edge.gallery.exporting._columns",
            "; no result was written",
        ),
        (
            ("gallery", "compact", "gallery"),
            "rrid_edge.gallery.local.maintenance.commit",
            "; all crops are stored; run the same command again",
        ),
        (
            ("gallery", "forget", "gallery", "--camera", "1"),
            "rrid_edge.gallery.indexing.forgetting._delete_files",
            "; 0 of 4 crops are removed from the index; run the same command again to go on",
        ),
    ],
    ids=lambda value: value.rpartition(".")[2] if isinstance(value, str) and "rrid_edge." in value else "",
)
def test_commands_on_galleries_say_what_they_kept(desk, arguments, place, words):
    first = sorted(path.name for path in (desk / "gallery").iterdir())[0]
    assert rrid_edge(*INDEX).code == 0
    given = [str(word).replace("a.png", first) for word in arguments]
    given += ["--delete-files"] if "forget" in given else []
    ended = stopped(given, Moment(place), folder=desk)
    assert ended.after[-1].startswith(f"stopped by SIGINT{words}")
    assert (ended.code, ended.out) == (130, "")
    assert not (desk / "d.npz").exists()
    assert _rows() == 12
    assert rrid_edge("gallery", "verify", "gallery").code == 0
    assert rrid_edge(*[word for word in given if word != "--delete-files"]).code == 0


def test_copies_go_on(desk):
    assert rrid_edge(*INDEX).code == 0
    command = ("gallery", "copy", "gallery", "other")
    ended = stopped(command, Moment("rrid_edge.gallery.indexing.copying._copy_facts"), folder=desk)
    assert ended.after == ["stopped by SIGINT; the destination holds 12 crops now; run the same command again to go on"]
    assert ended.code == 130
    outcome = rrid_edge(*command, "--json")
    assert json.loads(outcome.out)["present"] == 12


def test_embed_many_says_what_the_gallery_holds(desk):
    command = ["embed-many", "--no-ray", "--input", "gallery", "--gallery", "g", "--model", "rrid.onnx"]
    ended = stopped(command, Moment("rrid_edge.gallery.bulk.run.Tally.report"), folder=desk)
    assert ended.after[-1] == "stopped by SIGINT; the gallery holds 12 crops now; run the same command again to go on"
    assert ended.code == 130
    assert rrid_edge(*command).code == 0


def test_demo_data_say_whether_they_are_complete(desk):
    command = ("demo-data", "demo", "--people", 9, "--images-per-camera", 2)
    place = "rrid_train.demo.synthetic.write_json"
    expected = {
        1: "demo holds no demo data yet; run the same command again",
        2: "the demo data in demo are incomplete; run the same command again: it draws all images again",
    }
    for number, words in expected.items():
        ended = stopped(command, Moment(place, number), folder=desk)
        assert (ended.code, ended.after) == (130, [f"stopped by SIGINT; {words}"])
    assert rrid_edge(*command).code == 0


def test_prepare_leaves_no_half_dataset(desk):
    for person in range(6):
        save_crops(desk / "raw" / f"p{person}", 4)
    command = ("prepare", "folders", "raw", "out", "--pattern", "none")
    ended = stopped(command, Moment("rrid_train.data.writing.write_json"), (TERM,), folder=desk)
    assert ended.after[-1] == "stopped by SIGTERM; no result was written"
    assert (ended.code, ended.out) == (-TERM, "")
    assert not (desk / "out").exists()
    ended = stopped(command, Moment("rrid_edge.cli.prepare._say_measurable"), folder=desk)
    assert ended.after[-1] == "stopped by SIGINT; written are out; run the same command again for the rest"
    assert (desk / "out" / "test.json").exists()


@pytest.mark.parametrize("is_native", [False, True])
def test_a_second_ctrl_c_ends_at_once(desk, is_native):
    """Also while a library computes for minutes, and while the first one is cleaned up."""
    place = TAKE if is_native else "rrid_edge.gallery.indexing.writing.GalleryWriter._end_thread"
    ended = stopped(INDEX, Moment(place, is_native=is_native), (INT, INT), folder=desk)
    assert ended.code == 130
    assert rrid_edge(*INDEX).code == 0
    assert _rows() == 12


def test_evaluate_and_calibrate_write_nothing_half(desk, narrow_export):
    data = write_dataset(desk / "data", train=8, test=3, cameras=3, shots=2)
    model = Path(narrow_export) / "rrid.onnx"
    evaluate = ("evaluate", "rrid.onnx", "--dataset", data, "--runtime", "onnxruntime")
    calibrate = ("calibrate", model, "--images", data, "--output", "int8/x.int8.onnx", "--count", 16)
    commands = {
        evaluate: "rrid_export.evaluation._ranked",
        calibrate: "rrid_calib.calibrate._prove",
    }
    for command, place in commands.items():
        ended = stopped(command, Moment(place), folder=desk)
        assert (ended.code, ended.out) == (130, "")
        assert ended.after[-1] == "stopped by SIGINT; no result was written"
    assert not (desk / "rrid.thresholds.json").exists()
    assert not list((desk / "int8").glob("*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "words", "files"),
    [
        (1, "no result was written", set()),
        (
            2,
            "written are out/rrid.onnx, out/rrid.goldens.npz, out/parity.json, out/parity.png; run the same command "
            "again for the rest",
            {"rrid.onnx", "rrid.goldens.npz", "parity.json", "parity.png"},
        ),
    ],
    ids=["within the first file", "within the second file"],
)
def test_export_keeps_whole_files_only(desk, tiny_export, number, words, files):
    command = ("export", tiny_export / "tiny.pth", "--height", 96, "--width", 32, "--fp16", "-o", "out")
    ended = stopped(command, Moment("rrid_export.pipeline._prove", number), folder=desk)
    assert (ended.code, ended.out) == (130, "")
    assert ended.after[-1] == f"stopped by SIGINT; {words}"
    assert {path.name for path in (desk / "out").glob("*")} == files
    if files:
        assert rrid_edge("info", desk / "out" / "rrid.onnx").code == 0  # it is whole


def test_train_says_how_the_run_goes_on(desk):
    data = write_dataset(desk / "data", train=4, test=3)
    small = "--backbone resnet18 --height 32 --width 32 --stripes 2 --block-width 8 --backbone-weights none"
    small += " --num-val 1 --epochs 2 --batch-size 8 --num-workers 0 --threads 1"
    command = ("train", "--dataset-path", data, "--exp-dir", "run", *small.split())
    ended = stopped(command, Moment("rrid_train.loop.load_dataset"), folder=desk)
    assert ended.after == ["stopped by SIGINT; no step was done; resume with: rrid-edge train --resume run"]
    assert (ended.code, ended.out) == (130, "")
    resumed = stopped(("train", "--resume", "run"), Moment("rrid_train.loop.Trainer._optimise", 2), folder=desk)
    assert resumed.code == 130
    assert re.fullmatch(
        r"stopped by SIGINT at step \d+; resume with: rrid-edge train --resume run", resumed.after[-1]
    ), resumed.after


def test_serve_ends_in_order(desk):
    pytest.importorskip("uvicorn")
    assert rrid_edge(*INDEX).code == 0
    command = ("serve", "gallery", "--model", "rrid.onnx", "--runtime", "onnxruntime", "--port", 0)
    for signals, place, code in (
        ((INT,), "rrid_edge.serve.service.location_of", 130),
        ((TERM,), "rrid_edge.cli.serve._tell", 0),
    ):
        ended = stopped(command, Moment(place), signals, folder=desk)
        assert ended.code == code, ended
