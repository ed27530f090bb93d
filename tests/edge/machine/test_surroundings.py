"""Findings on free space, open files, watched folders, the clock and variables, of machines that are given."""

from __future__ import annotations

import re
import resource
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from rrid_edge.machine.memory import GIB
from rrid_edge.machine.surroundings import (
    FILES_OF_SERVE,
    Disk,
    Limits,
    clock_finding,
    disk_findings,
    limit_findings,
    nearest_folder,
    read_disks,
    training_sign,
)
from rrid_edge.machine.variables import VARIABLES, variable_findings
from support.programs import ROOT


@pytest.mark.parametrize(
    ("free_bytes", "inodes", "state", "words"),
    [
        (64 * GIB, None, "ok", "64.0 of 100.0 GiB free"),
        (64 * GIB, 10**6, "ok", "64.0 of 100.0 GiB free"),
        (GIB, None, "note", "compiled models alone may take 2 GiB"),
        (GIB // 10, None, "problem", "0.1 of 100.0 GiB free: too little for an index or a compiled model"),
        (64 * GIB, 7, "problem", "but room for 7 files only"),
    ],
)
def test_free_space(free_bytes, inodes, state, words):
    (finding,) = disk_findings([Disk(Path("/my data"), 1, 100 * GIB, free_bytes, inodes)])
    assert (finding.name, finding.state) == ("disk", state)
    assert words in finding.detail
    assert finding.remedy == ("" if state == "ok" else "du -xh -d 2 '/my data' | sort -h | tail")


def test_each_file_system_is_named_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    disks = read_disks(tmp_path / "not" / "made" / "yet")
    assert len({disk.device for disk in disks}) == len(disks)
    assert disks[0].device == tmp_path.stat().st_dev
    assert 0 < disks[0].free_bytes <= disks[0].size_bytes
    assert nearest_folder(tmp_path / "not" / "made") == tmp_path


@pytest.mark.parametrize(
    ("soft", "hard", "state", "remedy"),
    [
        (1 << 62, 1 << 62, "ok", ""),
        (1024, 4096, "ok", ""),
        (1023, 524_288, "note", "ulimit -n 4096"),
        (256, 2048, "note", "ulimit -n 2048"),
        (63, 524_288, "problem", "ulimit -n 4096"),
        (32, 32, "problem", "raise the hard limit, for systemd: LimitNOFILE=4096"),
    ],
)
def test_open_files(soft, hard, state, remedy):
    (finding,) = limit_findings(Limits((soft, hard)), watches=True)
    assert (finding.name, finding.state, finding.remedy) == ("open files", state, remedy)


def test_a_service_with_all_of_its_connections_stays_below_the_limit_that_is_advised():
    source = (ROOT / "rrid_edge" / "serve" / "gate" / "limits.py").read_text()
    connections = int(re.findall(r"most_connections: int = (\d+)", source)[0])
    assert connections + 100 <= FILES_OF_SERVE


def test_watched_folders_matter_where_folders_can_be_followed():
    few = Limits((4096, 4096), 100)
    assert len(limit_findings(few, watches=False)) == 1
    finding = limit_findings(few, watches=True)[1]
    assert (finding.state, finding.remedy) == ("note", "sudo sysctl fs.inotify.max_user_watches=524288")
    assert len(limit_findings(Limits((4096, 4096), 65_536), watches=True)) == 1


def test_the_limits_of_this_process_are_read(tmp_path):
    (tmp_path / "proc/sys/fs/inotify").mkdir(parents=True)
    (tmp_path / "proc/sys/fs/inotify/max_user_watches").write_text("123\n")
    assert Limits.here(tmp_path).watched_folders == 123
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        assert Limits.here().open_files == (soft, hard)
    assert Limits.here(tmp_path / "nothing").watched_folders is None


def test_a_clock_that_starts_in_1970_is_a_problem():
    start = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=3)
    finding = clock_finding(start)
    assert (finding.state, finding.remedy) == ("problem", "sudo timedatectl set-ntp true")
    assert finding.detail.startswith("1970-01-01 00:03 UTC is in the past")
    assert clock_finding(datetime(2026, 11, 27, tzinfo=timezone.utc)).state == "ok"


