"""DeepStream's configurations, key by key against a table of the documented keys."""

from __future__ import annotations

import configparser
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import MissingDependencyError, UsageError
from rrid_edge.model.names import engine_path
from rrid_edge.model.rtx_target import RtxTarget
from rrid_edge.model.spec import FLOAT32_NCHW, ModelSpec
from rrid_export.deepstream import REID_HISTORY, write_deepstream
from rrid_export.tensorrt.settings import BuildSettings
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model
from support.tensorrt_behaviour import install

KEYS = json.loads((Path(__file__).parents[1] / "data" / "deepstream" / "keys.json").read_text(encoding="utf-8"))
SPEC = dataclasses.replace(fake_spec(), height_px=384, width_px=128, block_width=256).with_input(FLOAT32_NCHW)
TRACKER_MODES, NVINFER_MODES = {"fp32": 0, "fp16": 1, "int8": 2}, {"fp32": 0, "fp16": 2, "int8": 1}


def _write(folder: Path, spec: ModelSpec = SPEC, **settings: Any) -> tuple[Path, Path, dict[str, Any], dict[str, str]]:
    """Write both configurations: the model, its engine, and what DeepStream's own parsers would read."""
    name = "rrid.nchw.onnx" if spec.precision == "fp32" else f"rrid.nchw.{spec.precision}.onnx"
    model = save_tiny_model(folder / name, spec)
    engine = engine_path(model, spec.precision)
    tracker, nvinfer = write_deepstream(model, engine, folder / "ds", BuildSettings(**settings))
    assert [path.name for path in (tracker, nvinfer)] == [f"{name}.tracker_reid.yml", f"{name}.nvinfer.txt"]
    block = yaml.safe_load(tracker.read_text(encoding="utf-8"))
    assert list(block) == ["ReID"]
    return model, engine, block["ReID"], _properties(nvinfer)


def _properties(path: Path) -> dict[str, str]:
    """Read a configuration as GLib's key files: no interpolation, case of keys kept, comments on lines of their own."""
    parser = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("#",), strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(path.read_text(encoding="utf-8"))
    assert parser.sections() == ["property"]
    return dict(parser["property"])


def _check(value: Any, rule: dict[str, Any]) -> None:
    """Check a value against the documented type and range."""
    kind = rule["type"]
    if kind == "path":
        assert Path(value).is_absolute()
        return
    if kind == "text":
        assert value
        return
    one = float if kind.startswith("float") else int
    numbers = value if kind.endswith("s") else [value]
    assert all(type(number) is one for number in numbers), (value, rule)
    assert len(numbers) == rule.get("length", len(numbers))
    assert all(number >= rule.get("least", number) and number > rule.get("above", number - 1) for number in numbers)
    assert all(number in rule.get("values", [number]) for number in numbers)


def _number(text: str) -> int | float:
    return float(text) if "." in text else int(text)


