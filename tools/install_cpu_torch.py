"""Install PyTorch's CPU build, in the versions of constraints.txt, from the index that pip uses here.

``make install TORCH=cpu`` runs it in the new environment, before everything else. It takes ``torch==X+cpu`` where the
index has it, and otherwise ``torch==X`` if that file is a build for the CPU. Where the index has neither, it installs
nothing, says so in one line and ends with 1.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
PACKAGES = ("torch", "torchvision")
_LABEL = "+cpu"
_PIN = re.compile(r"([\w-]+)==([\w.]+)(?:; python_version >= '3\.(\d+)')?$")
_CHECK = "import torch, torchvision; assert torch.version.cuda is None, torch.version.cuda"


def pinned(text: str, python: tuple[int, int]) -> dict[str, str]:
    """Return the versions of :data:`PACKAGES` in a file of constraints that hold for a version of Python."""
    found = [_PIN.match(line) for line in text.splitlines()]
    return {
        pin[1]: pin[2] for pin in found if pin and pin[1] in PACKAGES and (not pin[3] or python >= (3, int(pin[3])))
    }


def is_cpu_build(wheel: Path) -> bool:
    """Whether a wheel of torch was built without CUDA, ROCm and XPU: its own file ``torch/version.py`` says so."""
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read("torch/version.py").decode()
    platforms = re.findall(r"^(?:cuda|hip|xpu)\b[^=\n]*=\s*(\S+)", text, re.MULTILINE)
    return bool(platforms) and set(platforms) == {"None"}


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pip of this environment, with the versions of the constraints."""
    command, *rest = arguments
    options = ("--quiet", "--disable-pip-version-check", "--constraint", str(CONSTRAINTS))
    line = [sys.executable, "-m", "pip", command, *options, *rest]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def install(versions: dict[str, str], *options: str) -> bool:
    """Install torch and torchvision together; False if the index has not both."""
    return pip("install", *options, *(f"{name}=={version}" for name, version in versions.items())).returncode == 0


def downloaded(folder: Path) -> dict[str, str]:
    """Download the files that pip would install, without what they require, and return their versions."""
    done = pip("download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), *PACKAGES)
    if done.returncode:
        said = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        sys.exit(f"pip finds no torch that fits constraints.txt and this Python: {said[0] if said else done.stderr}")
    names = (path.name.split("-") for path in folder.glob("*.whl"))
    return {name: version for name, version, *_ in names}


def install_cpu_build() -> dict[str, str] | None:
    """Install the CPU build and return its versions; None if the index has none."""
    pins = pinned(CONSTRAINTS.read_text(encoding="utf-8"), sys.version_info[:2])
    if len(pins) == len(PACKAGES) and install(labelled := _labelled(pins)):
        return labelled
    with tempfile.TemporaryDirectory() as folder:
        versions = downloaded(Path(folder))
        if is_cpu_build(next(Path(folder).glob("torch-*.whl"))):
            return versions if install(versions, "--find-links", folder) else None
    # Without constraints pip prefers +cu130 to +cpu where an index has both.
    labelled = _labelled(versions)
    return labelled if labelled != _labelled(pins) and install(labelled) else None


def main() -> None:
    """Install it, or end with one line."""
    if subprocess.run([sys.executable, "-c", _CHECK], capture_output=True, check=False).returncode == 0:
        return
    if subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False).returncode == 0:
        sys.exit("this environment has a torch that is no CPU build: remove .venv, then run: make install TORCH=cpu")
    versions = install_cpu_build()
    if versions is None:
        sys.exit(
            "the package index that pip uses here has no CPU build of torch: point pip at one that has it "
            "(PIP_INDEX_URL, PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS), or leave TORCH=cpu out"
        )
    told = " and ".join(f"{name} {version}" for name, version in versions.items())
    done = subprocess.run([sys.executable, "-c", _CHECK], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{told} do not work together: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    print(f"installed {told}, built for the CPU")


def _labelled(versions: dict[str, str]) -> dict[str, str]:
    return {name: version.split("+")[0] + _LABEL for name, version in versions.items()}


if __name__ == "__main__":
    main()
