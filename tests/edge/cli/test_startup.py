"""What runs before and beside a command: imports while the model loads, and fewer collections."""

from __future__ import annotations

import gc
import os
import sys
import threading

import pytest

from rrid_edge.cli.startup import command_in, meanwhile, quick_start
from rrid_edge.cli.steps import AskedRuntime, open_model
from rrid_edge.engines.fake import FakeEngine
from rrid_edge.errors import MissingDependencyError
from support.onnx_models import save_tiny_model


def test_what_is_prepared_meanwhile_runs_in_a_thread_and_cannot_fail(capfd):
    ran = threading.Event()
    meanwhile(ran.set)
    assert ran.wait(5)

    def broken() -> None:
        raise ImportError("no such decoder")

    meanwhile(broken)
    for thread in threading.enumerate():
        if thread.name == "prepare":
            thread.join(5)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_threads_begin_after_the_import_of_the_runtime_and_before_its_loading(tmp_path, monkeypatch, runtime):
    path, seen = save_tiny_model(tmp_path / "m.onnx"), []

    def opened(*_args: object, **_settings: object) -> FakeEngine:
        seen.append("loaded")
        return FakeEngine()

    monkeypatch.setattr("rrid_edge.engines.open_engine", opened)
    asked = AskedRuntime(runtime, before_loading=lambda: seen.append(f"imported: {runtime in sys.modules}"))
    open_model(path, None, asked)
    assert seen == ["imported: True", "loaded"]


def test_a_missing_runtime_is_one_line_before_threads_begin(tmp_path, monkeypatch):
    path = save_tiny_model(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "openvino", None)
    asked = AskedRuntime("openvino", before_loading=lambda: pytest.fail("began"))
    with pytest.raises(MissingDependencyError, match="openvino"):
        open_model(path, None, asked)


def test_a_quick_start_collects_less_and_ends_without_collecting(monkeypatch):
    before, frozen = gc.get_threshold(), []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    monkeypatch.setitem(sys.modules, "openvino.tools.ovc", sys.modules.get("openvino.tools.ovc"))
    try:
        with quick_start("train"):
            assert gc.get_threshold() == before
        assert frozen == []
        with pytest.raises(SystemExit), quick_start("match"):
            sys.exit(0)
        assert gc.get_threshold()[0] > before[0]
        assert frozen == [True]
    finally:
        gc.set_threshold(*before)


def test_the_service_searches_in_one_thread_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino.tools.ovc", sys.modules.get("openvino.tools.ovc"))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    monkeypatch.setenv("MKL_NUM_THREADS", "2")  # so that it is as before after the test
    monkeypatch.delenv("MKL_NUM_THREADS")
    before = gc.get_threshold()
    with quick_start("serve"):
        assert (os.environ["OPENBLAS_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]) == ("3", "1")
        assert gc.get_threshold() == before
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    with quick_start("train"):
        assert "OPENBLAS_NUM_THREADS" not in os.environ


def test_the_command_is_the_first_word_that_is_no_option():
    assert command_in(["--debug", "match", "q.jpg", "g"]) == "match"
    assert command_in(["--version"]) == ""