def _typed(text: str, rule: dict[str, Any]) -> Any:
    """A value of an INI file in its documented type."""
    if rule["type"] in ("path", "text"):
        return text
    numbers = [_number(part) for part in text.split(";")]
    return numbers if rule["type"].endswith("s") else numbers[0]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_tracker_block_has_documented_keys_with_the_values_of_the_model(tmp_path, precision):
    model, engine, block, _ = _write(tmp_path, SPEC.with_precision(precision), max_batch=16, workspace_mib=512)
    rules = KEYS["tracker"]
    assert block.keys() <= rules.keys()
    assert {key for key, rule in rules.items() if rule.get("required")} <= block.keys()
    for key, value in block.items():
        _check(value, rules[key])
    assert block == {
        "reidType": 2,
        "batchSize": 16,
        "workspaceSize": 512,
        "reidFeatureSize": 3840,
        "reidHistorySize": REID_HISTORY,
        "inferDims": [3, 384, 128],
        "networkMode": TRACKER_MODES[precision],
        "inputOrder": 0,
        "colorFormat": 0,
        "offsets": [0, 0, 0],
        "netScaleFactor": 1,
        "keepAspc": 0,
        "addFeatureNormalization": 0,
        "outputReidTensor": 1,
        "onnxFile": str(model.resolve()),
        "modelEngineFile": str(engine.resolve()),
    }


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_nvinfer_gets_documented_keys_with_the_values_of_the_model(tmp_path, precision):
    model, engine, _, texts = _write(tmp_path, SPEC.with_precision(precision), max_batch=16, workspace_mib=512)
    rules = KEYS["nvinfer"]
    assert texts.keys() <= rules.keys()
    assert {key for key, rule in rules.items() if rule.get("required")} <= texts.keys()
    values = {key: _typed(text, rules[key]) for key, text in texts.items()}
    for key, value in values.items():
        _check(value, rules[key])
    assert (values["onnx-file"], values["model-engine-file"]) == (str(model.resolve()), str(engine.resolve()))
    assert values["network-mode"] == NVINFER_MODES[precision]
    expected = {
        "process-mode": 2,
        "network-type": 100,
        "output-tensor-meta": 1,
        "batch-size": 16,
        "workspace-size": 512,
        "infer-dims": [3, 384, 128],
        "network-input-order": 0,
        "model-color-format": 0,
        "net-scale-factor": 1,
        "offsets": [0, 0, 0],
        "maintain-aspect-ratio": 0,
        "output-blob-names": "descriptors",
    }
    assert {**values, **expected} == values


def test_both_plugins_get_the_same_network(tmp_path):
    _, _, block, texts = _write(tmp_path)
    assert ";".join(map(str, block["inferDims"])) == texts["infer-dims"]
    assert block["netScaleFactor"] == float(texts["net-scale-factor"])
    assert block["offsets"] == [float(part) for part in texts["offsets"].split(";")]
    assert (block["onnxFile"], block["modelEngineFile"]) == (texts["onnx-file"], texts["model-engine-file"])


def test_odd_paths_are_kept_or_refused(tmp_path):
    folder = tmp_path / "models of 'Zoë' #2; 100%"
    folder.mkdir()
    model, engine, block, texts = _write(folder)
    assert block["onnxFile"] == texts["onnx-file"] == str(model.resolve())
    assert block["modelEngineFile"] == texts["model-engine-file"] == str(engine.resolve())
    for name in ("a\nb", "back\\slash"):
        (tmp_path / name).mkdir()
        with pytest.raises(UsageError, match="cannot hold this path: rename the file or its folder"):
            _write(tmp_path / name)


def test_a_model_of_uint8_is_refused(tmp_path):
    model = save_tiny_model(tmp_path / "rrid.onnx", fake_spec())
    with pytest.raises(UsageError, match=r"takes uint8-nhwc, and DeepStream feeds float32-nchw.*") as caught:
        write_deepstream(model, engine_path(model, "fp32"), tmp_path / "ds")
    assert "--" not in caught.value.message
    assert not (tmp_path / "ds").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_batch": 2}, "smallest batch of 2 does not work with DeepStream"),
        ({"strip_weights": True}, "cannot load an engine built with strip_weights"),
        ({"version_compatible": True}, "cannot load an engine built with version_compatible"),
        ({"rtx": RtxTarget.of(())}, "not of TensorRT for RTX"),
    ],
    ids=["batch", "stripped", "version", "rtx"],
)
def test_engines_that_deepstream_cannot_load_are_refused(tmp_path, settings, words):
    with pytest.raises(UsageError, match=words):
        _write(tmp_path, **settings)


def test_the_command_writes_them_beside_the_engine_that_it_builds(tmp_path, monkeypatch):
    install(monkeypatch, "10.13.3.9")
    spec = fake_spec().with_precision("fp16").with_input(FLOAT32_NCHW)
    model = save_tiny_model(tmp_path / "rrid.nchw.fp16.onnx", spec)
    outcome = rrid_edge("export", model, "--deepstream", tmp_path / "ds", "--max-batch", 16, "--json")
    assert outcome.code == 0, outcome
    tracker, nvinfer = json.loads(outcome.out)["deepstream"]
    block = yaml.safe_load(Path(tracker).read_text(encoding="utf-8"))["ReID"]
    assert Path(block["modelEngineFile"]).is_file()  # the engine that this command built
    assert (block["batchSize"], _properties(Path(nvinfer))["batch-size"]) == (16, "16")
    command = f"rrid-edge export {model.resolve()} --opt-batch 8 --max-batch 16"
    for path in (tracker, nvinfer):
        assert command in Path(path).read_text(encoding="utf-8")


