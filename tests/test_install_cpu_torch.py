"""``make install TORCH=cpu`` on package indexes that have PyTorch's CPU build, or have none. Nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from install_cpu_torch import is_cpu_build, pinned
from support.programs import ROOT

PINS = "torch==2.15.0; python_version >= '3.10'\ntorchvision==0.29.2; python_version >= '3.10'\n"
UNPINNED = PINS.replace("3.10", "3.99")
BACKEND = """
import pathlib, zipfile

def get_requires_for_build_editable(config_settings=None):
    return []

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name, info = "project-1-py3-none-any.whl", "project-1.dist-info"
    needs = "".join(f"Requires-Dist: {one}; extra == 'dev'\\n" for one in ("torch>=2.4", "torchvision>=0.19"))
    files = {
        "METADATA": f"Metadata-Version: 2.1\\nName: project\\nVersion: 1\\nProvides-Extra: dev\\n{needs}",
        "WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(f"{info}/{file}", text)
    return name
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "project"
version = "1"
"""


def _wheel(folder, name, version, code, requires=""):
    """A wheel that pip installs: one package with the version that it names, and what it requires."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": code,
        f"{name}/version.py": "from typing import Optional\n"
        f"__version__ = '{version}'\ncuda: Optional[str] = {None if 'cu' not in requires else '13.0'!r}\n"
        "hip: Optional[str] = None\nxpu: Optional[str] = None\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
    return path


def _serve(index: Path, *labels: str, plain_is_cpu: bool = False, fits: bool = True) -> None:
    """Put torch 2.15.0 and torchvision 0.29.2 into the folder that pip looks into, by their labels ("" is none)."""
    for label in labels:
        on_cpu = label == "+cpu" or (not label and plain_is_cpu)
        cuda = "None" if on_cpu else "'13.0'"
        needs = "" if on_cpu else "Requires-Dist: cuda-toolkit\n"
        _wheel(index, "torch", f"2.15.0{label}", f"class version:\n    cuda = {cuda}\n", needs)
        code = "" if fits else "raise RuntimeError('operator torchvision::nms does not exist')\n"
        _wheel(index, "torchvision", f"0.29.2{label}", code, "Requires-Dist: torch==2.15.0\n")
    _wheel(index, "cuda_toolkit", "13.0", "")


def _linked(source, target, *, follow_symlinks=True):
    """Link a file instead of copying it. pip replaces files, and never writes into them."""
    os.link(source, target, follow_symlinks=follow_symlinks)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An empty virtual environment with pip."""
    folder = tmp_path_factory.mktemp("environment") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


@pytest.fixture
def make(tmp_path, environment):
    """Runs make in a project with this Makefile, where pip sees the folder ``index`` only."""
    shutil.copytree(environment, tmp_path / ".venv", symlinks=True, copy_function=_linked)
    (tmp_path / "tools").mkdir()
    (tmp_path / "index").mkdir()
    for name in ("Makefile", "tools/install_cpu_torch.py"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / "backend.py").write_text(BACKEND)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "constraints.txt").write_text(PINS)
    own = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "index"), "PIP_CONFIG_FILE": os.devnull}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE", "PYTHON"))}

    def run(*arguments):
        line = ["make", "--no-print-directory", *arguments]
        return subprocess.run(line, cwd=tmp_path, env=kept | own, capture_output=True, text=True, check=False)

    return run


def _installed(folder: Path) -> dict[str, str]:
    code = (
        "import importlib.metadata as m\n"
        "for one in m.distributions():\n"
        "    if one.name in ('torch', 'torchvision', 'cuda_toolkit', 'project'): print(one.name, one.version)"
    )
    done = subprocess.run([folder / ".venv" / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())


CPU = {"torch": "2.15.0+cpu", "torchvision": "0.29.2+cpu", "project": "1"}


@pytest.mark.slow
@pytest.mark.parametrize("constraints", [PINS, UNPINNED], ids=["pinned", "unpinned"])
def test_the_cpu_build_is_taken_where_the_index_has_others_too(make, tmp_path, constraints):
    (tmp_path / "constraints.txt").write_text(constraints)
    _serve(tmp_path / "index", "", "+cpu", "+cu130")
    done = make("install", "TORCH=cpu")
    assert done.returncode == 0, done
    assert "installed torch 2.15.0+cpu and torchvision 0.29.2+cpu, built for the CPU" in done.stdout
    assert _installed(tmp_path) == CPU
    assert make("--question", "install").returncode == 0  # other targets install nothing again
    assert make("--question", "install", "TORCH=cpu").returncode == 0


def test_a_build_for_the_cpu_without_a_label_is_taken(make, tmp_path):
    _serve(tmp_path / "index", "", plain_is_cpu=True)
    assert make("install", "TORCH=cpu").returncode == 0
    assert _installed(tmp_path) == {"torch": "2.15.0", "torchvision": "0.29.2", "project": "1"}


def test_an_index_without_a_cpu_build_is_told_in_one_line(make, tmp_path):
    _serve(tmp_path / "index", "")
    done = make("install", "TORCH=cpu")
    assert done.returncode != 0
    first, *others = done.stderr.splitlines()
    assert first.startswith("the package index that pip uses here has no CPU build of torch: point pip at one")
    assert all(line.startswith("make: ") for line in others)
    assert _installed(tmp_path) == {}
    assert make("install").returncode == 0  # the next run without TORCH takes the other build
    assert _installed(tmp_path)["cuda_toolkit"] == "13.0"
    done = make("install", "TORCH=cpu")
    assert done.stderr.startswith("this environment has a torch that is no CPU build: remove .venv, then run")


def test_an_index_without_torch_gives_the_words_of_pip(make):
    done = make("install", "TORCH=cpu")
    assert "pip finds no torch that fits constraints.txt and this Python: " in done.stderr


def test_two_packages_that_do_not_fit_are_told(make, tmp_path):
    _serve(tmp_path / "index", "+cpu", fits=False)
    assert (
        "torch 2.15.0+cpu and torchvision 0.29.2+cpu do not work together: RuntimeError: operator torchvision::nms"
        in make("install", "TORCH=cpu").stderr
    )


def test_another_build_than_cpu_is_refused(make):
    done = make("install", "TORCH=rocm")
    assert done.stderr.splitlines()[0] == "TORCH=rocm: expected cpu, or leave it out"


def test_constraints_are_plain_and_give_both_versions_for_the_tested_pythons():
    text = (ROOT / "constraints.txt").read_text()
    assert "+" not in text
    assert set(pinned(text, (3, 11))) == {"torch", "torchvision"}
    assert pinned(text, (3, 10)) == {}
    assert pinned("torch==2.15.0\nnumpy==2.0\n", (3, 10)) == {"torch": "2.15.0"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", True),
        ("cuda = '13.0'\nhip: Optional[str] = None\n", False),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '7.2'\n", False),
        ("__version__ = '1'\n", False),  # it does not say
    ],
)
def test_a_wheel_says_what_it_was_built_for(tmp_path, text, expected):
    with zipfile.ZipFile(tmp_path / "torch.whl", "w") as wheel:
        wheel.writestr("torch/version.py", text)
    assert is_cpu_build(tmp_path / "torch.whl") is expected
