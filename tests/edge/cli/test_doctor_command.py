"""``rrid-edge doctor``: its lines at 80 columns, the models it looks at, the cache, and its exit code."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import shlex
import sys

import pytest

from rrid_edge.cli.app import run
from rrid_edge.cli.doctor import _remedy_lines
from rrid_edge.engines.cache_standing import cache_finding
from rrid_edge.machine.gpu_findings import Finding
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def device(tmp_path, monkeypatch):
    """An empty folder on a healthy device, without variables of this package."""
    for name in [name for name in os.environ if name.startswith("RRID_EDGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RRID_EDGE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def _findings(*arguments):
    return json.loads(rrid_edge("doctor", "--json", *arguments).out)


def _named(name, *arguments):
    return [finding for finding in _findings(*arguments) if finding["name"] == name]


def test_a_healthy_device_has_no_problem(device):
    outcome = rrid_edge("doctor")
    assert outcome.code == 0, outcome
    for name in ("python", "processor", "memory", "extras", "cache", "disk", "open files", "clock", "variable"):
        assert f" {name} " in outcome.out, name


def test_on_a_terminal_lines_fit_its_columns(device, monkeypatch):
    save_tiny_model(device / "models" / "rrid.onnx")
    monkeypatch.setenv("COLUMNS", "80")
    with contextlib.redirect_stdout(Terminal()) as out:
        assert run(["doctor"]) == 0
    assert any(line.startswith(" " * 22) for line in out.getvalue().splitlines())
    for line in out.getvalue().splitlines():
        assert len(line) <= 80 or "-> " in line or max(map(len, line.split())) > 58, line  # a path is not broken


def test_a_long_command_is_broken_where_a_shell_goes_on():
    remedy = "pip uninstall -y tensorrt-cu13 tensorrt-cu13-bindings && pip install 'rrid-edge[gpu-cu12]'"
    lines = _remedy_lines(remedy)
    assert lines == [
        "         -> pip uninstall -y tensorrt-cu13 tensorrt-cu13-bindings &&",
        "            pip install 'rrid-edge[gpu-cu12]'",
    ]
    assert shlex.split(" ".join(lines).replace("->", "")) == shlex.split(remedy)
    assert _remedy_lines("pip install av && pip install onnx") == ["         -> pip install av && pip install onnx"]
    assert _remedy_lines("") == []


def test_it_looks_at_the_models_that_commands_would_take(device, monkeypatch):
    assert _named("model") == []
    save_tiny_model(device / "models" / "rrid.onnx")
    other = save_tiny_model(device / "other" / "osnet.onnx")
    monkeypatch.setenv("RRID_EDGE_MODEL", str(other))
    first, second = _named("model")
    assert first["detail"].startswith(f"{other}: RRID, fp32")
    assert second["detail"].startswith("models/rrid.onnx: RRID, fp32")
    (given,) = _named("model", other)
    assert given["detail"].startswith(f"{other}: ")
    (auto,) = _named("auto")
    assert auto["detail"].startswith(f"{other}: runtime ")


def test_without_a_runtime_it_says_so_once_for_the_model(device, monkeypatch):
    save_tiny_model(device / "models" / "rrid.onnx")
    for package in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    assert _named("auto") == []
    assert _named("model")[0]["state"] == "problem"
    assert rrid_edge("doctor").code == 3


def test_a_problem_ends_with_3(device, monkeypatch):
    monkeypatch.setenv("RRID_EDGE_MODEL", "gone.onnx")
    outcome = rrid_edge("doctor")
    assert outcome.code == 3
    assert "problem  variable     RRID_EDGE_MODEL=gone.onnx: expected a model file that" in outcome.out
    assert "-> unset RRID_EDGE_MODEL" in outcome.out


def test_a_model_that_is_asked_for_and_not_there_is_refused(device):
    refused(rrid_edge("doctor", "gone.onnx"), 2, "gone.onnx: no such model file", "(argument MODEL)")


def test_training_is_asked_for(device, monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name in ("torch", "torchvision"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr("importlib.metadata.version", version)
    assert _named("torch") == []
    (torch,) = _named("torch", "--train")
    assert (torch["state"], torch["remedy"]) == ("missing", "pip install 'rrid-edge[train]'")


def test_the_cache_has_its_place_and_size(tmp_path):
    folder = tmp_path / "cache"
    assert cache_finding(folder) == Finding("cache", "ok", f"{folder}: made with the first model")
    folder.mkdir()
    (folder / "compiled-1.blob").write_bytes(b"x" * 2_400_000)
    assert cache_finding(folder).detail == f"{folder}: 2 MB of at most 2 GiB"
    assert cache_finding(None).state == "ok"
    (tmp_path / "file").touch()
    assert cache_finding(tmp_path / "file") == Finding(
        "cache", "problem", f"{tmp_path / 'file'} is no folder", f"rm {tmp_path / 'file'}"
    )


def test_a_cache_that_cannot_be_written_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr("rrid_edge.engines.cache_standing.os.access", lambda _path, _mode: False)  # root may write all
    finding = cache_finding(tmp_path)
    assert finding.state == "note"
    assert f"{tmp_path} cannot be written: each start compiles the model" in finding.detail
    assert finding.remedy.startswith("export RRID_EDGE_CACHE=FOLDER")