def test_the_command_writes_them_without_a_gpu(tmp_path, monkeypatch):
    def no_gpu(*_arguments: object, **_options: object) -> None:
        raise MissingDependencyError("no NVIDIA GPU answers here")

    monkeypatch.setattr("rrid_edge.cli.triton_steps.build", no_gpu)
    model = save_tiny_model(tmp_path / "rrid.nchw.onnx", fake_spec().with_input(FLOAT32_NCHW))
    outcome = rrid_edge("export", model, "--output", tmp_path / "e", "--deepstream", tmp_path / "ds", "--max-batch", 16)
    assert outcome.code == 0, outcome
    assert "no TensorRT engine was built (no NVIDIA GPU answers here): DeepStream serves the ONNX file" in outcome.err
    block = yaml.safe_load((tmp_path / "ds" / "rrid.nchw.onnx.tracker_reid.yml").read_text(encoding="utf-8"))["ReID"]
    assert block["modelEngineFile"] == str((tmp_path / "e" / "rrid.nchw.fp32.engine").resolve())


def test_the_command_writes_one_pair_for_each_file_of_a_checkpoint(tmp_path, monkeypatch):
    spec = fake_spec().with_input(FLOAT32_NCHW)
    facts: dict[str, Any] = {
        "model": str(save_tiny_model(tmp_path / "rrid.nchw.onnx", spec)),
        "model_fp16": str(save_tiny_model(tmp_path / "rrid.nchw.fp16.onnx", spec.with_precision("fp16"))),
        "int8": {"model": str(save_tiny_model(tmp_path / "rrid.nchw.int8.onnx", spec.with_precision("int8")))},
    }
    monkeypatch.setattr("rrid_edge.cli.export._export_checkpoint", lambda given, form: (facts, []))
    (tmp_path / "best.pth").write_bytes(b"")
    options = ("--input", "nchw-float", "--deepstream", tmp_path / "ds", "--json")
    outcome = rrid_edge("export", tmp_path / "best.pth", *options)
    assert outcome.code == 0, outcome
    names = [f"rrid.nchw{precision}.onnx" for precision in ("", ".fp16", ".int8")]
    files = [f"{name}.{ending}" for name in names for ending in ("tracker_reid.yml", "nvinfer.txt")]
    assert [Path(path).name for path in json.loads(outcome.out)["deepstream"]] == files
    assert sorted(files) == sorted(path.name for path in (tmp_path / "ds").iterdir())


def test_the_command_refuses_uint8_before_the_work(tmp_path):
    model = save_tiny_model(tmp_path / "rrid.onnx", fake_spec())
    checkpoint, engine = tmp_path / "best.pth", tmp_path / "rrid.fp16.engine"
    for path in (checkpoint, engine):
        path.write_bytes(b"")
    words = "DeepStream feeds float32 planes, and this model takes uint8"
    outcome = rrid_edge("export", model, "--deepstream", tmp_path / "ds")
    refused(outcome, 2, "rrid.onnx", words, "export its checkpoint with --input nchw-float")
    refused(rrid_edge("export", checkpoint, "--deepstream", tmp_path / "ds"), 2, words, "add --input nchw-float")
    outcome = rrid_edge("export", engine, "--triton", tmp_path / "t", "--deepstream", tmp_path / "ds")
    refused(outcome, 2, "--deepstream needs the ONNX file of this engine")
    options = ("--input", "nchw-float", "--deepstream", tmp_path / "ds")
    outcome = rrid_edge("export", checkpoint, *options, "--strip-weights")
    refused(outcome, 2, "cannot load an engine built with strip_weights", "--strip-weights")
    outcome = rrid_edge("export", checkpoint, *options, "--for", "rtx")
    refused(outcome, 2, "DeepStream loads engines of TensorRT, not of TensorRT for RTX")
    assert not (tmp_path / "ds").exists()
