"""Mistakes that depend on what is there: another model, a busy gallery, a full disk, missing packages."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from first_ten_minutes.environment import programs_of_suite, variables
from rrid_edge.gallery.opening import open_store
from support.commands import rrid_edge
from support.foreign import ForeignFile
from support.mistakes import desk, ends_with
from support.programs import ROOT

__all__ = ["desk"]
FOLLOWING = {
    "train --dataset-path data": ("training", "torch", "train"),
    "export checkpoint.pth": ("exporting a model", "onnx", "export"),
    "adopt foreign.onnx --preset torchreid": ("adopting a network", "onnx", "adopt"),
    "calibrate models/rrid.onnx --images gallery": ("calibrating a model", "onnx", "calib"),
    "serve gallery": ("serving galleries", "uvicorn", "serve"),
    "index gallery --watch": ("following a folder", "watchfiles", "watch"),
    "match query.jpg milvus+http://localhost:1/people": ("a gallery in Milvus", "pymilvus", "milvus"),
    "embed-many --input gallery --gallery g --model models/rrid.onnx": ("embedding on a cluster", "ray", "ray"),
}
"""Commands without their packages: what for, the package, the extra that brings it."""


@pytest.fixture
def gallery(desk):
    assert rrid_edge("index", "gallery").code == 0
    return desk / "gallery"


def _rows():
    outcome = rrid_edge("gallery", "list", "gallery", "--json")
    assert outcome.code == 0, outcome
    return outcome.out


@pytest.mark.parametrize("command", [["index", "gallery"], ["match", "query.jpg", "gallery"]])
def test_another_model(gallery, command):
    before = _rows()
    ends_with(
        [*command, "--model", "other.onnx"],
        4,
        "gallery/.rrid-edge: this gallery was indexed with another model (resnet18, fingerprint ...) than the given "
        "one (resnet18, ffffffffffff): give that model, or rebuild the index with: rrid-edge index FOLDER --rebuild "
        "(option --model)",
    )
    assert _rows() == before


def test_a_name_that_is_no_camera_of_the_gallery(gallery):
    outcome = rrid_edge("match", "query.jpg", "gallery", "--camera", "c1")
    assert outcome.code == 0
    assert outcome.out.splitlines()[-1] == "no match in the gallery"
    warning = next(line for line in outcome.err.splitlines() if line.startswith("warning: "))
    assert warning.startswith("warning: no crop passes the filters; the gallery's 8 crops have cameras 1 (3), 2 (3), 3")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "nothing to forget: give paths or ids of crops, a person, a camera, a source or a time (...)"),
        (["--person", "99"], "person '99' is not in the index; see: rrid-edge gallery list (option --person)"),
        (["--before", "soon"], "'soon' is neither a time nor a frame: expected ISO 8601 such as ..."),
        (
            ["gallery/none.jpg"],
            "gallery/none.jpg: not in the index (...); expected paths below the gallery's folder; see: rrid-edge "
            "gallery list (argument PATHS)",
        ),
    ],
)
def test_nothing_is_forgotten_by_mistake(gallery, options, line):
    before = _rows()
    ends_with(["gallery", "forget", "gallery", *options], 2, line)
    assert _rows() == before


def test_two_commands_that_write_one_gallery(gallery):
    (gallery / "0009_c1s1_000900_00.jpg").write_bytes(Path("query.jpg").read_bytes())
    with open_store(gallery / ".rrid-edge", write=True):
        ends_with(
            ["index", "gallery"],
            4,
            "gallery/.rrid-edge: another process is writing this index, ...; wait for it, or stop it, and try again",
        )


def test_an_emptied_folder_keeps_its_rows(gallery):
    before = _rows()
    for crop in gallery.glob("*.jpg"):
        crop.unlink()
    outcome = rrid_edge("index", "gallery")
    assert outcome.code == 2, outcome
    assert "its disk" in outcome.err or "mounted" in outcome.err
    assert _rows() == before


def test_a_mistyped_dataset_deletes_no_earlier_run(desk):
    run = desk / "runs" / "rrid"
    run.mkdir(parents=True)
    (run / "best.safetensors").write_bytes(b"weeks of work")
    (run / "config.json").write_text("{}")
    line = "...: no such dataset folder; make one with rrid-edge demo-data, or give a folder in Market-1501 style ..."
    ends_with(["train", "--dataset-path", "market", "--exp-dir", run, "--overwrite"], 2, line)
    assert (run / "best.safetensors").read_bytes() == b"weeks of work"


def test_a_variable_that_names_no_model(desk, monkeypatch):
    monkeypatch.setenv("RRID_EDGE_MODEL", "gone.onnx")
    ends_with(
        ["index", "gallery"],
        2,
        "gone.onnx: no such model file (from RRID_EDGE_MODEL); this folder holds cut.onnx, other.onnx; make one with: "
        "... (option --model)",
    )


def test_no_model_at_all(desk):
    (desk / "models" / "rrid.onnx").unlink()
    ends_with(
        ["index", "gallery"],
        2,
        "no model: none was given, and models/ holds no model that this machine can run; give a model file, set "
        "RRID_EDGE_MODEL, or make one with: rrid-edge export CHECKPOINT, or rrid-edge adopt FILE for a network of "
        "another program (option --model)",
    )


def test_a_port_in_use(gallery):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ends_with(
            ["serve", "gallery", "--port", port],
            2,
            f"port {port} of 127.0.0.1 is taken by another program: stop it, or choose another port (option --port)",
        )


def test_a_damaged_token_file(gallery):
    tokens = Path("tokens")
    tokens.write_text("admin short\n")
    tokens.chmod(0o600)
    ends_with(
        ["serve", "gallery", "--token-file", "tokens"],
        2,
        "tokens, line 1: a token of 5 characters; expected 16 to 512 (option --token-file)",
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(gallery):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [ROOT]))}
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "rrid_edge.cli", "match", "query.jpg", "gallery"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert done.returncode == 2
    told = done.stderr.splitlines()[-1]
    assert told == "rrid-edge: standard output: No space left on device; free space, or write elsewhere"


def test_python_too_old():
    rule = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "rrid-edge needs Python 3.10 or newer; set PYTHON=python3.11, for example" in rule


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Folder with a ``rrid-edge`` that has the packages of the extra ``cpu`` only."""
    return programs_of_suite(ROOT, tmp_path_factory.mktemp("only-cpu"))


@pytest.fixture
def alone(desk, tmp_path, programs):
    (desk / "checkpoint.pth").write_bytes(b"\0")
    ForeignFile().write(desk / "foreign.onnx")
    return variables(programs, tmp_path / "home")


@pytest.mark.parametrize(("words", "expected"), FOLLOWING.items(), ids=FOLLOWING)
def test_a_missing_package(alone, words, expected):
    purpose, package, extra = expected
    if words.startswith("serve"):
        indexed = subprocess.run(["rrid-edge", "index", "gallery"], env=alone, capture_output=True, check=False)
        assert indexed.returncode == 0
    done = subprocess.run(["rrid-edge", *words.split()], env=alone, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert "Traceback" not in done.stderr
    line = (
        f"rrid-edge: {purpose} needs the package '{package}', which is not installed: pip install 'rrid-edge[{extra}]'"
    )
    assert done.stderr.splitlines()[-1] == line
