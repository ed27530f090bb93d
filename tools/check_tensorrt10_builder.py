"""Build float32 and float16 files with NVIDIA's real builder on the API of TensorRT 10, without a GPU.

TensorRT for RTX 1.4.0.76 has that API. It gets a folder of its own, because the tests use 1.7.1.116 (API of TensorRT
11). Where the packages cannot be had, the check is skipped with a word. It proves parsing and building, no kernels.

Run it in the environment of ``make install``: ``python tools/check_tensorrt10_builder.py [BACKBONE ...]``. It takes
networks with random weights, 384 x 128; without a backbone a ResNet-18.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
VERSION = "1.4.0.76"
PACKAGES = (f"tensorrt-rtx-cu12-libs=={VERSION}", f"tensorrt-rtx-cu12-bindings=={VERSION}")
LARGEST_SHARE = 0.55
"""Largest size of the float16 plan, as a share of the float32 plan."""


def main(words: list[str]) -> int:
    """Install the packages into a temporary folder, then check in a process that sees them first."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        print(f"skipped: TensorRT for RTX {VERSION} is for Linux on x86-64")
        return 0
    with tempfile.TemporaryDirectory(prefix="tensorrt10-") as folder:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*install, "--target", folder, *PACKAGES], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            print(f"skipped: TensorRT for RTX {VERSION} cannot be had here ({reason})")
            return 0
        paths = [folder, *(str(ROOT / name) for name in (".", "train", "export", "calib", "tests")), *sys.path]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, __file__, "--inside", *words]
        return subprocess.run(command, env=environment, check=False).returncode


def check(backbones: list[str], folder: Path) -> int:
    """Parse and build the float32 and the float16 file of every backbone; returns the exit code."""
    from rrid_edge.engines.tensorrt.api import generation, load_tensorrt_rtx
    from support.tensorrt_recording import recorded
    from support.tensorrt_standin import read_api

    trt = load_tensorrt_rtx()
    assert (trt.__version__, generation(trt)) == (VERSION, 10), "another version was imported"
    api = read_api(f"rtx_{VERSION}")
    assert recorded(trt, list(api)) == api, "the recorded API is not that of the real bindings"
    failed = 0
    for backbone in backbones or ["resnet18"]:
        exact_bytes, half_bytes = _build(trt, backbone, folder)
        if half_bytes > LARGEST_SHARE * exact_bytes:
            print(f"{backbone}: the float16 plan is more than {LARGEST_SHARE:.0%} of the float32 plan", file=sys.stderr)
            failed = 1
    return failed


def _build(trt: ModuleType, backbone: str, folder: Path) -> tuple[int, int]:
    """Build both files of a backbone; returns the sizes of the two plans, in bytes."""
    from rrid_edge.engines.tensorrt.api import titled
    from rrid_edge.model.rtx_target import RtxTarget
    from rrid_export.tensorrt.build import build_engine
    from rrid_export.tensorrt.settings import BuildSettings
    from support.real_networks import check_every_node, expected_products, random_source, write_traced

    source, settings = random_source(backbone), BuildSettings(rtx=RtxTarget())
    sizes = []
    for precision in ("fp32", "fp16"):
        model = write_traced(folder / f"{backbone}.{precision}.onnx", source, precision)
        started, nodes = time.perf_counter(), check_every_node(trt, model, settings)
        sidecar = build_engine(model, folder / f"{model.stem}.rtx", settings)
        seconds = time.perf_counter() - started
        assert sidecar.proof.products == expected_products(model, precision), sidecar.proof
        sizes.append(sidecar.plan_bytes)
        print(f"{titled(trt)}: {model.name}: {nodes} nodes, plan {sidecar.plan_bytes / 1e6:.1f} MB, {seconds:.1f} s")
        print(f"  {sidecar.proof.in_words()}")
    return sizes[0], sizes[1]


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] != ["--inside"]:
        sys.exit(main(arguments))
    with tempfile.TemporaryDirectory(prefix="tensorrt10-") as place:
        sys.exit(check(arguments[1:], Path(place)))
