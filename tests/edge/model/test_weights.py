"""The sum of graph and weights: an ONNX file that changed after its export is refused, or answers as before."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rrid_calib.calibrate import calibrate
from rrid_edge.engines import compiled_cache, open_engine
from rrid_edge.engines.fake import fake_spec
from rrid_edge.engines.onnxruntime.cuda import OnnxRuntimeCudaEngine
from rrid_edge.engines.openvino import engine as openvino_engine
from rrid_edge.errors import ModelFileError
from rrid_edge.model import onnx_header
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.weights import WEIGHTS_KEY, check_weights, contract_file, has_sum, read_checked_spec
from rrid_export.tensorrt.build import build_engine
from rrid_export.triton import write_triton_repository
from support.commands import refused, rrid_edge
from support.onnx_models import of_format_1, save_changed_model, save_tiny_model, tiny_model
from support.onnxruntime_standin import install_onnxruntime
from support.pictures import save_crops
from support.tensorrt_behaviour import install

SPEC = fake_spec()
SMALL = fake_spec("small", block_width=1)
REFUSAL = "its graph or weights changed after the export"


def _edited(path):
    """Change the largest weight and keep the metadata, as pruning and fine-tuning tools do."""
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = numpy_helper.to_array(weight) * -0.5
    weight.CopyFrom(numpy_helper.from_array(values.astype("float32"), weight.name))
    onnx.save(model, path)
    return path


def _image(spec) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, spec.height_px, spec.width_px, 3), dtype=np.uint8)


def _run(path, runtime="onnxruntime"):
    with open_engine(path, runtime, precision="fp32" if runtime == "openvino" else None, threads=1) as engine:
        return engine.run(_image(engine.spec))


def test_the_sum_is_that_of_the_model_without_its_metadata(tmp_path):
    model = onnx.load(save_tiny_model(tmp_path / "m.onnx"))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    del model.metadata_props[:]
    expected = hashlib.sha256(model.SerializeToString()).hexdigest()
    assert metadata == SPEC.to_metadata() | {WEIGHTS_KEY: expected, "rrid.format": "2"}
    assert check_weights(tmp_path / "m.onnx") == expected
    assert has_sum(tmp_path / "m.onnx")


def test_a_file_that_onnx_reads_and_writes_unchanged_keeps_its_sum(tmp_path):
    path = save_tiny_model(tmp_path / "m.onnx")
    onnx.save(onnx.load(path), tmp_path / "again.onnx")
    assert check_weights(tmp_path / "again.onnx") == check_weights(path)


def test_metadata_of_another_model_is_replaced():
    again = contract_file(tiny_model(SPEC).SerializeToString(), SMALL)
    found = {entry.key: entry.value for entry in onnx.load_model_from_string(again).metadata_props}
    assert {key: found[key] for key in SMALL.to_metadata()} == SMALL.to_metadata()
    assert len(found) == len(SMALL.to_metadata()) + 1


def test_a_flipped_bit_anywhere_is_refused_or_harmless(tmp_path):
    path = save_tiny_model(tmp_path / "m.onnx", SMALL)
    content, expected = path.read_bytes(), _run(path)
    metadata = content.index(b"rrid.") - 10  # the entries are the last fields of the file
    accepted, messages = [], []
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place * 5 % 8
        path.write_bytes(flipped)
        onnx_header._parse_file.cache_clear()
        try:
            read_checked_spec(path)
        except ModelFileError as error:
            messages.append(error.message)
            continue
        accepted.append(place)
        np.testing.assert_array_equal(_run(path), expected)
    assert min(accepted) > metadata
    assert len(messages) > 2500
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "onnxruntime-cuda", "tensorrt", "triton", "calibrate"])
def test_edited_weights_reach_no_runtime_and_no_other_file(tmp_path, monkeypatch, runtime):
    path = _edited(save_tiny_model(tmp_path / "m.onnx"))
    assert read_spec(path) == SPEC  # the metadata alone does not tell
    if runtime == "onnxruntime-cuda":
        install_onnxruntime(monkeypatch, SPEC)
    if runtime == "tensorrt":
        install(monkeypatch, "10.13.3.9")
    save_crops(tmp_path / "crops", 8)
    use = {
        "onnxruntime-cuda": lambda: OnnxRuntimeCudaEngine(path),
        "tensorrt": lambda: build_engine(path, tmp_path / "m.engine"),
        "triton": lambda: write_triton_repository(path, tmp_path / "repository"),
        "calibrate": lambda: calibrate(path, tmp_path / "crops"),
    }.get(runtime, lambda: open_engine(path, runtime))
    with pytest.raises(ModelFileError, match=REFUSAL) as caught:
        use()
    assert "export it again with: rrid-edge export" in caught.value.message
    assert caught.value.exit_code == 4
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["crops", "m.onnx"]


def _dropped_node(model):
    del model.graph.node[2]
    model.graph.node[2].input[0] = "channels"


def _other_attribute(model):
    model.graph.node[1].attribute[0].ints[:] = [0, 3, 2, 1]


def _other_opset(model):
    model.opset_import[0].version = 16


def _added_function(model):
    model.functions.add(name="f", domain="d")


@pytest.mark.parametrize("change", [_dropped_node, _other_attribute, _other_opset, _added_function])
def test_a_changed_graph_is_refused(tmp_path, change):
    model = tiny_model()
    change(model)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match=REFUSAL):
        read_checked_spec(tmp_path / "m.onnx")
    save_changed_model(tmp_path / "m.onnx", model)  # the control: a new export of this graph
    assert read_checked_spec(tmp_path / "m.onnx") == SPEC


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_file_of_format_1_opens_but_nothing_vouches_for_it(tmp_path, runtime):
    expected = _run(save_tiny_model(tmp_path / "m.onnx"), runtime)
    old = tmp_path / "old.onnx"
    onnx.save(of_format_1(tiny_model()), old)
    assert check_weights(old) is None
    assert not has_sum(old)
    np.testing.assert_array_equal(_run(old, runtime), expected)


def test_a_sum_in_a_file_of_format_1_is_checked(tmp_path):
    path = save_tiny_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    next(entry for entry in model.metadata_props if entry.key == "rrid.format").value = "1"
    onnx.save(model, path)
    assert check_weights(path)
    with pytest.raises(ModelFileError, match=REFUSAL):
        check_weights(_edited(path))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (WEIGHTS_KEY, None, f"damaged metadata of the model .{WEIGHTS_KEY} is missing"),
        (WEIGHTS_KEY, "", REFUSAL),
        (WEIGHTS_KEY, "a\nb", REFUSAL),
        ("rrid.format", "0", "Expected int >= 1 at format"),
        ("rrid.format", "3", "of format 3, expected at most 2: made by a newer release; update rrid-edge"),
        ("rrid.format", None, "missing required field format"),
    ],
)
def test_damaged_entries_are_refused_in_one_line(tmp_path, key, value, words):
    model = tiny_model()
    entries = {entry.key: entry.value for entry in model.metadata_props} | ({key: value} if value is not None else {})
    if value is None:
        del entries[key]
    onnx.helper.set_model_props(model, entries)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match=words) as caught:
        read_checked_spec(tmp_path / "m.onnx")
    assert "\n" not in caught.value.message


def test_external_weights_are_not_covered_and_refused(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save_model(tiny_model(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(ModelFileError, match=REFUSAL):
        check_weights(path)
    path.write_bytes(contract_file(path.read_bytes(), SPEC))
    with pytest.raises(ModelFileError, match=r"its weights are in 'w\.bin', which its sha256 does not cover"):
        check_weights(path)


def test_the_cache_of_compiled_models_vouches_for_a_file_that_it_knows(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled_cache, "SMALLEST_MODEL_BYTES", 0)
    monkeypatch.setattr(compiled_cache, "_SETTLED_S", -3600.0)
    monkeypatch.setenv("RRID_EDGE_CACHE", str(tmp_path / "cache"))
    checked = []
    monkeypatch.setattr(openvino_engine, "check_weights", lambda path: checked.append(check_weights(path)))
    path = save_tiny_model(tmp_path / "m.onnx")
    expected = _run(path, "openvino")
    np.testing.assert_array_equal(_run(path, "openvino"), expected)
    assert len(checked) == 1
    _edited(path)  # same name, another time
    with pytest.raises(ModelFileError, match=REFUSAL):
        _run(path, "openvino")
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_commands_say_what_the_sum_says(tmp_path):
    path = save_tiny_model(tmp_path / "m.onnx")
    assert f"sha256 {check_weights(path)}, checked" in rrid_edge("info", path).out
    assert f'"weights_sha256": "{check_weights(path)}"' in rrid_edge("info", path, "--json").out
    old = tmp_path / "old.onnx"
    onnx.save(of_format_1(tiny_model()), old)
    assert "weights       not vouched for" in rrid_edge("info", old).out
    assert '"weights_sha256": null' in rrid_edge("info", old, "--json").out
    save_crops(tmp_path / "crops", 8)
    for model, told in ((path, False), (old, True)):
        outcome = rrid_edge("parity", model, "--reference", path, "--images", tmp_path / "crops")
        assert outcome.code == 0
        assert ("nothing vouches for the weights of" in outcome.err) == told
    _edited(path)
    refused(rrid_edge("info", path), 4, "m.onnx", REFUSAL)
    refused(rrid_edge("parity", path, "--reference", old, "--images", tmp_path / "crops"), 4, "m.onnx", REFUSAL)
