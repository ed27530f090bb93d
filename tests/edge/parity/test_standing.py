"""What ``doctor`` says of model files: sound, run by what is installed, proven."""

from __future__ import annotations

import json
import sys

import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import UsageError
from rrid_edge.parity.standing import model_findings, models_in
from support.onnx_models import save_tiny_model


@pytest.fixture
def model(tmp_path):
    return save_tiny_model(tmp_path / "rrid.onnx")


def _one(path):
    (finding,) = model_findings([path])
    assert finding.name == "model"
    return finding


def _report(model, verdict="passed", fingerprint=None):
    values = {"verdict": verdict, "fingerprint": fingerprint or fake_spec().fingerprint, "engine": "openvino CPU bf16"}
    (model.parent / "parity.json").write_text(json.dumps(values))


def test_a_model_is_named_with_its_runtimes(model, monkeypatch):
    assert "rrid.onnx: RRID, fp32, fingerprint " in _one(model).detail
    assert "; runs on openvino, onnxruntime; " in _one(model).detail
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "; runs on openvino; " in _one(model).detail


def test_a_proven_model_is_ok(model):
    _report(model)
    (model.parent / "rrid.goldens.npz").touch()
    finding = _one(model)
    assert (finding.state, finding.remedy) == ("ok", "")
    assert finding.detail.endswith("; goldens, parity passed on openvino CPU bf16")


def test_a_report_of_a_runtime_that_is_not_here_proves_nothing(model, monkeypatch):
    _report(model)
    monkeypatch.setitem(sys.modules, "openvino", None)
    finding = _one(model)
    assert (finding.state, finding.remedy) == ("note", f"rrid-edge parity {model}")
    assert "; runs on onnxruntime; no goldens, parity passed on openvino CPU bf16" in finding.detail


@pytest.mark.parametrize(
    ("verdict", "fingerprint", "state", "words"),
    [
        ("failed", None, "problem", "no goldens, parity failed on openvino CPU bf16"),
        ("not decided", None, "note", "parity not decided"),
        ("passed", "0" * 64, "note", "parity.json is of another network"),
    ],
)
def test_other_reports_have_the_command_that_proves_it(model, verdict, fingerprint, state, words):
    _report(model, verdict, fingerprint)
    finding = _one(model)
    assert (finding.state, finding.remedy) == (state, f"rrid-edge parity {model}")
    assert words in finding.detail


def test_a_model_without_proof_is_noted(model):
    assert "copy rrid.goldens.npz too, then prove it" in _one(model).detail
    (model.parent / "rrid.goldens.npz").touch()
    assert _one(model).detail.endswith("goldens, but no parity report beside it")
    assert _one(model).state == "note"
    (model.parent / "parity.json").write_text("{")
    assert _one(model).state == "note"


def test_a_damaged_model_is_a_problem(model):
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    finding = _one(model)
    assert finding.state == "problem"
    assert str(model) in finding.detail


@pytest.mark.parametrize(
    ("name", "without", "remedy"),
    [
        ("rrid.onnx", ("openvino", "onnxruntime"), "pip install 'rrid-edge["),
        ("rrid.nchw.fp16.onnx", ("openvino", "onnxruntime"), "pip install 'rrid-edge["),
    ],
)
def test_a_model_that_nothing_runs_has_the_command_that_installs_a_runtime(
    tmp_path, monkeypatch, name, without, remedy
):
    path = save_tiny_model(tmp_path / name)
    for package in without:
        monkeypatch.setitem(sys.modules, package, None)
    finding = _one(path)
    assert finding.state == "problem"
    assert "; nothing installed here runs it" in finding.detail
    assert finding.remedy.startswith(remedy)


def test_files_of_other_programs_in_the_folder_are_left_out(tmp_path, model):
    import onnx

    other = onnx.load(str(model))
    del other.metadata_props[:]
    onnx.save_model(other, str(tmp_path / "yolo.onnx"))
    (tmp_path / "yolo.engine").write_bytes(b"plan")
    (tmp_path / "damaged.onnx").write_bytes(b"words")
    (tmp_path / "words.txt").touch()
    assert models_in(tmp_path) == [tmp_path / "damaged.onnx", model]
    assert models_in(tmp_path / "nothing") == []
    assert [finding.state for finding in model_findings(models_in(tmp_path))] == ["problem", "note"]


def test_an_engine_without_its_sidecar_is_a_problem_where_it_is_given(tmp_path):
    (tmp_path / "yolo.engine").write_bytes(b"plan")
    assert _one(tmp_path / "yolo.engine").state == "problem"


def test_more_models_than_anybody_reads_are_counted(tmp_path, model):
    findings = model_findings([model] * 23)
    assert len(findings) == 21
    assert findings[-1].detail.startswith("3 more were not looked at")


def test_what_is_no_model_is_refused(tmp_path, model):
    with pytest.raises(UsageError, match="no such model file"):
        model_findings([tmp_path / "gone.onnx"])
    with pytest.raises(UsageError, match="a checkpoint is no model: expected an ONNX file"):
        model_findings([tmp_path / "best.safetensors"])
