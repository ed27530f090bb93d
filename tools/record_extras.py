"""Record what the package index says of the extras gpu-cu12 and gpu-cu13, for tests without network.

It asks pip, downloads no large file and installs nothing. Run it when an extra changes or a new version comes out, and
then the tests: python tools/record_extras.py && python -m pytest tests/edge/machine/test_extras.py
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "tests" / "data" / "pypi" / "extras.json"
EXTRAS = ("gpu-cu12", "gpu-cu13")
PYTHONS = ("3.10", "3.12")
FOLLOWED = ("cuda-", "nvidia-", "onnxruntime", "tensorrt")
"""Beginnings of the names of packages that are followed: those that belong to one version of CUDA."""
_KEPT = 30  # newest versions of each package; the tests need no more
_TAGS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014", "manylinux2010")


def requirements_of(extra: str) -> list[Requirement]:
    """Return what an extra of pyproject.toml requires."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line) for line in project["optional-dependencies"][extra]]


def environment(python: str, machine: str) -> dict[str, str]:
    """Return the values of markers on Linux."""
    here = {name: str(value) for name, value in default_environment().items()}
    return here | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
        "platform_system": "Linux",
        "sys_platform": "linux",
    }


def applying(lines: list[Requirement], python: str, machine: str, extras: set[str]) -> list[Requirement]:
    """Return the requirements whose markers hold."""
    values = environment(python, machine)
    return [
        line
        for line in lines
        if line.marker is None or any(line.marker.evaluate(values | {"extra": extra}) for extra in extras | {""})
    ]


def record(requirement: Requirement, python: str, machine: str, seen: dict[str, Any]) -> None:
    """Record the versions of a package, and what the newest one that fits requires, and so on."""
    name, case = canonicalize_name(requirement.name), f"{python} {machine}"
    if not name.startswith(FOLLOWED):
        return
    available = seen["available"].setdefault(name, {})
    if case not in available:
        available[case] = _versions(name, python, machine)
    fitting = [version for version in available[case] if Version(version) in requirement.specifier]
    if not fitting:
        return
    newest = max(fitting, key=Version)
    required = seen["requires"].setdefault(name, {})
    if newest not in required:
        required[newest] = _requires(name, newest, python, machine)
    lines = [Requirement(line) for line in required[newest]]
    for line in applying(lines, python, machine, set(requirement.extras)):
        record(line, python, machine, seen)


def _versions(name: str, python: str, machine: str) -> list[str]:
    options = [] if _is_source(name) else _wheels(python, machine)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", name, *options], capture_output=True, text=True, check=False
    )
    found = re.search(r"^Available versions: (.+)$", done.stdout, re.MULTILINE)
    return found[1].split(", ")[:_KEPT] if found else []


def _requires(name: str, version: str, python: str, machine: str) -> list[str]:
    if name.startswith("tensorrt") and name.endswith("-libs"):
        return []  # its build would fetch the libraries from NVIDIA's own index
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = [] if _is_source(name) else [*_wheels(python, machine), "--target", folder]
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
        done = subprocess.run(
            [*command, *options, "--report", str(report), f"{name}=={version}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{name} {version}: pip gives no metadata: {done.stderr}")
        (installed,) = json.loads(report.read_text(encoding="utf-8"))["install"]
        lines = installed["metadata"].get("requires_dist", [])
    return [line for line in lines if canonicalize_name(Requirement(line).name).startswith(FOLLOWED)]


def _is_source(name: str) -> bool:
    return name.startswith("tensorrt") and not name.endswith("-bindings")


def _wheels(python: str, machine: str) -> list[str]:
    tags = [option for tag in _TAGS for option in ("--platform", f"{tag}_{machine}")]
    return ["--only-binary", ":all:", "--python-version", python, *tags]


def main() -> None:
    """Write the record."""
    seen: dict[str, Any] = {"available": {}, "requires": {}}
    for python in PYTHONS:
        for extra in EXTRAS:
            for line in applying(requirements_of(extra), python, "x86_64", set()):
                record(line, python, "x86_64", seen)
    for specifier in ("", ">=12.9,<13", ">=13,<14"):  # what pip takes on JetPack 6 and 7
        for python in ("3.10", "3.12"):
            record(Requirement(f"cuda-bindings{specifier}"), python, "aarch64", seen)
    # 1.27 names packages that are empty placeholders: the reason why gpu-cu13 begins at 1.28.
    record(Requirement("onnxruntime-gpu[cuda,cudnn]==1.27.0"), "3.12", "x86_64", seen)
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps(seen, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
