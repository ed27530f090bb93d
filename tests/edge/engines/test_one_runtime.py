"""A device with one CPU runtime: every command works with it, and names what needs the other one."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from rrid_edge.bench.running import _no_runtime
from rrid_edge.bench.variants import find_variants, sibling_models
from rrid_edge.engines import choose_runtime, open_engine
from rrid_edge.engines.fake import fake_spec
from rrid_edge.engines.measuring import measure_runtimes
from rrid_edge.errors import MissingDependencyError
from rrid_edge.parity.goldens import Goldens, save_goldens
from rrid_edge.ranking.labels import Labels
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import save_crops

OTHER = {"openvino": "onnxruntime", "onnxruntime": "openvino"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model, its int8 form, goldens of both and crops, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RRID_EDGE_MODEL", raising=False)
    path = save_tiny_model(tmp_path / "models" / "rrid.onnx")
    save_tiny_model(tmp_path / "models" / "rrid.int8.onnx", fake_spec().with_precision("int8"))
    images = np.random.default_rng(0).integers(0, 256, (12, 192, 64, 3), dtype=np.uint8)
    with open_engine(path, "onnxruntime") as engine:
        labels = Labels(np.arange(12) % 4 + 1, np.arange(12) // 4)
        goldens = Goldens(images, engine.run(images), ("x",) * 12, engine.spec.fingerprint, labels)
    save_goldens(tmp_path / "models" / "rrid.goldens.npz", goldens)
    save_crops(tmp_path / "crops", 6)
    return tmp_path


@pytest.fixture
def on_x86(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def _take_away(monkeypatch, *names):
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("runtime", OTHER)
def test_commands_work_with_one_runtime(folder, on_x86, monkeypatch, runtime):
    _take_away(monkeypatch, OTHER[runtime])
    assert choose_runtime("models/rrid.onnx").runtime == runtime
    assert measure_runtimes("models/rrid.onnx").runtime == runtime
    for command in (("index", "crops"), ("match", "crops/00.jpg", "crops"), ("parity",), ("info",)):
        if command[0] == "match":
            command = ("match", next((folder / "crops").glob("*.jpg")), "crops")
        outcome = rrid_edge(*command)
        assert outcome.code == 0, outcome
    assert json.loads(rrid_edge("info", "--json").out)["auto"]["runtime"] == runtime


@pytest.mark.parametrize("runtime", OTHER)
def test_the_other_runtime_is_named_with_its_own_extra(folder, on_x86, monkeypatch, runtime):
    _take_away(monkeypatch, OTHER[runtime])
    refused(
        rrid_edge("index", "crops", "--runtime", OTHER[runtime]),
        3,
        f"needs the package '{OTHER[runtime]}', which is not installed: pip install 'rrid-edge[{OTHER[runtime]}]'",
    )


def test_a_precision_that_only_openvino_takes_names_openvino(folder, on_x86, monkeypatch):
    _take_away(monkeypatch, "openvino")
    refused(rrid_edge("parity", "--precision", "fp32"), 3, "pip install 'rrid-edge[openvino]'")


@pytest.mark.parametrize(("architecture", "extra"), [("x86_64", "openvino"), ("aarch64", "onnxruntime")])
def test_without_a_runtime_the_best_one_is_advised(folder, monkeypatch, architecture, extra):
    monkeypatch.setattr("platform.machine", lambda: architecture)
    _take_away(monkeypatch, *OTHER)
    refused(rrid_edge("index", "crops"), 3, f"pip install 'rrid-edge[{extra}]'")
    assert rrid_edge("info").code == 0
    found, passed_over = find_variants(
        sibling_models(folder / "models" / "rrid.onnx"), fake_spec().fingerprint, threads=1, max_batch=1
    )
    assert found == []
    assert _no_runtime(passed_over).message.endswith(f"install one with: pip install 'rrid-edge[{extra}]'")


def test_an_arm_machine_with_openvino_only_takes_it(folder, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert choose_runtime("models/rrid.onnx").runtime == "onnxruntime"
    _take_away(monkeypatch, "onnxruntime")
    choice = choose_runtime("models/rrid.onnx")
    assert choice.runtime == "openvino"
    assert "onnxruntime: not installed (pip install 'rrid-edge[onnxruntime]')" in choice.reason


def test_parity_leaves_out_what_needs_onnx_runtime(folder, on_x86, monkeypatch):
    """The scales of layers are measured with changed graphs, which only ONNX Runtime takes from memory."""
    _take_away(monkeypatch, "onnxruntime")
    outcome = rrid_edge("parity", "models/rrid.int8.onnx", "--runtime", "openvino", "--precision", "fp32")
    assert outcome.code == 0, outcome
    assert "not tried: scales of layers (pip install 'rrid-edge[onnxruntime]')" in outcome.err
    (folder / "models" / "other").mkdir()
    wrong = save_tiny_model(folder / "models" / "other" / "rrid.onnx", seed=1)  # the same fingerprint, other weights
    goldens = folder / "models" / "rrid.goldens.npz"
    outcome = rrid_edge("parity", wrong, "--reference", goldens, "--precision", "fp32")
    assert outcome.code == 1, outcome
    assert "mistakes of scaling and mirroring (pip install 'rrid-edge[onnxruntime]')" in outcome.err


def test_measuring_one_runtime_without_the_other_leaves_it_out(folder, monkeypatch):
    _take_away(monkeypatch, "openvino")
    found, passed_over = find_variants(
        [folder / "models" / "rrid.onnx"], fake_spec().fingerprint, threads=1, max_batch=1
    )
    assert [variant.runtime for variant in found] == ["onnxruntime"]
    assert "openvino: not installed" in passed_over


def test_an_engine_that_is_asked_for_by_name_is_not_replaced(folder, monkeypatch):
    _take_away(monkeypatch, "onnxruntime")
    with pytest.raises(MissingDependencyError, match=r"rrid-edge\[onnxruntime\]"):
        open_engine(folder / "models" / "rrid.onnx", "onnxruntime")


def test_work_that_only_onnx_runtime_checks_is_refused_before_it_begins(folder, monkeypatch):
    _take_away(monkeypatch, "onnxruntime")
    (folder / "net.safetensors").write_bytes(b"never read")
    lacks = "needs the package 'onnxruntime', which is not installed: pip install"
    refused(rrid_edge("export", "net.safetensors"), 3, f"checking an exported model {lacks} 'rrid-edge[onnxruntime]'")
    refused(
        rrid_edge("calibrate", "models/rrid.onnx", "--images", "crops"),
        3,
        f"calibrating a model {lacks} 'rrid-edge[calib]'",
    )
