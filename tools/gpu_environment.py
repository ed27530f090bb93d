"""Print what a machine with an NVIDIA GPU has: system, driver, libraries, packages. Every question may fail.

Run: python tools/gpu_environment.py            # everything, exit code 0
     python tools/gpu_environment.py --device   # only the device that CUDA gives; exit code 3 if there is none
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from rrid_edge.engines.cuda import Cuda
from rrid_edge.errors import RridEdgeError

FILES = ("/etc/nv_tegra_release", "/etc/os-release", "/proc/driver/nvidia/version", "/proc/version")
DEVICES = ("/dev/nvhost-gpu", "/dev/nvgpu", "/dev/nvidia0", "/dev/dxg")
COMMANDS = (
    ("git", "-C", str(Path(__file__).parent), "log", "-1", "--format=%H %cs"),
    ("nvidia-smi",),
    ("nvpmodel", "-q"),
    ("jetson_clocks", "--show"),
    ("dpkg-query", "--show", "*tensorrt*", "*nvinfer*", "cuda-cudart-*", "nvidia-jetpack*"),
)
LIBRARIES = ("nvinfer", "nvonnxparser", "cudart", "cudnn", "cublas", "libcuda")
PACKAGES = ("tensorrt", "cuda", "nvidia", "onnx", "numpy", "rrid", "torch", "openvino")


def lines() -> Iterator[str]:
    """What this machine has, line by line."""
    yield f"system: {platform.platform()}, {platform.machine()}, Python {platform.python_version()}"
    for name in FILES:
        path = Path(name)
        yield f"-- {name}"
        yield path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else "is not there"
    yield f"devices: {', '.join(name for name in DEVICES if Path(name).exists()) or 'none'}"
    yield f"driver: {driver_version()}"
    for command in COMMANDS:
        yield f"-- {' '.join(command)}"
        yield answer_of(command)
    yield "-- libraries"
    listed = answer_of(("ldconfig", "-p"))
    yield from (line.strip() for line in listed.splitlines() if any(name in line for name in LIBRARIES))
    yield "-- packages"
    found = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    for name in sorted(found, key=str.lower):
        if any(word in name.lower() for word in PACKAGES):
            yield f"{name} {found[name]}"


def driver_version() -> str:
    """The CUDA version that the driver serves, for example ``12.4``, asked without any CUDA package."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return f"libcuda.so.1 cannot be loaded ({error})"
    number = ctypes.c_int()
    code = library.cuDriverGetVersion(ctypes.byref(number))
    return f"CUDA {number.value // 1000}.{number.value % 1000 // 10} (cuDriverGetVersion gave {code})"


def answer_of(command: tuple[str, ...]) -> str:
    """What a program prints, or why it could not run."""
    program = shutil.which(command[0])
    if program is None:
        return "is not installed"
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=30, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"failed: {error}"
    return (done.stdout + done.stderr).strip() or f"printed nothing, exit code {done.returncode}"


def device() -> int:
    """Print the device that engines run on; returns the exit code."""
    try:
        cuda = Cuda()
        cuda.select_device()
        print(f"{cuda.device()}, {cuda.free_memory_bytes() / (1 << 20):,.0f} MiB free")
    except RridEdgeError as error:
        print(f"no device: {error.message}")
        return 3
    return 0


def main() -> int:
    """Print the facts; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", action="store_true", help="print only the device that CUDA gives")
    if parser.parse_args().device:
        return device()
    for line in lines():
        print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
