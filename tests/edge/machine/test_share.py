"""Cores and memory of this process's share, in trees of /proc and /sys as containers and systemd make them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rrid_edge.embedding import pipeline
from rrid_edge.engines.onnxruntime import cpu
from rrid_edge.engines.openvino.engine import _settings
from rrid_edge.gallery.local.view import Vectors, memory_budget_bytes
from rrid_edge.machine import memory, processor
from rrid_edge.machine.doctor import examine
from rrid_edge.machine.memory import machine_bytes, memory_limit_bytes, usable_memory_bytes
from rrid_edge.machine.processor import core_count, core_quota, threads_for, threads_within, usable_cores
from rrid_train import config
from rrid_train.settings import PRESETS
from support.onnx_models import save_tiny_model

GIB = 1 << 30
V2 = "30 23 0:26 {root} /sys/fs/cgroup ro,nosuid shared:9 - cgroup2 cgroup rw,nsdelegate"
V1_CPU = "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:11 - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "35 31 0:32 {root} /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory"
NO_LIMIT = "9223372036854771712"


def tree(folder: Path, cgroup: str, mounts: list[str], files: dict[str, str]) -> Path:
    """A machine of 64 GiB, 48 of them free; ``files`` lie in /sys/fs/cgroup."""
    (folder / "proc/self").mkdir(parents=True)
    kib = 1 << 20
    (folder / "proc/meminfo").write_text(
        f"MemTotal:  {64 * kib} kB\nMemFree:  {kib} kB\nMemAvailable:  {48 * kib} kB\n"
    )
    (folder / "proc/self/cgroup").write_text(cgroup)
    (folder / "proc/self/mountinfo").write_text("\n".join(["22 1 0:21 / / rw - overlay overlay rw", *mounts, ""]))
    for name, text in files.items():
        file = folder / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


DOCKER = "/docker/0123abcd"
POD = "/kubepods.slice/kubepods-burstable.slice/pod7.slice/crio-9.scope"
TREES = {
    "docker-v2": (
        "0::/\n",
        [V2.format(root="/")],
        {"cpu.max": "150000 100000\n", "memory.max": f"{2 * GIB}\n", "memory.high": "max\n",
         "memory.current": f"{GIB}\n", "memory.stat": f"anon 5\ninactive_file {GIB // 4}\n"},
        (1.5, 2 * GIB, 2 * GIB - (GIB - GIB // 4)),
    ),
    "docker-v1": (  # without a namespace of cgroups, only the container's own part is mounted
        f"5:memory:{DOCKER}\n4:cpu,cpuacct:{DOCKER}\n1:name=systemd:{DOCKER}\n",
        [V1_CPU.format(root=DOCKER), V1_MEMORY.format(root=DOCKER)],
        {"cpu,cpuacct/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
         "memory/memory.limit_in_bytes": f"{4 * GIB}\n", "memory/memory.usage_in_bytes": f"{3 * GIB}\n",
         "memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB}\n"},
        (3.0, 4 * GIB, 2 * GIB),
    ),
    "docker-v1-unlimited": (
        "5:memory:/\n4:cpu,cpuacct:/\n",
        [V1_CPU.format(root="/"), V1_MEMORY.format(root="/")],
        {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
         "memory/memory.limit_in_bytes": f"{NO_LIMIT}\n", "memory/memory.usage_in_bytes": "1\n"},
        (None, 64 * GIB, 48 * GIB),
    ),
    "v1-pod-around-the-container": (
        f"5:memory:{DOCKER}\n",
        [V1_MEMORY.format(root=DOCKER)],
        {"memory/memory.limit_in_bytes": NO_LIMIT, "memory/memory.usage_in_bytes": "0",
         "memory/memory.stat": f"hierarchical_memory_limit {GIB}\n"},
        (None, GIB, GIB),
    ),
    "kubernetes-v2-nested": (  # the pod around the container sets the lower limits
        f"0::{POD}\n",
        [V2.format(root="/")],
        {f"{POD[1:]}/cpu.max": "max 100000\n", f"{POD[1:]}/memory.max": "max\n", f"{POD[1:]}/memory.current": "7\n",
         f"{Path(POD).parent.as_posix()[1:]}/cpu.max": "50000 100000\n",
         f"{Path(POD).parent.as_posix()[1:]}/memory.max": f"{8 * GIB}\n",
         f"{Path(POD).parent.as_posix()[1:]}/memory.current": f"{6 * GIB}\n",
         "kubepods.slice/memory.max": f"{60 * GIB}\n", "kubepods.slice/memory.current": f"{59 * GIB}\n"},
        (0.5, 8 * GIB, GIB),
    ),
    "systemd-slice": (
        "0::/user.slice/my\\x2dapp.slice/run.service\n",
        [V2.format(root="/")],
        {"user.slice/my\\x2dapp.slice/cpu.max": "400000 200000\n",
         "user.slice/my\\x2dapp.slice/run.service/memory.high": f"{3 * GIB}\n",
         "user.slice/my\\x2dapp.slice/run.service/memory.max": f"{5 * GIB}\n",
         "user.slice/my\\x2dapp.slice/run.service/memory.current": f"{4 * GIB}\n"},
        (2.0, 3 * GIB, 0),
    ),
    "hybrid": (
        "4:memory:/a\n1:cpu,cpuacct:/a\n0::/a\n",
        [V1_CPU.format(root="/"), V1_MEMORY.format(root="/"),
         V2.format(root="/").replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")],
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "250000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
         "memory/a/memory.limit_in_bytes": f"{2 * GIB}", "memory/a/memory.usage_in_bytes": "0",
         "unified/a/cgroup.procs": "1"},
        (2.5, 2 * GIB, 2 * GIB),
    ),
    "mount-point-with-a-space": (
        "0::/a\n",
        [V2.format(root="/").replace("/sys/fs/cgroup", r"/sys/fs/cgroup/c\040d")],
        {"c d/a/cpu.max": "100000 100000", "c d/a/memory.max": "4096"},
        (1.0, 4096, 4096),
    ),
    "group-outside-of-the-namespace": (
        "0::/../other\n",
        [V2.format(root="/")],
        {"cpu.max": "100000 100000\n", "other/cpu.max": "1 100000\n"},
        (1.0, 64 * GIB, 48 * GIB),
    ),
    "max": (
        "0::/\n",
        [V2.format(root="/")],
        {"cpu.max": "max 100000\n", "memory.max": "max\n"},
        (None, 64 * GIB, 48 * GIB),
    ),
    "malformed": (
        "\n0\n0::relative\n::\n0::/a\nx:cpu:/\n",
        [V2.format(root="/"), "garbage", "1 2 3 4 5 - cgroup2", "9 9 9 / relative rw - cgroup2 c rw"],
        {"a/cpu.max": "-5 100000\n", "cpu.max": "100000 0\n", "a/memory.max": "-3\n", "memory.max": f"{'9' * 40}\n",
         "memory.high": "1e9\n", "a/memory.high": "\u0663\n"},
        (None, 64 * GIB, 48 * GIB),
    ),
    "nothing-mounted": ("0::/a\n", [], {}, (None, 64 * GIB, 48 * GIB)),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    """A process that may use all 64 cores and any address."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)), raising=False)
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.parametrize("kind", TREES)
def test_the_share_is_read_from_control_groups(tmp_path, kind):
    cgroup, mounts, files, (cores, limit, usable) = TREES[kind]
    root = tree(tmp_path, cgroup, mounts, files)
    assert core_quota(root) == cores
    assert memory_limit_bytes(root) == limit
    assert usable_memory_bytes(root) == usable
    assert machine_bytes(root) == 64 * GIB


