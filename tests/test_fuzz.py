"""The fuzzer in its short form: fixed seed, every kind of damage; and the fuzzer itself finds planted faults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fuzzing import image_cases
from fuzzing.artefact_cases import ArtefactCases
from fuzzing.artefact_kinds import KINDS
from fuzzing.folder_cases import FolderCases
from fuzzing.image_cases import ImageCases
from fuzzing.image_seeds import FORMATS
from fuzzing.running import Limits, run_here
from fuzzing.watching import FAULT, REFUSED, SOUND, USER_FOLDERS
from rrid_edge.crops.images import load_rgb
from rrid_edge.errors import ImageError

pytestmark = pytest.mark.filterwarnings("ignore")  # damaged files cause warnings of many libraries

SCRIPT = Path(__file__).parents[1] / "tools" / "fuzz.py"


def _faults(results):
    return [(result.kind, result.number, result.detail) for result in results if result.outcome == FAULT]


def test_damaged_images_are_read_or_refused_by_name():
    results = run_here(ImageCases(18, 624), range(624), Limits())
    assert _faults(results) == []
    seen = {(result.kind, result.outcome) for result in results}
    assert seen >= {(kind, REFUSED) for kind in FORMATS} | {(kind, SOUND) for kind in FORMATS if FORMATS[kind].reads}


@pytest.fixture
def _user_folders(monkeypatch, tmp_path):
    for name in USER_FOLDERS:
        monkeypatch.setenv(name, str(tmp_path))  # the cases change them, and these come back


@pytest.mark.usefixtures("_user_folders")
def test_damaged_images_cost_an_index_those_files_only():
    assert _faults(run_here(FolderCases(18, 1), [0], Limits())) == []


@pytest.mark.usefixtures("_user_folders")
def test_damaged_artefacts_are_read_or_refused_by_name(tmp_path):
    (tmp_path / "world").mkdir()
    results = run_here(ArtefactCases(18, 183, tmp_path / "world", whole=False), range(183), Limits())
    assert _faults(results) == []
    assert {result.kind for result in results} == {name for name, kind in KINDS.items() if not kind.is_large}
    assert {SOUND, REFUSED} == {result.outcome for result in results}


def test_a_case_depends_on_its_seed_and_number_only():
    cases, again = ImageCases(3, 100), ImageCases(3, 10)
    assert [cases.make(number).content for number in range(40)] == [again.make(number).content for number in range(40)]
    assert ImageCases(4, 100).make(7).content != cases.make(7).content


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        (RuntimeError("planted"), "RuntimeError: planted"),
        (ImageError("other.jpg", "no image"), "does not name the file"),
    ],
    ids=["exception", "nameless refusal"],
)
def test_planted_errors_are_found(monkeypatch, planted, words):
    def broken(*_arguments):
        raise planted

    for name in ("load_rgb", "read_image", "read_image_bytes"):
        monkeypatch.setattr(image_cases, name, broken)
    (result,) = run_here(ImageCases(1, 1), [1], Limits())
    assert result.outcome == FAULT
    assert words in result.detail


def test_a_write_elsewhere_is_found(monkeypatch, tmp_path):
    def writing(path, *_arguments):
        (tmp_path / "elsewhere").write_text("x")
        raise ImageError(path, "no image")

    monkeypatch.setattr(image_cases, "load_rgb", writing)
    (result,) = run_here(ImageCases(1, 1), [1], Limits())
    assert result.outcome == FAULT
    assert "elsewhere" in result.detail


def test_memory_and_time_are_limited(monkeypatch):
    def greedy(*arguments):
        assert np.ones(256 << 20, np.uint8).all()  # far more than this process may give back meanwhile
        return load_rgb(*arguments)

    monkeypatch.setattr(image_cases, "load_rgb", greedy)
    for limits, words in ((Limits(peak_mib=32), "MiB of memory"), (Limits(hang_s=0), " s")):
        (result,) = run_here(ImageCases(1, 1), [2], limits)
        assert result.outcome == FAULT
        assert words in result.detail
    (result,) = run_here(ImageCases(1, 1), [2], Limits())
    assert result.outcome != FAULT


def test_the_script_runs_cases_in_processes_and_finds_crashes_and_hangs():
    program = f"""
import os, sys, time
sys.argv = ["fuzz.py", "images", "--start", "1", "--count", "20", "--jobs", "2", "--hang-s", "4", "--no-huge"]
sys.path.insert(0, {str(SCRIPT.parent)!r})
import fuzz
from fuzzing import image_cases
read = image_cases.load_rgb
def sometimes(path, *rest):
    if " 8." in str(path):
        os.kill(os.getpid(), 11)
    if " 19." in str(path):
        time.sleep(60)
    return read(path, *rest)
image_cases.load_rgb = image_cases.read_image = sometimes
sys.exit(fuzz.main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1, done.stderr
    assert " 8: the process ended with -11" in done.stdout
    assert " 19: no end after" in done.stdout
    assert "20 images of seed 1" in done.stdout
    assert "2 faults" in done.stdout
