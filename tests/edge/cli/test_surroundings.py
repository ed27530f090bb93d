"""Surroundings that are not as usual: closed or full streams, no home, no current folder, few files, small disks."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rrid_edge.cli.last_net import LastNet
from support.commands import rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import save_crops
from support.sharing import made_once

RUN = f"{shlex.quote(sys.executable)} -m rrid_edge.cli"
MATCH = f"{RUN} match query.jpg gallery --top-k 1 --runtime onnxruntime --threads 1"
FIRST = "0001_c1s1_000000_00.jpg"
FULL = "rrid-edge: standard output: No space left on device; free space, or write elsewhere\n"


def _make(folder: Path) -> None:
    crops = save_crops(folder / "gallery", 6)
    shutil.copytree(folder / "gallery", folder / "new")
    shutil.copy(crops[0], folder / "query.jpg")
    save_tiny_model(folder / "models" / "rrid.onnx")
    assert rrid_edge("index", folder / "gallery", "--model", folder / "models" / "rrid.onnx").code == 0


@pytest.fixture
def desk(tmp_path_factory, tmp_path):
    """A folder with an indexed gallery."""
    return Path(shutil.copytree(made_once(tmp_path_factory, "desk-of-surroundings", _make), tmp_path / "desk"))


def shell(command: str, folder: Path, **variables: str | None) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell; a variable that is None is not set."""
    fixed = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}  # none is cut off
    changed = {**os.environ, **fixed, **variables}
    kept = {name: value for name, value in changed.items() if value is not None}
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=folder, env=kept, capture_output=True, text=True, check=False, timeout=120
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"HOME": None}, ""),
        ({"HOME": "/proc/none", "XDG_STATE_HOME": None, "RRID_EDGE_CACHE": None}, ""),
        ({"XDG_CACHE_HOME": "/proc/none", "XDG_STATE_HOME": "/proc/none", "RRID_EDGE_CACHE": None}, ""),
        ({"TMPDIR": "/proc/none"}, ""),
        ({"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, ""),
        ({"COLUMNS": "1"}, ""),
        ({}, "ulimit -n 32; "),
    ],
    ids=["no home", "home", "folders", "no folder for temporary files", "C", "one column", "32 files"],
)
def test_a_match_answers(desk, variables, line):
    done = shell(line + MATCH, desk, **variables)
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[-1].endswith(FIRST)


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_streams_that_nobody_reads_stop_nothing(desk, streams):
    """A program without stdout cannot be told from one whose result nobody wants."""
    done = shell(f"{RUN} index new --runtime onnxruntime {streams}", desk)
    assert done.returncode == 0, done
    assert rrid_edge("gallery", "list", desk / "new").out.count("\n") == 6
    if ">&-" not in streams.split():
        assert "6 crops (6 added" in done.stdout


@pytest.mark.parametrize(
    "words", ["gallery list gallery", "gallery list gallery --json", "--help", "--version", "doctor"]
)
def test_a_result_that_finds_no_space_is_an_error(desk, words):
    done = shell(f"{RUN} {words} > /dev/full", desk)
    assert done.returncode == 2
    assert done.stderr.endswith(FULL)


def test_a_deleted_current_folder(desk):
    gone = f"mkdir gone && cd gone && rmdir ../gone && {RUN}"
    done = shell(f"{gone} match {desk}/query.jpg {desk}/gallery --top-k 1", desk)
    assert done.returncode == 0, done
    done = shell(f"{gone} match query.jpg gallery", desk)
    assert done.returncode == 2
    assert done.stderr.startswith("rrid-edge: gallery: no such folder; the last argument is the gallery")


def test_too_many_open_files_name_the_limit(capsys):
    with LastNet([], lambda _parameters: [], debug=False) as net:
        raise OSError(24, "Too many open files", "a.jpg")
    assert net.code == 2
    assert capsys.readouterr().err == "rrid-edge: a.jpg: Too many open files; allow more with: ulimit -n 1024\n"


@pytest.mark.parametrize(
    ("words", "made", "kib"),
    [
        ("index new --runtime onnxruntime", "new/.rrid-edge", 4),
        ("match query.jpg new --runtime onnxruntime", "new/.rrid-edge", 4),
        ("gallery copy gallery copies/one", "copies", 16),
        ("embed-many --no-ray --input new --gallery many/one --model models/rrid.onnx", "many", 4),
        ("gallery export gallery --output tables/e.npz", "tables", 1),
    ],
)
def test_a_disk_that_is_full_leaves_nothing_half(desk, words, made, kib):
    """A limit of the size of files stands for the disk. Afterwards the same command works."""
    done = shell(f"ulimit -f {2 * kib}; {RUN} {words}", desk)  # in blocks of 512 bytes
    assert done.returncode in (2, 4), done
    assert done.stderr.splitlines()[-1].startswith("rrid-edge: "), done
    assert not (desk / made).exists()
    done = shell(f"{RUN} {words}", desk)
    assert done.returncode == 0, done
    assert (desk / made).exists()


def test_crops_of_which_none_can_be_read_leave_no_gallery(desk):
    (desk / "words").mkdir()
    (desk / "words" / "a.jpg").write_text("hello")
    done = shell(f"{RUN} embed-many --no-ray --input words --gallery many/one --model models/rrid.onnx", desk)
    assert done.returncode == 2, done
    assert not (desk / "many").exists()
