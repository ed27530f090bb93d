"""The first run on a GPU: its script on stand-ins of TensorRT and CUDA, and its parts in Python."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import check_plain_code
import compare_graphs
import gpu_environment
import gpu_summary
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.engines.tensorrt.engine import TensorRTEngine
from rrid_edge.parity.goldens import Goldens, save_goldens
from rrid_edge.ranking.labels import Labels
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.settings import BuildSettings
from support.onnx_models import save_tiny_model
from support.tensorrt_behaviour import install

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tools" / "first_gpu_run.sh"
SPEC = fake_spec()


@pytest.fixture
def place(tmp_path):
    """A folder with the folders ``models`` (fp16, goldens, an engine of another machine), ``crops`` and ``bin``."""
    for name in ("models", "crops", "bin"):
        (tmp_path / name).mkdir()
    save_tiny_model(tmp_path / "models" / "rrid.fp16.onnx", SPEC.with_precision("fp16"))
    (tmp_path / "models" / "rrid.fp16.engine").write_bytes(b"of another machine")
    images = np.random.default_rng(0).integers(0, 256, (4, SPEC.height_px, SPEC.width_px, 3), dtype=np.uint8)
    unknown = np.full(4, -1)
    with FakeEngine(SPEC) as engine:
        values = engine.run(images)
    goldens = Goldens(images, values, ("x",) * 4, SPEC.fingerprint, Labels(unknown, unknown))
    save_goldens(tmp_path / "models" / "rrid.goldens.npz", goldens)
    trtexec = tmp_path / "bin" / "trtexec"
    trtexec.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\ncase $* in *saveEngine*) echo no room; exit 7 ;; esac\n')
    trtexec.chmod(0o755)
    return tmp_path


def _run(place: Path, *arguments: str, standin: str = "10.13.3.9", only: str = "") -> subprocess.CompletedProcess[str]:
    paths = [ROOT / "tests" / "support" / "gpu_shim", ROOT / "tests"]
    given = {"PYTHON": sys.executable, "RRID_EDGE_STANDIN": standin, "OMP_NUM_THREADS": "1"}
    given |= {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PATH": f"{place / 'bin'}:{os.environ['PATH']}"}
    environment = {**os.environ, **given, **({"ONLY": only} if only else {})}
    return subprocess.run(
        [str(SCRIPT), *arguments], cwd=place, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def _steps(place: Path) -> dict[str, str]:
    return {step.name: step.code for step in gpu_summary.read_steps(place / "out")}


@pytest.mark.slow
def test_the_script_runs_on_the_standins(place):
    only = "@(02-device|1fp16-build|1int8-build|20-parity-*|31-*|32-*|33-*|34-*|4?-version-*)"
    done = _run(place, "models", "crops", "out", only=only)
    assert _steps(place) == {
        "02-device": "0",
        "1fp16-build": "0",
        "1int8-build": "skipped",  # there is no such file
        "20-parity-fp16": "0",
        "31-trtexec-command": "0",
        "32-trtexec-build": "7",
        "33-trtexec-adopt": "skipped",
        "34-trtexec-load": "0",
        "40-version-compatible-build": "skipped",  # there is no lean runtime
        "41-version-compatible-parity": "skipped",
    }
    assert done.returncode == 1, done.stdout + done.stderr
    assert "10 steps, 1 failed: 32-trtexec-build" in done.stdout
    said = (place / "out" / "logs" / "34-trtexec-load.txt").read_text()
    assert f"--shapes=images:8x{SPEC.height_px}x{SPEC.width_px}x3\n" in said
    assert (place / "models" / "rrid.fp16.engine").read_bytes() == b"of another machine"
    with tarfile.open(place / "out.tgz") as archive:
        names = archive.getnames()
        summary = archive.extractfile("out/summary.txt")
        assert summary is not None
        text = summary.read().decode()
    assert names[0] == "out/summary.txt"
    assert "32-trtexec-build (exit code 7)" in text
    assert "no room" in text
    assert {"out/logs/1fp16-build.tensorrt.log", "out/models/rrid.fp16.engine.json"} <= set(names)
    assert "out/logs/1fp16-build.tensorrt.log.inspector.json" in names
    assert not [name for name in names if name.endswith((".onnx", ".engine", ".npz", ".timing"))]


def test_without_a_gpu_the_exit_code_says_so_and_the_archive_is_there(place):
    done = _run(place, "models", "crops", "out", standin="none", only="@(02-device|20-*|21-*)")
    assert done.returncode == 3, done.stdout + done.stderr
    assert _steps(place) == {
        "02-device": "3",
        "20-parity-fp16": "skipped",
        "21-graphs": "skipped",
    }
    assert "no NVIDIA GPU answers" in done.stdout
    assert (place / "out.tgz").is_file()


def test_wrong_use_is_refused_before_anything_is_written(place):
    for arguments, word in (
        ((), "Run: tools/first_gpu_run.sh MODELS CROPS"),
        (("models", "nowhere"), "nowhere: there is no such folder"),
        (("models", "crops", "bin"), "bin: this exists already"),
        (("crops", "models", "out"), "there is no ONNX file"),
    ):
        done = _run(place, *arguments)
        assert (done.returncode, word in done.stderr) == (2, True), done.stderr


def test_the_summary_lists_the_steps_and_the_last_lines_of_failed_ones(tmp_path, capsys, monkeypatch):
    (tmp_path / "logs").mkdir()
    rows = ["step\tcode\tseconds\tcommand", "00-a\t0\t2\tgood", "10-b\t124\t300\tslow one", "20-c\tskipped\t0\tno tool"]
    rows += ["34-trtexec-load\t0\t9\ttrtexec"]
    (tmp_path / "steps.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "logs" / "00-a.txt").write_text("first\nlast\n\n")
    (tmp_path / "logs" / "10-b.txt").write_bytes(b"line 1\n\xff line 2\n")
    (tmp_path / "logs" / "34-trtexec-load.txt").write_text("[I] Throughput: 812.4 qps\n[I] done\n")
    monkeypatch.setattr(sys, "argv", ["gpu_summary.py", str(tmp_path)])
    assert gpu_summary.main() == 1
    text = (tmp_path / "summary.txt").read_text()
    assert text in capsys.readouterr().out
    assert text.splitlines()[1:4] == [
        "00-a                   0        2  ok: last",
        "10-b                 124      300  over its time limit: \ufffd line 2",
        "20-c             skipped        0  skipped: no tool",
    ]
    assert "4 steps, 1 failed: 10-b" in text
    assert "== 34-trtexec-load\n   [I] Throughput: 812.4 qps\n\n" in text
    assert "   line 1\n" in text


def test_every_question_about_a_machine_may_fail(monkeypatch):
    monkeypatch.setattr(gpu_environment, "FILES", ("/nowhere/file",))
    monkeypatch.setattr(gpu_environment, "COMMANDS", (("no-such-program",), ("false",)))
    text = "\n".join(gpu_environment.lines())
    for words in (
        "-- /nowhere/file\nis not there",
        "no-such-program\nis not installed",
        "false\nprinted nothing, exit",
    ):
        assert words in text


class Disturbed(TensorRTEngine):
    """An engine whose graph of 5 images gives other answers."""

    wrong = 1.0

    def run(self, images: np.ndarray) -> np.ndarray:
        values = super().run(images)
        return values + self.wrong if len(images) == 5 and self.graph_batches else values


def _compare(monkeypatch: pytest.MonkeyPatch, path: Path, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["compare_graphs.py", str(path), *options])
    return compare_graphs.main()


@pytest.mark.parametrize("wrong", [0.0, 1.0, np.nan])
def test_graphs_that_answer_differently_are_found(monkeypatch, tmp_path, capsys, wrong):
    install(monkeypatch, "10.3.0")
    path, onnx_path = tmp_path / "m.engine", save_tiny_model(tmp_path / "m.onnx", SPEC)
    build_engine(onnx_path, path, BuildSettings(opt_batch=2, max_batch=4))
    monkeypatch.setattr(Disturbed, "wrong", wrong)
    monkeypatch.setattr(compare_graphs, "TensorRTEngine", Disturbed if wrong else TensorRTEngine)
    assert _compare(monkeypatch, path, "--rounds", "3") == (1 if wrong else 0)
    told = capsys.readouterr().out
    assert "graphs of batch sizes [1, 2, 4]; activations 640 bytes" in told
    assert ("wrong at batch sizes [5]" if wrong else "all within 1e-05") in told


def test_a_comparison_without_graphs_proves_nothing(monkeypatch, tmp_path, capsys):
    world = install(monkeypatch, "10.3.0")
    path, onnx_path = tmp_path / "m.engine", save_tiny_model(tmp_path / "m.onnx", SPEC)
    build_engine(onnx_path, path, BuildSettings(opt_batch=2, max_batch=2))
    world.cuda.capture_error = world.cuda.cudaError_t.cudaErrorStreamCaptureInvalidated
    assert _compare(monkeypatch, path, "--rounds", "2") == 1
    assert "no graph was captured" in capsys.readouterr().out
    path.unlink()
    assert _compare(monkeypatch, path) == 2
    assert "cannot be read" in capsys.readouterr().out


def test_the_code_without_this_package_is_compared(monkeypatch, tmp_path, capsys):
    world = install(monkeypatch, "10.3.0")
    package = ModuleType("cuda.bindings")
    package.__dict__["runtime"] = world.cuda
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", package)
    path, onnx_path = tmp_path / "m.engine", save_tiny_model(tmp_path / "m.onnx", SPEC)
    build_engine(onnx_path, path, BuildSettings(opt_batch=2, max_batch=3))
    monkeypatch.setattr(sys, "argv", ["check_plain_code.py", str(path)])
    assert check_plain_code.main() == 0
    code = check_plain_code.code_of((ROOT / "docs" / "plan-without-rrid-edge.md").read_text())
    page = tmp_path / "page.md"
    page.write_text(f"```python\n{code.replace('return descriptors', 'return -descriptors')}```\n")
    monkeypatch.setattr(check_plain_code, "PAGE", page)
    assert check_plain_code.main() == 1
    assert "allowed 1e-05" in capsys.readouterr().out


def test_the_sizes_of_a_round_use_both_slots():
    sizes = compare_graphs.batch_sizes(32)
    assert {1, 2, 5, 8, 32, 33, 64, 69} == set(sizes)
    assert all(first != second for first, second in itertools.pairwise(sizes))
    assert min(compare_graphs.batch_sizes(1)) == 1
