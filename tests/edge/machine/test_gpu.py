"""Tests of the NVIDIA platform: eight recorded machines, what doctor says of each, and what messages advise."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from rrid_edge.errors import MissingDependencyError
from rrid_edge.machine import advice, gpu_findings
from rrid_edge.machine.advice import extra_advice, gpu_advice, import_failure, missing_package, rtx_advice
from rrid_edge.machine.doctor import Finding, examine
from rrid_edge.machine.facts import MachineFacts, find_libraries
from rrid_edge.machine.gpu import Gpu, driver_cuda, find_gpu, is_jetson


@dataclass(frozen=True)
class Recorded:
    """A machine: files of its system, the CUDA that its driver serves, and its packages."""

    files: Mapping[str, str] = field(default_factory=dict)
    cuda: tuple[int, int] | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    architecture: str = "x86_64"
    python: tuple[int, int] = (3, 12)
    onnxruntime_cuda: tuple[int, int] | None = None

    def facts(self, root: Path) -> MachineFacts:
        for name, content in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)
        return MachineFacts(
            gpu=find_gpu(root, architecture=self.architecture, cuda=self.cuda),
            python=self.python,
            packages={"numpy": "2.2.0", **self.packages},
            modules=frozenset(name for name in ("tensorrt",) if name in self.packages),
            onnxruntime_cuda=self.onnxruntime_cuda,
            libraries=find_libraries(root),
        )


def _kernel(version: str, kind: str = "NVIDIA UNIX x86_64 Kernel Module") -> dict[str, str]:
    line = f"NVRM version: {kind}  {version}  Thu Feb 22 01:44:30 UTC 2024\nGCC version:  gcc version 12.3.0\n"
    return {"proc/driver/nvidia/version": line, "dev/nvidiactl": "", "dev/nvidia0": ""}


def _tegra(release: str) -> dict[str, str]:
    return {"etc/nv_tegra_release": f"# {release}, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: x\n"}


CU12 = {"cuda-bindings": "12.9.10", "tensorrt-cu12": "11.4.0.106", "tensorrt-cu12-bindings": "11.4.0.106"}
CU13 = {"cuda-bindings": "13.5.0", "tensorrt-cu13": "11.4.0.106", "tensorrt-cu13-bindings": "11.4.0.106"}
ORT12 = {"onnxruntime-gpu": "1.24.4", "nvidia-cudnn-cu12": "9.28.0.42", "nvidia-cublas-cu12": "12.9.3.13"}
ORT13 = {"onnxruntime-gpu": "1.31.1", "nvidia-cudnn-cu13": "9.28.1.4", "nvidia-cublas": "13.10.0.20"}
SERVER_12 = _kernel("550.54.14")
SERVER_13 = _kernel("580.65.06", "NVIDIA UNIX Open Kernel Module for x86_64")
CARD = {"sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n", "sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n"}
JETPACK_60 = _tegra("R36 (release), REVISION: 3.0") | {"dev/nvhost-gpu": ""}
JETPACK_62 = _tegra("R36 (release), REVISION: 4.3") | {"dev/nvhost-gpu": ""}
JETPACK_7 = _tegra("R38 (release), REVISION: 2.0") | _kernel("580.00", "NVIDIA UNIX Open Kernel Module for aarch64")
WSL = {"dev/dxg": "", "usr/lib/wsl/lib/libcuda.so.1": ""}
OK = {"gpu": "ok", "cuda": "ok", "tensorrt": "ok", "onnxruntime": "ok"}

EIGHT = {
    "server-cuda12": (Recorded(SERVER_12, (12, 4), CU12 | ORT12), OK),
    "server-cuda13": (Recorded(SERVER_13, (13, 0), CU13 | ORT13), OK),
    "server-no-driver": (Recorded(CARD, None, CU12 | ORT12), {"gpu": "problem", "onnxruntime": "ok"}),
    "jetpack-6.0": (
        Recorded(JETPACK_60, (12, 2), {"tensorrt": "8.6.2", "cuda-bindings": "12.9.10"}, "aarch64", (3, 10)),
        {"gpu": "ok", "jetpack": "ok", "cuda": "ok", "tensorrt": "ok"},
    ),
    "jetpack-6.2": (
        Recorded(JETPACK_62, (12, 6), {"tensorrt": "10.3.0", "cuda-bindings": "13.4.4"}, "aarch64", (3, 10)),
        {"gpu": "ok", "jetpack": "ok", "cuda": "problem", "tensorrt": "ok"},
    ),
    "jetpack-7": (
        Recorded(JETPACK_7, (13, 0), {"tensorrt": "10.13.3.9", "cuda-bindings": "13.5.0"}, "aarch64"),
        {"gpu": "ok", "jetpack": "ok", "cuda": "ok", "tensorrt": "ok"},
    ),
    "wsl2": (Recorded(WSL, (12, 6), CU12 | ORT12), OK),
    "cpu": (Recorded({}, None, {"onnxruntime": "1.32.0"}), {"gpu": "note", "onnxruntime": "ok"}),
}
DETAILS = {
    "server-cuda12": ("server or PC, NVIDIA driver 550.54.14 serves CUDA 12.4", "1.24.4 (CUDA 12 build)"),
    "server-cuda13": ("server or PC, NVIDIA driver 580.65.06 serves CUDA 13.0", "1.31.1 (CUDA 13 build)"),
    "server-no-driver": ("no NVIDIA driver, but tensorrt-cu12 and onnxruntime-gpu need one",),
    "jetpack-6.0": ("Jetson with JetPack 6.0, this driver serves CUDA 12.2", "Jetson Linux 36.3.0", "tensorrt 8.6.2"),
    "jetpack-6.2": ("JetPack 6.2", "cuda-bindings 13.4.4 is for CUDA 13, but this driver serves CUDA 12.6"),
    "jetpack-7": ("JetPack 7.0", "CUDA 13.0", "tensorrt 10.13.3.9 of JetPack"),
    "wsl2": ("WSL2, the NVIDIA driver of Windows serves CUDA 12.6",),
    "cpu": ("no NVIDIA driver: CPU runtimes are used", "1.32.0 (CPU build)"),
}


def _named(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


@pytest.mark.parametrize("name", EIGHT)
def test_doctor_says_the_right_thing_of_eight_machines(name, tmp_path):
    machine, states = EIGHT[name]
    findings = examine(machine.facts(tmp_path))
    assert {found: _named(findings, found).state for found in states} == states
    text = "\n".join(f"{finding.detail} {finding.remedy}" for finding in findings)
    for detail in DETAILS[name]:
        assert detail in text
    if name.startswith("jetpack"):
        assert "[gpu" not in text
        assert "torch" not in text
        assert "rrid-edge[" not in text  # no extra at all: [train], [export] and [gpu-...] are for other machines
    else:
        assert "jetpack" not in text.lower()


def test_a_builder_for_rtx_is_shown_where_no_gpu_is(tmp_path):
    packages = {"tensorrt-rtx-cu12-bindings": "1.7.1.116", "tensorrt-rtx-cu12-libs": "1.7.1.116"}
    found = _named(examine(Recorded({}, None, packages).facts(tmp_path)), "tensorrt-rtx")
    assert (found.state, found.remedy) == ("ok", "")
    assert found.detail.endswith(" 1.7.1.116: builds engines here, runs none")


@pytest.mark.parametrize(
    ("capability", "state", "detail"),
    [
        ("9.0", "note", "tensorrt-rtx 1.7.1.116 builds engines here, runs none: TensorRT for RTX does not "
         "support compute capability 9.0: expected 7.5, 8.0, 8.6, 8.9, 12.0, 12.1 or later"),
        ("8.9", "ok", "tensorrt-rtx 1.7.1.116 (CUDA 13 build)"),
        ("13.0", "ok", "tensorrt-rtx 1.7.1.116 (CUDA 13 build)"),
        (None, "ok", "tensorrt-rtx 1.7.1.116 (CUDA 13 build)"),
    ],
)  # fmt: skip
def test_a_gpu_that_runs_no_engine_for_rtx_is_told(tmp_path, capability, state, detail):
    """An H200 with driver 580.159.04 refused every engine."""
    facts = Recorded(SERVER_13, (13, 0), {"tensorrt-rtx-cu13-bindings": "1.7.1.116"}).facts(tmp_path)
    found = _named(examine(replace(facts, rtx_capability=capability)), "tensorrt-rtx")
    assert (found.state, found.detail, found.remedy) == (state, detail, "")


def test_the_wrong_bindings_on_jetpack_6_have_their_command(tmp_path):
    findings = examine(EIGHT["jetpack-6.2"][0].facts(tmp_path))
    assert _named(findings, "cuda").remedy == "pip install 'cuda-bindings>=12.9,<13'"


@pytest.mark.parametrize(
    ("machine", "name", "detail", "remedy"),
    [
        (
            Recorded(SERVER_12, (12, 4), CU13),
            "cuda",
            "cuda-bindings 13.5.0 is for CUDA 13, but this driver serves CUDA 12.4",
            "pip install 'cuda-bindings>=12.9,<13'",
        ),
        (
            Recorded(SERVER_12, (12, 4), CU13),
            "tensorrt",
            "tensorrt-cu13 11.4.0.106 is for CUDA 13, but this driver serves CUDA 12.4",
            "pip uninstall -y tensorrt-cu13 tensorrt-cu13-bindings && pip install 'rrid-edge[gpu-cu12]'",
        ),
        (
            Recorded(SERVER_13, (13, 0), CU12 | CU13),
            "tensorrt",
            "tensorrt-cu12 and tensorrt-cu13 are both installed and overwrite each other",
            "pip uninstall -y tensorrt-cu12 tensorrt-cu12-bindings tensorrt-cu13 tensorrt-cu13-bindings && "
            "pip install 'rrid-edge[gpu-cu13]'",
        ),
        (
            Recorded(WSL, (12, 6), CU12 | ORT13),
            "onnxruntime",
            "onnxruntime-gpu 1.31.1 is for CUDA 13, but this driver serves CUDA 12.6",
            "pip install 'onnxruntime-gpu[cuda,cudnn]>=1.21,<1.25'",
        ),
        (
            Recorded(SERVER_12, (12, 4), CU12 | {"onnxruntime-gpu": "1.24.4"}),
            "onnxruntime",
            "1.24.4 (CUDA 12 build), but cuBLAS 12 and cuDNN 9 were not found",
            "pip install 'onnxruntime-gpu[cuda,cudnn]>=1.21,<1.25'",
        ),
        (
            Recorded(SERVER_13, (13, 1), CU13 | {"onnxruntime-gpu": "1.31.1", "nvidia-cublas": "13.1"}),
            "onnxruntime",
            "1.31.1 (CUDA 13 build), but cuDNN 9 was not found",
            "pip install 'onnxruntime-gpu[cuda,cudnn]>=1.28'",
        ),
        (
            Recorded(SERVER_13, (13, 0), {}),
            "tensorrt",
            "tensorrt is not installed",
            "pip install 'rrid-edge[gpu-cu13]'",
        ),
        (
            Recorded(SERVER_13, (13, 0), {}, python=(3, 10)),  # no ONNX Runtime of CUDA 13 for this Python
            "tensorrt",
            "tensorrt is not installed",
            "pip install 'rrid-edge[gpu-cu12]'",
        ),
        (
            Recorded(_kernel("470.82.01"), (11, 4), {}),
            "gpu",
            "NVIDIA driver 470.82.01 serves CUDA 11.4, expected CUDA 12.0 or later",
            "install an NVIDIA driver of version 525 or later",
        ),
        (
            Recorded(SERVER_12, None, CU12),
            "gpu",
            "libcuda.so.1 cannot be loaded",
            "in a container: docker run --gpus all ...",
        ),
        (Recorded({}, (12, 4)), "gpu", "libcuda.so.1 serves CUDA 12.4, but no GPU is visible", "docker run --gpus all"),
        (Recorded(CARD), "gpu", "an NVIDIA card without NVIDIA's driver", "install NVIDIA's driver"),
        (
            Recorded(JETPACK_62, (12, 6), {}, "aarch64"),
            "tensorrt",
            "JetPack's own TensorRT is not visible from this environment",
            "sudo apt install nvidia-jetpack && python3 -m venv --system-site-packages .venv",
        ),
        (
            Recorded(JETPACK_62, None, {"tensorrt": "11.4.0.106", **CU13}, "aarch64"),
            "tensorrt",
            "tensorrt-cu13 11.4.0.106 of PyPI hides JetPack's own TensorRT",
            "pip uninstall -y tensorrt tensorrt-cu13 tensorrt-cu13-bindings",
        ),
        (
            Recorded(JETPACK_62, None, {"cuda-bindings": "13.4.4"}, "aarch64"),
            "cuda",
            "cuda-bindings 13.4.4 is for CUDA 13, but JetPack 6.2 has CUDA 12",
            "pip install 'cuda-bindings>=12.9,<13'",
        ),
        (Recorded(JETPACK_7, (13, 0), {}, "aarch64"), "cuda", "not installed", "pip install 'cuda-bindings>=13,<14'"),
        (
            Recorded(_tegra("R35 (release), REVISION: 4.1"), (11, 4), {}, "aarch64"),
            "jetpack",
            "JetPack 5, Jetson Linux 35.4.1: expected JetPack 6 or later",
            "flash JetPack 6 or later",
        ),
        (
            Recorded(JETPACK_62, (12, 6), {"onnxruntime": "1.22", "onnxruntime-gpu": "1.22"}, "aarch64"),
            "onnxruntime",
            "overwrite each other",
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime",
        ),
        (
            Recorded(SERVER_12, (12, 4), {"torch": "2.13.0+cu130", "torchvision": "0.28.0"}),
            "torch",
            "torch 2.13.0+cu130 is for CUDA 13, but this driver serves CUDA 12.4: it computes on the CPU",
            "update the NVIDIA driver, or install a torch built for CUDA 12",
        ),
        (
            Recorded(SERVER_12, (12, 4), {"tensorrt-rtx-cu13-bindings": "1.7.1.116"}),
            "tensorrt-rtx",
            "is for CUDA 13, but this driver serves CUDA 12.4",
            "pip uninstall -y tensorrt-rtx-cu13-bindings && pip install 'rrid-edge[gpu-rtx-cu12]'",
        ),
        (Recorded(SERVER_12, (12, 4), {"cuda-bindings": "12.6.2"}), "cuda", "12.6.2: expected 12.9 or later", "12.9"),
        (Recorded(SERVER_12, (12, 4), {"tensorrt": "9.3.0"}), "tensorrt", "tensorrt 9.3.0: expected 8.6, 10.x", ""),
    ],
)
def test_doctor_names_what_does_not_fit_and_the_command(machine, name, detail, remedy, tmp_path):
    finding = _named(examine(machine.facts(tmp_path)), name)
    assert finding.state in ("problem", "missing")
    assert detail in finding.detail
    assert remedy in finding.remedy


def test_majors_that_run_together_are_a_note(tmp_path):
    mixed = Recorded(SERVER_13, (13, 0), CU12 | {"cuda-bindings": "13.5.0"} | ORT13)
    notes = [finding for finding in examine(mixed.facts(tmp_path)) if finding.state == "note"]
    majors = "TensorRT is for CUDA 12, ONNX Runtime is for CUDA 13, cuda-bindings is for CUDA 13"
    assert [note.detail for note in notes] == [f"{majors}: this works, one extra keeps them in step"]


def test_the_build_of_onnxruntime_counts_more_than_its_version(tmp_path):
    assert Recorded({}, None, {"onnxruntime-gpu": "1.26.0"}).facts(tmp_path).onnxruntime_major() == 12
    assert Recorded({}, None, {"onnxruntime-gpu": "1.27.0"}).facts(tmp_path).onnxruntime_major() == 13
    own = Recorded({}, None, {"onnxruntime-gpu": "1.31.1"}, onnxruntime_cuda=(12, 8))  # built by the user
    assert own.facts(tmp_path).onnxruntime_major() == 12


def test_libraries_of_the_system_count_as_found(tmp_path):
    files = {f"usr/lib/x86_64-linux-gnu/{name}": "" for name in ("libcudnn.so.9", "libcublasLt.so.12")}
    machine = Recorded(SERVER_12 | files, (12, 4), CU12 | {"onnxruntime-gpu": "1.24.4"})
    assert _named(examine(machine.facts(tmp_path)), "onnxruntime").state == "ok"


@pytest.mark.parametrize(
    ("files", "cuda", "kind"),
    [
        ({"proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0"}, None, "jetson"),
        ({"dev/nvgpu": ""}, None, "jetson"),  # a container on a Jetson has no release file
        ({"dev/dxg": ""}, (12, 4), "wsl2"),  # a container in WSL2 has the library in another folder
        ({"dev/dxg": ""}, None, "none"),  # WSL2 with the graphics of another maker
        ({"dev/nvidia0": ""}, (12, 4), "server"),
        ({"usr/lib/x86_64-linux-gnu/libcuda.so.1": ""}, (12, 4), "none"),  # an image with a library and no GPU
    ],
)
def test_platforms_by_their_signs(files, cuda, kind, tmp_path):
    assert Recorded(files, cuda).facts(tmp_path).gpu.kind == kind
    assert is_jetson(tmp_path) == (kind == "jetson")


def test_network_cards_of_nvidia_are_no_gpus(tmp_path):
    network = {name: content.replace("0x0302", "0x0207") for name, content in CARD.items()}
    assert not Recorded(network).facts(tmp_path).gpu.has_card


@pytest.mark.parametrize(
    ("release", "jetpack"),
    [
        ("R36 (release), REVISION: 3.0", "6.0"),
        ("R36 (release), REVISION: 4.0", "6.1"),
        ("R36 (release), REVISION: 4.3", "6.2"),
        ("R36 (release), REVISION: 9.9", "6"),
        ("R38 (release), REVISION: 4.0", "7.1"),
        ("R39 (release), REVISION: 1.0", "7"),
        ("R35 (release), REVISION: 4.1", "5"),
        ("nonsense", ""),
    ],
)
def test_jetpacks_by_their_release(release, jetpack, tmp_path):
    assert Recorded(_tegra(release)).facts(tmp_path).gpu.jetpack == jetpack


@pytest.mark.parametrize(
    ("package", "module", "extra", "advised"),
    [
        ("tensorrt", "tensorrt", "gpu", "on a Jetson TensorRT comes with JetPack"),
        ("cuda-bindings", "cuda.bindings", "gpu", "on a Jetson TensorRT comes with JetPack"),
        ("onnxruntime-gpu", "onnxruntime", "gpu", "on a Jetson TensorRT comes with JetPack"),
        ("openvino", "openvino", "openvino", "pip install 'rrid-edge[openvino]'"),
    ],
)
def test_a_package_that_cannot_be_imported_gives_its_reason(package, module, extra, advised, monkeypatch):
    monkeypatch.setattr(advice, "this_gpu", lambda: JETSONS[0])
    broken = ImportError("libnvinfer.so.10: cannot open shared object file: No such file or directory")
    message = import_failure(broken, package, extra, "it").message
    assert "is installed and cannot be imported (ImportError: libnvinfer.so.10: cannot open" in message
    assert advised in message
    other = ModuleNotFoundError("No module named 'tensorrt.tensorrt'", name="tensorrt.tensorrt")  # another Python's
    assert "cannot be imported (ModuleNotFoundError: No module" in import_failure(other, package, extra, "it").message
    absent = import_failure(ModuleNotFoundError("no", name=module), package, extra, "it").message
    assert f"needs the package '{package}', which is not installed: {advised}" in absent


JETSONS = [Gpu("jetson", "aarch64", "", (12, 6), (36, 4, 3)), Gpu("jetson", "aarch64", "", None, ())]


@pytest.mark.parametrize("gpu", [*JETSONS, Gpu("none", "aarch64"), Gpu("server", "aarch64", "580.1", (13, 0))])
def test_arm_machines_are_sent_to_jetpack_and_never_to_an_extra(gpu, monkeypatch):
    monkeypatch.setattr(advice, "this_gpu", lambda: gpu)
    for text in (gpu_advice(gpu), rtx_advice(gpu), missing_package("tensorrt", "gpu", "it").message):
        assert "on a Jetson TensorRT comes with JetPack" in text
        assert "venv made with --system-site-packages" in text
        assert "'cuda-bindings>=1" in text
        assert "rrid-edge[" not in text
        assert "torch" not in text


@pytest.mark.parametrize("extra", ["train", "export"])
def test_a_jetson_is_never_sent_to_extras_with_torch(extra, monkeypatch):
    monkeypatch.setattr(advice, "is_jetson", lambda: True)
    message = missing_package("torch", extra, "training").message
    assert message.startswith("training needs the package 'torch', which is not installed: a Jetson is no place for it")
    assert "pip install" not in message
    assert extra_advice("calib") == "pip install 'rrid-edge[calib]'"
    monkeypatch.setattr(advice, "is_jetson", lambda: False)
    assert extra_advice(extra) == f"pip install 'rrid-edge[{extra}]'"


@pytest.mark.parametrize(
    ("cuda", "advised"),
    [
        ((12, 4), "pip install 'rrid-edge[gpu-cu12]'"),
        ((13, 0), "pip install 'rrid-edge[gpu-cu13]'"),
        ((14, 0), "pip install 'rrid-edge[gpu-cu13]'"),
        (
            None,
            "pip install 'rrid-edge[gpu-cu12]', or 'rrid-edge[gpu-cu13]' if nvidia-smi prints CUDA Version 13 or later",
        ),
    ],
)
def test_the_extra_follows_the_driver(cuda, advised):
    assert gpu_advice(Gpu("server", "x86_64", "", cuda), (3, 12)) == advised


class _Library:
    def __init__(self, status: int, version: int) -> None:
        self._answer = status, version

    def cuDriverGetVersion(self, pointer):  # noqa: N802 - NVIDIA's name
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = self._answer[1]
        return self._answer[0]


@pytest.mark.parametrize(
    ("libraries", "expected"),
    [
        ({"libcuda.so.1": _Library(0, 12040)}, (12, 4)),
        ({"/usr/lib/wsl/lib/libcuda.so.1": _Library(0, 13010)}, (13, 1)),
        ({"libcuda.so.1": _Library(34, 0)}, None),  # the stub of the toolkit
        ({"libcuda.so.1": object()}, None),
        ({}, None),
    ],
)
def test_the_driver_is_asked_through_its_library(libraries, expected, monkeypatch):
    def load(name: str) -> object:
        if name not in libraries:
            raise OSError(f"{name}: cannot open shared object file")
        return libraries[name]

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert driver_cuda() == expected


def test_tensorrt_newer_than_the_driver_is_refused_before_it_crashes(monkeypatch, tmp_path):
    facts = Recorded(SERVER_12, (12, 4), CU13).facts(tmp_path)
    monkeypatch.setattr(gpu_findings, "read_facts", lambda: facts)
    monkeypatch.setattr(gpu_findings, "this_gpu", lambda: facts.gpu)
    with pytest.raises(
        MissingDependencyError, match=r"tensorrt-cu13 11\.4\.0\.106 is for CUDA 13, but this driver serves"
    ):
        gpu_findings.refuse_tensorrt_newer_than_driver()
    fitting = Recorded(SERVER_13, (13, 0), CU12).facts(tmp_path)  # a newer driver serves older programs
    monkeypatch.setattr(gpu_findings, "read_facts", lambda: fitting)
    gpu_findings.refuse_tensorrt_newer_than_driver()
