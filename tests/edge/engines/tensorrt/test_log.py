"""The file that keeps TensorRT's log, and the inspector's answer beside it."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from rrid_edge.engines.tensorrt.engine import TensorRTEngine
from rrid_edge.engines.tensorrt.log import LOG_VARIABLE, check_log, keep_inspector, logged_errors, make_logger
from rrid_edge.errors import ArtefactError, OutputError
from rrid_export.tensorrt.build import build_engine
from support.onnx_models import save_tiny_model
from support.tensorrt_behaviour import EMPTY_ERRORS, NO_ENGINE, install
from support.tensorrt_layers import PRODUCTS

LINE = re.compile(r"(\S+) (VERBOSE|INFO|WARNING|ERROR|INTERNAL_ERROR) +(.*)")


def _entries(path: Path) -> list[tuple[str, str, str]]:
    """Return time, severity and message of each line."""
    found = [LINE.fullmatch(line) for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")]
    return [(match[1], match[2], match[3]) for match in found if match is not None]


@pytest.fixture(params=["8.6.0", "10.13.3.9", "11.4.0.106"])
def world(request, monkeypatch, tmp_path):
    monkeypatch.setenv(LOG_VARIABLE, str(tmp_path / "logs" / "trt.log"))
    return install(monkeypatch, request.param)


def test_the_log_keeps_every_severity_with_its_time(world, tmp_path):
    errors: list[str] = []
    logger = make_logger(world.module, errors)
    for severity in ("VERBOSE", "INFO", "WARNING", "ERROR", "INTERNAL_ERROR"):
        logger.log(getattr(world.module.ILogger, severity), f"said as\n{severity.lower()} \x1e \ud800\n")
    # Each message is there at once: no flush, no close.
    found = _entries(tmp_path / "logs" / "trt.log")
    assert len(found) == 10
    assert [(severity, message) for _time, severity, message in found[:4]] == [
        ("VERBOSE", "said as"),
        ("VERBOSE", "verbose \x1e ?"),
        ("INFO", "said as"),
        ("INFO", "info \x1e ?"),
    ]
    age = datetime.now(timezone.utc) - datetime.fromisoformat(found[0][0])
    assert timedelta(0) <= age < timedelta(minutes=5)
    assert logged_errors(logger) == errors == ["said as error \ud800", "said as internal_error \ud800"]


def test_a_failed_build_leaves_its_whole_log(world, tmp_path):
    onnx = save_tiny_model(tmp_path / "m.onnx")
    build_engine(onnx, tmp_path / "m.engine")
    world.build_error = "the first error"
    with pytest.raises(ArtefactError, match=r"first error: the first error; last error: 2: .builder\.cpp") as caught:
        build_engine(onnx, tmp_path / "m.engine")
    empty = EMPTY_ERRORS[min(world.generation, 10)]
    assert "Cuda Runtime" not in caught.value.message
    told = [entry[1:] for entry in _entries(tmp_path / "logs" / "trt.log")]
    assert told.count(("VERBOSE", "After dead-layer removal: 101 layers")) == 2  # of both builds
    assert told[-3:] == [("ERROR", "the first error"), ("ERROR", NO_ENGINE), ("ERROR", empty)]
    # The inspector's answer of the engine that was built, as TensorRT gave it.
    answer = (tmp_path / "logs" / "trt.log.inspector.json").read_text(encoding="utf-8")
    assert len(json.loads(answer, strict=False)["Layers"]) > PRODUCTS


def test_opening_an_engine_appends_to_the_log(world, tmp_path):
    build_engine(save_tiny_model(tmp_path / "m.onnx"), tmp_path / "m.engine")
    log = tmp_path / "logs" / "trt.log"
    before = log.read_bytes()
    world.context_error = "no context"
    with pytest.raises(ArtefactError, match="no context"):
        TensorRTEngine(tmp_path / "m.engine")
    assert log.read_bytes().startswith(before)
    assert b"no context" in log.read_bytes()[len(before) :]


def test_a_log_that_cannot_be_written_is_refused_before_the_build(world, tmp_path, monkeypatch):
    onnx = save_tiny_model(tmp_path / "m.onnx")
    for wrong in (tmp_path, onnx / "trt.log", Path("/"), Path("/dev/null/x")):
        monkeypatch.setenv(LOG_VARIABLE, str(wrong))
        with pytest.raises(OutputError, match=r"TensorRT's log cannot be written here .*RRID_EDGE_T") as caught:
            build_engine(onnx, tmp_path / "m.engine")
        assert caught.value.parameters == ("tensorrt_log",)
        assert "Builder.__init__" not in world.log
        with pytest.raises(OutputError):
            check_log(wrong)
    (tmp_path / "trt.log.inspector.json").mkdir()
    with pytest.raises(OutputError, match=r"inspector\.json.*this is a folder"):
        check_log(tmp_path / "trt.log")


def test_without_a_log_nothing_is_kept(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(LOG_VARIABLE, "")
    world = install(monkeypatch, "10.13.3.9")
    build_engine(save_tiny_model(tmp_path / "m.onnx"), tmp_path / "m.engine")
    assert not list(tmp_path.rglob("*inspector*"))
    assert not world.build_error


def test_a_full_disk_does_not_end_the_build(monkeypatch, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setenv(LOG_VARIABLE, "/dev/full")
    world = install(monkeypatch, "10.13.3.9")
    make_logger(world.module, []).log(world.module.ILogger.ERROR, "lost")
    monkeypatch.setenv(LOG_VARIABLE, str(tmp_path / "file" / "trt.log"))
    (tmp_path / "file").touch()
    keep_inspector("lost")


def test_bytes_of_the_inspector_are_kept_as_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv(LOG_VARIABLE, str(tmp_path / "trt.log"))
    keep_inspector(b'{"Layers": "\xff\x1e"}')
    assert (tmp_path / "trt.log.inspector.json").read_bytes() == b'{"Layers": "\xff\x1e"}'