@pytest.mark.parametrize(
    ("maximum", "cores", "words"),
    [
        ("150000 100000", 2, "1.5 of 64 cores (cgroup quota)"),
        ("10000 100000", 1, "0.1 of 64 cores (cgroup quota)"),
        ("300000 100000", 3, "3 of 64 cores (cgroup quota)"),
        ("100 100000", 1, "0.001 of 64 cores (cgroup quota)"),
        ("9900000 100000", 64, "64 cores"),
        ("max 100000", 64, "64 cores"),
    ],
)
def test_a_part_of_a_core_counts_as_one(tmp_path, maximum, cores, words):
    root = tree(tmp_path, "0::/\n", [V2.format(root="/")], {"cpu.max": maximum})
    assert usable_cores(root) == cores
    assert core_count(root) == words


def test_affinity_and_quota_both_hold(tmp_path, monkeypatch):
    root = tree(tmp_path, "0::/\n", [V2.format(root="/")], {"cpu.max": "400000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 9}, raising=False)
    assert (usable_cores(root), core_count(root)) == (2, "2 of 64 cores usable")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    assert (usable_cores(root), core_count(root)) == (4, "4 of 64 cores (cgroup quota)")


def test_what_cannot_be_read_sets_no_limit(tmp_path):
    assert core_quota(tmp_path) is None
    assert memory_limit_bytes(tmp_path) == usable_memory_bytes(tmp_path) == 1 << 63
    root = tree(tmp_path, "0::/\n", [V2.format(root="/")], {"cpu.max/folder": "", "memory.max/folder": ""})
    assert (core_quota(root), memory_limit_bytes(root)) == (None, 64 * GIB)


def test_the_address_space_is_a_limit(tmp_path, monkeypatch):
    root = tree(tmp_path, "", [], {})
    monkeypatch.setattr(resource, "getrlimit", lambda kind: ((3 if kind == resource.RLIMIT_AS else 1) * GIB, 4 * GIB))
    monkeypatch.setattr(memory, "_own_address_space_bytes", lambda: GIB)
    assert memory_limit_bytes(root) == 3 * GIB
    assert usable_memory_bytes(root) == 2 * GIB


def test_runtimes_get_no_more_threads_than_the_share(monkeypatch):
    monkeypatch.setattr(processor, "usable_cores", lambda: 2)
    assert (threads_for(0), threads_for(5)) == (2, 5)
    assert (threads_within(0, 64), threads_within(0, 1), threads_within(0, 2), threads_within(7, 1)) == (2, 0, 0, 7)
    monkeypatch.setattr(processor, "usable_cores", lambda: 64)
    assert (threads_for(0), threads_for(5)) == (0, 5)  # the runtime knows best: it leaves hyper-threads out


def test_vectors_stay_in_their_file_where_the_limit_is_small(monkeypatch):
    stored = np.zeros((64, 8), np.float16)
    for limit, is_decoded in ((64 * 8 * 4 * 4, True), (64 * 8 * 4 * 4 - 4, False)):
        monkeypatch.setattr("rrid_edge.gallery.local.view.memory_limit_bytes", lambda limit=limit: limit)
        vectors = Vectors(stored, memory_budget_bytes())
        for _ in range(3):
            vectors.products(np.zeros((1, 8), np.float32))
        assert (vectors.decoded is not None) is is_decoded
    monkeypatch.setattr("rrid_edge.gallery.local.view.memory_limit_bytes", lambda: 1 << 63)
    assert memory_budget_bytes() == 8 * GIB


def test_the_doctor_names_both_shares(monkeypatch):
    monkeypatch.setattr("rrid_edge.machine.doctor.memory_limit_bytes", lambda: GIB)
    monkeypatch.setattr("rrid_edge.machine.doctor.machine_bytes", lambda: 64 * GIB)
    monkeypatch.setattr("rrid_edge.machine.doctor.core_count", lambda: "1.5 of 64 cores (cgroup quota)")
    details = {finding.name: finding.detail for finding in examine()}
    assert "1.5 of 64 cores (cgroup quota)" in details["processor"]
    assert details["memory"].startswith("1.0 of 64.0 GiB")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux pins processes")
def test_a_pinned_process_with_little_address_space_knows_its_share():
    program = (
        "import os, resource; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({2 * GIB}, {2 * GIB}))\n"
        "from rrid_edge.machine import memory, processor\n"
        "print(processor.usable_cores(), memory.memory_limit_bytes(), memory.usable_memory_bytes() > 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    cores, limit, is_some = done.stdout.split()
    assert (cores, is_some) == ("1", "True")
    assert 0 < int(limit) <= 2 * GIB


def test_engines_and_workers_follow_the_share(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "usable_cores", lambda: 3)
    assert _settings(None, "CPU", None, 0)["INFERENCE_NUM_THREADS"] == 3
    assert _settings(None, "CPU", None, 7)["INFERENCE_NUM_THREADS"] == 7
    assert "INFERENCE_NUM_THREADS" not in _settings(None, "GPU", None, 0)
    opened = []
    monkeypatch.setattr(cpu, "open_session", lambda _path, options, *_rest, **_named: opened.append(options))
    with cpu.OnnxRuntimeEngine(save_tiny_model(tmp_path / "m.onnx")):
        pass
    assert [options.intra_op_num_threads for options in opened] == [3]
    monkeypatch.setattr(pipeline, "usable_cores", lambda: 64)
    for free, workers in ((64 * GIB, 64), (GIB, 8), (0, 2)):
        monkeypatch.setattr(pipeline, "usable_memory_bytes", lambda free=free: free)
        assert pipeline._most_workers() == workers


def test_training_starts_a_worker_per_core_at_most_unless_asked(monkeypatch):
    monkeypatch.setattr(config, "usable_cores", lambda: 2)
    assert config.make_config("paper", None, {}).num_workers == 2
    assert config.make_config("paper", None, {"num_workers": 6}).num_workers == 6
    assert config.make_config("demo", None, {"num_workers": 0}).num_workers == 0
    monkeypatch.setattr(config, "usable_cores", lambda: 64)
    assert config.make_config("paper", None, {}) == PRESETS["paper"]
