"""Tests of the doctor's findings on simulated machines."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest

from rrid_edge.machine import doctor as machine
from rrid_edge.machine import facts as facts_module
from rrid_edge.machine.gpu import Gpu, this_gpu


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


def _names() -> set[str]:
    return {finding.name for finding in machine.examine()}


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch, tmp_path):
    """An x86 machine without a GPU, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(facts_module, "this_gpu", lambda: Gpu("none", "x86_64"))
    monkeypatch.setattr(facts_module, "_is_importable", lambda _module: False)


def test_a_machine_without_a_runtime_has_the_command_of_the_best_one(installed, monkeypatch):
    assert _named("runtime").state == "problem"
    assert _named("runtime").remedy == "pip install 'rrid-edge[openvino]'"
    monkeypatch.setattr(facts_module, "this_gpu", lambda: Gpu("none", "aarch64"))
    assert _named("runtime").remedy == "pip install 'rrid-edge[onnxruntime]'"
    installed["torch"] = "2.15.0"  # a machine that trains needs none to do so
    assert _named("runtime").state == "missing"


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_device_with_one_runtime_lacks_nothing(installed, runtime):
    installed[runtime] = "2026.4.1"
    findings = machine.examine()
    assert [finding for finding in findings if finding.remedy or finding.state in ("problem", "missing")] == []
    assert not {"torch", "torchvision", "runtime"} & {finding.name for finding in findings}


def test_torch_is_advised_where_somebody_trains_only(installed, tmp_path):
    assert "torch" not in _names()
    asked = next(finding for finding in machine.examine(trains=True) if finding.name == "torch")
    assert (asked.state, asked.remedy) == ("missing", "pip install 'rrid-edge[train]'")
    assert asked.detail == "not installed: training and export need it, and this machine is to train"
    (tmp_path / "runs" / "market").mkdir(parents=True)
    (tmp_path / "runs" / "market" / "last.safetensors").touch()
    assert _named("torch").detail.endswith("and the checkpoint runs/market/last.safetensors is here")


def test_torch_of_another_program_brings_no_advice_to_a_device(installed):
    installed.update({"torch": "2.15.0", "openvino": "2026.4.1", "matplotlib": "3.11", "scipy": "1.17"})
    assert [finding.name for finding in machine.examine() if finding.remedy] == []


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
    monkeypatch.setattr(facts_module, "this_gpu", this_gpu)
    monkeypatch.setattr(Path, "exists", lambda _path: True)
    monkeypatch.setattr(Path, "read_text", lambda _path, **_options: "")
    assert {"jetpack", "gpu", "numpy"} <= {finding.name for finding in machine.examine()}
