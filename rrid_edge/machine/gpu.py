"""The NVIDIA platform of this machine: a server or PC, a Jetson, WSL2 or none, and the CUDA that its driver serves.

Only files of the system are read, and ``libcuda.so.1`` is asked for its version. No GPU is started.
"""

from __future__ import annotations

import ctypes
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rrid_edge.machine.cgroups import SYSTEM

CudaVersion = tuple[int, int]
"""A CUDA version: ``(12, 4)`` is CUDA 12.4."""

_WSL_LIBRARY = "usr/lib/wsl/lib/libcuda.so.1"
_KERNEL_DRIVER = "proc/driver/nvidia/version"
_JETSON_RELEASE = "etc/nv_tegra_release"
# A container on a Jetson may lack the release file, but it sees the device nodes of Tegra's own GPU driver.
_JETSON_DEVICES = ("dev/nvhost-gpu", "dev/nvgpu", "dev/nvmap")
_SERVER_DEVICES = ("dev/nvidiactl", "dev/nvidia0")
# Jetson Linux to JetPack (NVIDIA's JetPack archive); a longer number is tried first.
_JETPACKS = {
    (36, 2): "6.0",
    (36, 3): "6.0",
    (36, 4, 0): "6.1",
    (36, 4, 3): "6.2",
    (36, 4, 4): "6.2",
    (36, 5): "6.2",
    (38, 2): "7.0",
    (38, 4): "7.1",
}
_JETPACK_MAJORS = {32: "4", 34: "5", 35: "5", 36: "6"}
_FIRST_JETPACK_7 = 38


@dataclass(frozen=True)
class Gpu:
    """What NVIDIA platform this is.

    Attributes:
        kind: ``server`` (also a PC), ``jetson``, ``wsl2`` (the GPU's driver is that of Windows), or ``none``.
        architecture: of the CPU, for example ``x86_64``.
        driver: version of the kernel's driver, for example ``550.54.14``; empty if the system does not say.
        cuda: the newest CUDA that the driver serves; None if ``libcuda.so.1`` cannot be loaded.
        jetson_linux: release of Jetson Linux, for example ``(36, 4, 3)``; empty elsewhere, or if it is unknown.
        has_card: the PCI bus lists a graphics card of NVIDIA. It is looked for only where no driver is.
    """

    kind: Literal["server", "jetson", "wsl2", "none"]
    architecture: str
    driver: str = ""
    cuda: CudaVersion | None = None
    jetson_linux: tuple[int, ...] = ()
    has_card: bool = False

    @property
    def present(self) -> bool:
        """Whether there is an NVIDIA GPU with a driver."""
        return self.kind != "none"

    @property
    def is_x86(self) -> bool:
        """Whether this is an x86-64 CPU, for which the CUDA packages on PyPI are made."""
        return self.architecture in ("x86_64", "AMD64")

    @property
    def jetpack(self) -> str:
        """The JetPack of a Jetson, for example ``6.2``; its major only if no more is known, empty if nothing is."""
        for length in (3, 2):
            if known := _JETPACKS.get(self.jetson_linux[:length]):
                return known
        if not self.jetson_linux:
            return ""
        major = self.jetson_linux[0]
        return "7" if major >= _FIRST_JETPACK_7 else _JETPACK_MAJORS.get(major, "")

    @property
    def cuda_major(self) -> int | None:
        """Major version of the CUDA that the driver serves, or that comes with the JetPack; None if unknown."""
        if self.cuda is not None:
            return self.cuda[0]
        return {"5": 11, "6": 12, "7": 13}.get(self.jetpack[:1])

    def why_not(self, major: int | None) -> str:
        """Why a package built for a major version of CUDA cannot run here; empty if it can, or if that is unknown.

        A driver serves programs of its own major version and of earlier ones.
        """
        if major is None or self.cuda_major is None or major <= self.cuda_major:
            return ""
        if self.cuda is None:
            return f"is for CUDA {major}, but JetPack {self.jetpack} has CUDA {self.cuda_major}"
        return f"is for CUDA {major}, but this driver serves CUDA {self.cuda[0]}.{self.cuda[1]}"

    def describe(self) -> str:
        """The platform and its driver in a few words."""
        serves = f"serves CUDA {self.cuda[0]}.{self.cuda[1]}" if self.cuda else "cannot be asked for its CUDA version"
        if self.kind == "none":
            return "no NVIDIA driver: CPU runtimes are used"
        if self.kind == "jetson":
            return f"Jetson{f' with JetPack {self.jetpack}' if self.jetpack else ''}, this driver {serves}"
        if self.kind == "wsl2":
            return f"WSL2, the NVIDIA driver of Windows {serves}"
        maker = "server or PC" if self.is_x86 else f"server or PC ({self.architecture})"
        return f"{maker}, NVIDIA driver{f' {self.driver}' if self.driver else ''} {serves}"


