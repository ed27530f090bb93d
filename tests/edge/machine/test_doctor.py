"""Tests of the doctor's findings on simulated machines."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest

from rrid_edge.machine import doctor as machine


@pytest.fixture
def installed(monkeypatch):
    """Pretend that exactly these distributions are installed."""
    versions: dict[str, str] = {"numpy": "2.2.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda _name: ["torch (==2.15.0)", "numpy"])
    return versions


def _named(name: str) -> machine.Finding:
    return next(finding for finding in machine.examine() if finding.name == name)


def test_missing_packages_have_their_command(installed):
    assert _named("onnxruntime").state == "missing"
    assert _named("onnxruntime").remedy == "pip install 'rrid-edge[onnxruntime]'"
    assert _named("openvino").remedy == "pip install 'rrid-edge[openvino]'"
    assert _named("torch").remedy == "pip install 'rrid-edge[train]'"


def test_both_builds_of_onnxruntime_are_a_problem(installed):
    installed.update({"onnxruntime": "1.30", "onnxruntime-gpu": "1.30"})
    finding = _named("onnxruntime")
    assert finding.state == "problem"
    assert finding.remedy.startswith("pip uninstall")


def test_torchvision_of_another_torch_is_a_problem(installed):
    installed.update({"torch": "2.13.0", "torchvision": "0.30.0"})
    finding = _named("torchvision")
    assert finding.state == "problem"
    assert finding.remedy == "pip install torch==2.15.0 torchvision==0.30.0"
    installed["torch"] = "2.15.0+cpu"
    assert _named("torchvision").state == "ok"


def test_numpy_2_with_an_old_torch_is_a_problem(installed):
    installed.update({"torch": "2.1.0", "torchvision": "0.16.0"})
    assert _named("numpy").remedy == "pip install 'numpy<2'"


def test_cores_are_those_that_this_process_may_use(installed, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {5}, raising=False)  # as under: taskset -c 5
    assert ", 1 of 8 cores usable, " in _named("processor").detail
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    assert ", 8 cores, " in _named("processor").detail


@pytest.mark.parametrize("version", [None, "", "two", "2.0.0.dev1+local", "9" * 30])
def test_odd_versions_and_empty_files_of_the_system_are_no_reason_to_fail(installed, monkeypatch, version):
    installed.update(dict.fromkeys(("numpy", "torch", "torchvision", "onnxruntime"), version))
    monkeypatch.setattr(Path, "exists", lambda _path: True)
    monkeypatch.setattr(Path, "read_text", lambda _path, **_options: "")
    assert {"jetpack", "gpu", "numpy"} <= {finding.name for finding in machine.examine()}
