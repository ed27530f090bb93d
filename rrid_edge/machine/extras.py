"""The extras of this package: which are whole here, and which only in part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rrid_edge.machine.advice import extra_advice
from rrid_edge.machine.facts import MachineFacts, numbers
from rrid_edge.machine.gpu_findings import Finding

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "openvino": ("openvino>=2024.4",),
    "onnxruntime": ("onnxruntime>=1.18",),
    "serve": (
        "fastapi>=0.128",
        "prometheus-client>=0.20",
        "python-multipart>=0.0.22",
        "sse-starlette>=2.1",
        "starlette>=0.50",
        "uvicorn>=0.40",
    ),
    "watch": ("watchfiles>=0.21",),
    "fast": ("simplejpeg>=1.7",),
    "milvus": ("pymilvus>=2.5",),
    "parquet": ("pyarrow>=14",),
    "ray": ("ray>=2.40", "pyarrow>=14"),
    "hub": ("huggingface_hub>=1",),
    "adopt": ("onnx>=1.16", "onnxruntime>=1.18"),
    "calib": ("onnx>=1.16", "onnxruntime>=1.18"),
    "train": (
        "torch>=2.4",
        "torchvision>=0.19",
        "safetensors>=0.4.3",
        "tensorboard>=2.16",
        "matplotlib>=3.8",
        "h5py>=3.10",
        "scipy>=1.10",
    ),
    "export": ("torch>=2.4", "torchvision>=0.19", "safetensors>=0.4.3", "onnx>=1.16", "onnxscript>=0.1"),
}
"""What the extras of ``pyproject.toml`` require. Those for NVIDIA GPUs are examined with the driver.

The first package of an extra is the one that nobody installs for anything else in the list."""
EXTRA_PACKAGES = tuple(dict.fromkeys(line.split(">=")[0] for lines in EXTRAS.values() for line in lines))
WORKSHOP_EXTRAS = ("train", "export")


@dataclass(frozen=True)
class ExtraState:
    """An extra on this machine.

    Attributes:
        name: of the extra.
        found: packages of it that are new enough.
        missing: packages of it that are not installed.
        older: installed packages that are older than it requires, in words.
    """

    name: str
    found: tuple[str, ...]
    missing: tuple[str, ...]
    older: tuple[str, ...]

    @classmethod
    def of(cls, name: str, packages: Mapping[str, str]) -> ExtraState:
        """The state of an extra by the versions of the installed packages."""
        found, missing, older = [], [], []
        for package, least in (line.split(">=") for line in EXTRAS[name]):
            version = packages.get(package)
            if version is None:
                missing.append(package)
            elif numbers(version) < numbers(least):
                older.append(f"{package} {version} is older than {least}")
            else:
                found.append(package)
        return cls(name, tuple(found), tuple(missing), tuple(older))

    @property
    def is_whole(self) -> bool:
        """Whether everything is installed that the extra requires."""
        return not self.missing and not self.older

    @property
    def is_begun(self) -> bool:
        """Whether somebody wanted it: not all of it is right, but its first package is here, and half of them."""
        present = {*self.found, *(line.split(" ")[0] for line in self.older)}
        names = [line.split(">=")[0] for line in EXTRAS[self.name]]
        return not self.is_whole and names[0] in present and 2 * len(present) >= len(names)

    def describe(self) -> str:
        """What is missing or too old, in words."""
        absent = f"{', '.join(self.missing)} {'is' if len(self.missing) == 1 else 'are'} missing"
        return "; ".join([*([absent] if self.missing else []), *self.older])


def extra_findings(facts: MachineFacts) -> list[Finding]:
    """The whole extras in one line, and a line for each that is installed in part.

    An extra of the workshop counts only where somebody trains: other programs bring PyTorch too.
    """
    states = [ExtraState.of(name, facts.packages) for name in EXTRAS]
    whole = [state.name for state in states if state.is_whole]
    findings = [Finding("extras", "ok", ", ".join(whole) if whole else "none is installed")]
    begun = [state for state in states if state.is_begun]
    return findings + [
        Finding(state.name, "note", f"in part: {state.describe()}", extra_advice(state.name))
        for state in begun
        if state.name not in WORKSHOP_EXTRAS or facts.training_sign
    ]