@pytest.mark.parametrize(
    ("made", "sign"),
    [
        ([], ""),
        (["models/rrid.onnx", "yolo.pt", "crops/0001.jpg"], ""),
        (["meta.json"], ""),
        (["best.safetensors"], "the checkpoint best.safetensors is here"),
        (["runs/market/last.safetensors"], "the checkpoint runs/market/last.safetensors is here"),
        (["meta.json", "splits.json"], "this folder is a dataset"),
        (["market/bounding_box_train/x.jpg"], "the dataset market is here"),
        (["demo/meta.json", "demo/splits.json"], "the dataset demo is here"),
    ],
)
def test_signs_of_training(tmp_path, monkeypatch, made, sign):
    for name in made:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert training_sign(Path()) == sign
    assert training_sign(Path("nothing")) == ""


def _one(**environment):
    (finding,) = variable_findings(environment)
    return finding


def test_a_known_variable_is_shown_with_its_effect(tmp_path):
    (tmp_path / "m.onnx").touch()
    assert (
        _one(RRID_EDGE_CACHE="off").detail
        == "RRID_EDGE_CACHE=off: folder of compiled models and measured speeds; off keeps none"
    )
    assert _one(RRID_EDGE_MODEL=str(tmp_path / "m.onnx")).state == "ok"
    assert variable_findings({"RRID_EDGE_MODEL": "", "PATH": "/bin", "HOME": "/"}) == []


def test_a_token_is_never_shown():
    finding = _one(RRID_EDGE_MILVUS_TOKEN="root:Milvus-secret")
    assert "secret" not in repr(finding)
    assert finding.detail.startswith("RRID_EDGE_MILVUS_TOKEN=(set): ")


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("RRID_EDGE_MODEL", "gone.onnx", __file__),
        ("RRID_EDGE_LEAN_RUNTIME", "gone.so", __file__),
        ("RRID_EDGE_MILVUS_TIMEOUT_S", "soon", "60"),
        ("RRID_EDGE_MILVUS_TIMEOUT_S", "-1", "0.5"),
        ("RRID_EDGE_MILVUS_TIMEOUT_S", "nan", "86399"),
        ("RRID_EDGE_TENSORRT_LOG", "/nothing/log.txt", "log.txt"),
    ],
)
def test_a_value_that_cannot_work_is_a_problem(name, wrong, right):
    finding = _one(**{name: wrong})
    assert (finding.state, finding.remedy) == ("problem", f"unset {name}")
    assert f"{name}={wrong}: expected " in finding.detail
    assert _one(**{name: right}).state == "ok"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("RRID_EDGE_CACH", "RRID_EDGE_CACHE"),
        ("RRID_EDGE_MODLE", "RRID_EDGE_MODEL"),
        ("rrid_edge_model", "RRID_EDGE_MODEL"),
        ("RRID_EDGE_MILVUS_TIMEOUT", "RRID_EDGE_MILVUS_TIMEOUT_S"),
    ],
)
def test_a_mistyped_name_is_told_with_the_nearest(name, near):
    finding = _one(**{name: "x"})
    assert (finding.state, finding.detail) == ("problem", f"{name} has no effect: did you mean {near}?")
    assert finding.remedy == f'export {near}="${name}"; unset {name}'


def test_a_name_of_another_program_is_only_noted():
    assert _one(RRID_EDGE_SITE_NUMBER="4").state == "note"


def test_the_table_has_every_variable_that_the_package_reads():
    folders = ("rrid_edge", "train", "export", "calib", "tests/support", "tests/conftest.py")
    files = [path for name in folders for path in [ROOT / name, *(ROOT / name).rglob("*.py")] if path.is_file()]
    named = {found for path in files for found in re.findall(r"\bRRID_EDGE_[A-Z_]*[A-Z]\b", path.read_text("utf-8"))}
    assert named - {"RRID_EDGE_STANDIN"} == set(VARIABLES)  # the stand-in of a GPU in the tests