def this_gpu() -> Gpu:
    """The NVIDIA platform of this machine."""
    return find_gpu(architecture=platform.machine(), cuda=driver_cuda())


def find_gpu(system: Path = SYSTEM, *, architecture: str, cuda: CudaVersion | None = None) -> Gpu:
    """The NVIDIA platform of a machine.

    Args:
        system: folder in which the machine's ``dev``, ``etc``, ``proc`` and ``usr`` lie.
        architecture: of the CPU.
        cuda: what :func:`driver_cuda` answers there.
    """
    if is_jetson(system):
        return Gpu("jetson", architecture, _driver(system), cuda, _jetson_linux(system))
    if (system / "dev/dxg").exists() and ((system / _WSL_LIBRARY).exists() or cuda is not None):
        return Gpu("wsl2", architecture, "", cuda)
    if any((system / name).exists() for name in (_KERNEL_DRIVER, *_SERVER_DEVICES)):
        return Gpu("server", architecture, _driver(system), cuda)
    return Gpu("none", architecture, "", cuda, has_card=_has_card(system))


def is_jetson(system: Path = SYSTEM) -> bool:
    """Whether a machine is an NVIDIA Jetson."""
    if any((system / name).exists() for name in (_JETSON_RELEASE, *_JETSON_DEVICES)):
        return True
    return "nvidia,tegra" in first_line(system / "proc/device-tree/compatible")


def driver_cuda() -> CudaVersion | None:
    """The newest CUDA that this machine's driver serves (``cuDriverGetVersion``); None if no driver answers."""
    for name in ("libcuda.so.1", f"/{_WSL_LIBRARY}"):
        try:
            ask = ctypes.CDLL(name).cuDriverGetVersion
        except (OSError, AttributeError):  # AttributeError: another library of that name
            continue
        version = ctypes.c_int()
        if ask(ctypes.byref(version)) == 0 and version.value > 0:
            return cuda_version(version.value)
    return None


def cuda_version(number: int) -> CudaVersion:
    """CUDA's own number of a version as two numbers: 12040 is (12, 4)."""
    return number // 1000, number % 1000 // 10


def first_line(path: Path) -> str:
    """The first line of a file of the system; empty if it cannot be read."""
    try:
        return next(iter(path.read_text(encoding="utf-8", errors="replace").splitlines()), "")
    except OSError:
        return ""


def _driver(system: Path) -> str:
    # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 ..."; open modules word it otherwise.
    found = re.search(r"\b[0-9]{3,4}\.[0-9]+(\.[0-9]+)*\b", first_line(system / _KERNEL_DRIVER))
    return found[0] if found else ""


def _jetson_linux(system: Path) -> tuple[int, ...]:
    # "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, ..."
    found = re.search(r"R([0-9]+) \(release\), REVISION: ([0-9.]*[0-9])", first_line(system / _JETSON_RELEASE))
    return (int(found[1]), *map(int, found[2].split("."))) if found else ()


def _has_card(system: Path) -> bool:
    # Class 0x03 is a display controller, which servers' GPUs are too; NVIDIA makes network cards as well.
    return any(
        first_line(device / "vendor") == "0x10de" and first_line(device / "class").startswith("0x03")
        for device in (system / "sys/bus/pci/devices").glob("*")
    )
