"""Tests of the extras gpu-cu12 and gpu-cu13 against what the package index says (tools/record_extras.py records it).

The resolver here takes the newest recorded version that fits, as pip does where nothing conflicts.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import record_extras
from rrid_edge.machine.advice import gpu_advice, gpu_extra
from rrid_edge.machine.gpu import Gpu
from support.programs import ROOT

RECORD = json.loads(record_extras.RECORD.read_text(encoding="utf-8"))
MAJORS = {"gpu-cu12": 12, "gpu-cu13": 13}


class UnresolvableError(Exception):
    """No recorded version fits a requirement."""


def _resolve(requirements: list[Requirement], python: str, machine: str) -> dict[str, str]:
    chosen: dict[str, str] = {}
    open_ = record_extras.applying(requirements, python, machine, set())
    while open_:
        wanted = open_.pop()
        name = canonicalize_name(wanted.name)
        if not name.startswith(record_extras.FOLLOWED):
            continue
        available = RECORD["available"][name][f"{python} {machine}"]
        fitting = [version for version in available if Version(version) in wanted.specifier]
        if not fitting:
            raise UnresolvableError(name)
        version = max(fitting, key=Version)
        assert chosen.setdefault(name, version) == version, f"{name}: two answers"
        lines = [Requirement(line) for line in RECORD["requires"][name][version]]
        open_ += record_extras.applying(lines, python, machine, set(wanted.extras))
    return chosen


def _majors(chosen: dict[str, str]) -> dict[str, int]:
    """The CUDA majors that names and versions tell: ``-cu12`` in a name, or the version of a package of CUDA itself."""
    majors = {}
    for name, version in chosen.items():
        if found := re.search(r"-cu(\d+)", name):
            majors[name] = int(found[1])
        elif name in ("cuda-bindings", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "nvidia-cublas", "nvidia-nvjitlink"):
            majors[name] = Version(version).major
    return majors


@pytest.mark.parametrize(("extra", "python"), [("gpu-cu12", "3.10"), ("gpu-cu12", "3.12"), ("gpu-cu13", "3.12")])
def test_each_extra_resolves_to_one_major_on_x86(extra, python):
    chosen = _resolve(record_extras.requirements_of(extra), python, "x86_64")
    major = MAJORS[extra]
    assert set(_majors(chosen).values()) == {major}
    assert {f"tensorrt-cu{major}", f"tensorrt-cu{major}-bindings", f"tensorrt-cu{major}-libs"} <= set(chosen)
    assert {"cuda-bindings", "onnxruntime-gpu", f"nvidia-cudnn-cu{major}"} <= set(chosen)  # cuDNN by [cuda,cudnn]
    assert {"nvidia-cublas-cu12", "nvidia-cublas"} & set(chosen)  # cuDNN requires it
    assert (8, 6) <= Version(chosen[f"tensorrt-cu{major}"]).release[:2] < (12,)


def test_onnxruntime_of_cuda_13_needs_a_newer_python():
    with pytest.raises(UnresolvableError, match="onnxruntime-gpu"):
        _resolve(record_extras.requirements_of("gpu-cu13"), "3.10", "x86_64")
    assert gpu_extra(Gpu("server", "x86_64", "", (13, 0)), (3, 10)) == "gpu-cu12"


def test_onnxruntime_1_27_cannot_be_taken():
    with pytest.raises(UnresolvableError, match=r"nvidia-.*-cu13"):
        _resolve([Requirement("onnxruntime-gpu[cuda,cudnn]==1.27.0")], "3.12", "x86_64")


@pytest.mark.parametrize("extra", MAJORS)
@pytest.mark.parametrize("machine", ["aarch64", "arm64", "ppc64le"])
def test_on_other_machines_an_extra_installs_nothing(extra, machine):
    assert _resolve(record_extras.requirements_of(extra), "3.12", machine) == {}


@pytest.mark.parametrize("kind", ["jetson", "none", "server"])
def test_on_arm_the_sentence_for_jetsons_is_said_instead(kind):
    assert gpu_advice(Gpu(kind, "aarch64")).startswith("on a Jetson TensorRT comes with JetPack")


@pytest.mark.parametrize(
    ("python", "asked", "major"), [("3.10", "", 13), ("3.10", ">=12.9,<13", 12), ("3.12", ">=13,<14", 13)]
)
def test_bindings_that_pip_takes_on_a_jetson(python, asked, major):
    chosen = _resolve([Requirement(f"cuda-bindings{asked}")], python, "aarch64")
    assert Version(chosen["cuda-bindings"]).major == major


@pytest.mark.parametrize("page", ["README.md", "docs/tensorrt.md"])
def test_the_pages_say_which_extra_by_nvidia_smi_and_send_jetsons_to_jetpack(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for extra, major in MAJORS.items():
        assert re.search(
            rf"(rrid-edge\[{extra}\].*CUDA Version: {major}|CUDA Version: {major}.*rrid-edge\[{extra}\])", text
        )
    assert re.search("On a Jetson install neither|install nothing on a Jetson", text)
    assert "comes with JetPack" in text or "JetPack's own TensorRT" in text


def test_no_extra_of_an_earlier_name_is_advised():
    folders = (ROOT / name for name in ("rrid_edge", "train", "export", "calib", "docs", "tools", "benchmarks"))
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".md", ".sh", ".txt")]
    for path in [*files, Path(ROOT / "README.md"), Path(ROOT / "pyproject.toml")]:
        assert "rrid-edge[gpu]" not in path.read_text(encoding="utf-8"), path
