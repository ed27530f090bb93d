"""Adopted OpenVINO IRs against slow NumPy; damaged and hostile ones are refused."""

from __future__ import annotations

import json
import os
import re
import shutil

import numpy as np
import onnx
import openvino
import pytest

from rrid_edge.bench.one_view import fastest_of_onnx
from rrid_edge.bench.variants import find_variants
from rrid_edge.engines import open_engine
from rrid_edge.engines.openvino.engine import openvino_core
from rrid_edge.engines.openvino.parts import backbone_and_head
from rrid_edge.errors import UsageError
from rrid_edge.model.choice import choose_model
from rrid_edge.model.preprocessing import Preprocessing
from rrid_edge.model.reading import read_any_spec
from rrid_export.adopt.facts import Choices
from rrid_export.adopt.foreign import read_foreign
from rrid_export.adopt.pipeline import AdoptSettings, adopt_network
from support.commands import refused, rrid_edge
from support.foreign import HEIGHT_PX, VALUES, WIDTH_PX, ForeignFile
from support.pictures import save_crops

FACTS = ("--color", "bgr", "--scale", "1", "--mean", "0,0,0", "--std", "1,1,1")
CHOICES = Choices(color="bgr", scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))
TAO = Choices(color="rgb", scale=1.0, mean=(123.7, 116.3, 103.5), std=(57.6, 57.6, 57.6), flip=True)


def _ir(folder, file=None, name="net"):
    """The network as an IR of another program."""
    source = (file or ForeignFile(batch=1)).write(folder / f"{name}-source.onnx")
    path = folder / f"{name}.xml"
    openvino.save_model(openvino_core().read_model(str(source)), str(path), compress_to_fp16=False)
    return path


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ir")
    return adopt_network(read_foreign(_ir(folder)), folder / "models", AdoptSettings(CHOICES, name="people")).model


@pytest.mark.parametrize(
    ("file", "choices"),
    [
        (ForeignFile(batch=1), CHOICES),
        (ForeignFile(), TAO),
        (ForeignFile(layout="nhwc", batch=1), TAO),
        (ForeignFile(unit=True), Choices(**{**CHOICES.__dict__, "normalise": "none"})),
    ],
    ids=["fixed", "two views", "nhwc", "unit"],
)
def test_descriptors_are_those_of_the_formula(file, choices, tmp_path):
    result = adopt_network(read_foreign(_ir(tmp_path, file)), tmp_path / "models", AdoptSettings(choices))
    images = np.random.default_rng(1).integers(0, 256, (5, HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    pixels = images.astype(np.float64)[..., :: -1 if choices.color == "bgr" else 1]
    fed = ((pixels / choices.scale - choices.mean) / choices.std).transpose(0, 3, 1, 2)
    expected = file.forward(fed) + (file.forward(fed[..., ::-1]) if choices.flip else 0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    with open_engine(result.model) as engine:
        assert engine.runtime.startswith("openvino CPU")
        for start, stop in ((0, 1), (1, 3), (0, 5)):
            assert np.sum(engine.run(images[start:stop]) * expected[start:stop], axis=1).min() >= 0.99999


def test_what_is_written_is_used_by_the_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_crops(tmp_path / "crops", 12)
    assert rrid_edge("adopt", _ir(tmp_path), *FACTS, "--crops", "crops").code == 0
    assert {path.name for path in (tmp_path / "models").iterdir()} >= {"net.xml", "net.bin", "net.xml.json"}
    spec = read_any_spec(tmp_path / "models" / "net.xml")
    assert (spec.family, spec.dimension, spec.origin) == ("adopted", VALUES, "net.xml")
    assert spec.preprocessing == Preprocessing("bgr", 1, (0, 0, 0), (1, 1, 1), "nchw", "l2", "pixels", "features")
    info = rrid_edge("info", "models/net.xml", "--json")
    assert (info.code, json.loads(info.out)["kind"]) == (0, "ir")
    assert rrid_edge("parity", "models/net.xml").code == 0
    assert rrid_edge("index", "crops", "--model", "models/net.xml").code == 0
    assert rrid_edge("match", sorted((tmp_path / "crops").glob("*.jpg"))[0], "crops").code == 0


def test_the_head_is_split_off_behind_the_networks_output(adopted):
    model = openvino_core().read_model(str(adopted))
    backbone, head = backbone_and_head(openvino, model, "network/features")
    assert "Convolution" in {op.get_type_name() for op in backbone.get_ordered_ops()}
    assert {op.get_type_name() for op in head.get_ordered_ops()} >= {"Divide", "Sqrt"}
    assert "MatMul" not in {op.get_type_name() for op in head.get_ordered_ops()}


def test_names_do_not_change_the_fingerprint_and_facts_do(tmp_path, adopted):
    path = _ir(tmp_path)
    text = path.read_text().replace('"c"', '"other"').replace("foreign", "renamed")
    path.write_text(text)
    same = adopt_network(read_foreign(path), tmp_path, AdoptSettings(CHOICES, name="a")).spec.fingerprint
    assert same == read_any_spec(adopted).fingerprint
    other = Choices(**{**CHOICES.__dict__, "mean": (0, 0, 0.5)})
    assert adopt_network(read_foreign(path), tmp_path, AdoptSettings(other, name="b")).spec.fingerprint != same


def test_a_missing_weight_file_is_named(tmp_path):
    path = _ir(tmp_path)
    path.with_suffix(".bin").unlink()
    refused(rrid_edge("adopt", path, *FACTS), 4, "its weights 'net.bin' are not beside it")


def _looped(text):
    """The first convolution reads what the residual add makes."""
    (number,) = re.findall(r'<layer id="(\d+)" name="e"', text)
    port = int(re.findall(rf'from-layer="{number}" from-port="(\d+)"', text)[0])
    return _changed(text, '<edge from-layer="0" from-port="0"', f'<edge from-layer="{number}" from-port="{port}"')


def _changed(text, old, new):
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: "hello", "no OpenVINO IR, or damaged"),
        (lambda text: "<html/>", "no OpenVINO IR of version 10 or 11 (<html>)"),
        (lambda text: _changed(text, 'version="11"', 'version="7"'), "(version 7)"),
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: "<!DOCTYPE net [<!ENTITY a 'b'>]>" + text.split("?>")[1], "expected plain XML"),
        (lambda text: _changed(text, 'version="opset1"', 'version="extension"'), "custom operator"),
        (lambda text: _changed(text, 'offset="0"', 'offset="3000000000"'), "weights end at byte 3,000,000,648"),
        (lambda text: _changed(text, 'element_type="f32"', 'element_type="i64"'), "is int64"),
        (lambda text: _changed(text, 'from-layer="0"', 'from-layer="3"'), "not a valid IR"),
        (lambda text: _changed(text, '<edge from-layer="0"', '<edge from-layer="99"'), "damaged"),
        (_looped, "waits for its own output, expected a graph without cycles"),
        (lambda text: _changed(text, 'type="ReLU"', 'type="Magic"'), "not a valid IR"),
        (lambda text: re.sub("<edge [^>]*/>", "", text), "damaged (no edge to result"),
        (lambda text: re.sub(r'from-port="\d+"', 'from-port="77"', text), "an edge from port '77', which is missing"),
        (lambda text: _changed(text, "1,3,24,16", "1,3,0,16"), "expected 16 to 16,384 rows and columns"),
        (lambda text: '<?xml version="1.0" encoding="utf-7"?>' + text.split("?>")[1] + "ü", "damaged"),
    ],
    ids=[
        "text",
        "page",
        "old",
        "cut",
        "entities",
        "custom",
        "claims",
        "integers",
        "wrong edge",
        "no layer",
        "cycle",
        "unknown",
        "no edges",
        "no port",
        "no rows",
        "utf-7",
    ],
)
def test_damaged_networks_are_refused_in_one_line(change, words, tmp_path):
    path = _ir(tmp_path)
    path.write_text(change(path.read_text()))
    outcome = rrid_edge("adopt", path, "-o", tmp_path / "out", *FACTS)
    refused(outcome, 4, words)
    assert len(outcome.err) < 600


def test_declarations_in_another_encoding_are_refused(tmp_path):
    path = _ir(tmp_path)
    declared = "<!DOCTYPE net [<!ENTITY a 'b'>]>" + path.read_text().split("?>")[1]
    path.write_bytes(f'<?xml version="1.0" encoding="utf-16"?>{declared}'.encode("utf-16"))
    refused(rrid_edge("adopt", path, *FACTS), 4, "zero bytes, expected XML in UTF-8")


def test_what_is_no_ordinary_file_is_refused(tmp_path):
    path = _ir(tmp_path)
    path.unlink()
    os.mkfifo(path)
    refused(rrid_edge("adopt", path, *FACTS), 2, "this is no ordinary file")
    path.unlink()
    path.symlink_to("/dev/zero")
    refused(rrid_edge("adopt", path, *FACTS), 2, "this is no ordinary file")
    path.unlink()
    path.symlink_to(path.name)
    refused(rrid_edge("adopt", path, *FACTS), 2, "cannot be read")


def test_a_tensor_of_4_gb_is_refused_before_it_is_computed(tmp_path):
    model = ForeignFile(batch=1).model()
    model.graph.node[-1].output[0] = "before"
    repeats = onnx.numpy_helper.from_array(np.array([1, 100_000_000], np.int64), "repeats")
    model.graph.initializer.append(repeats)
    node = onnx.helper.make_node
    model.graph.node.append(node("Tile", ["before", "repeats"], ["huge"]))
    model.graph.node.append(node("ReduceMax", ["huge"], ["one"], keepdims=0))
    model.graph.node.append(node("Add", ["before", "one"], ["features"]))
    onnx.save_model(model, str(tmp_path / "net.onnx"))
    openvino.save_model(openvino_core().read_model(str(tmp_path / "net.onnx")), str(tmp_path / "net.xml"))
    refused(rrid_edge("adopt", tmp_path / "net.xml", *FACTS), 4, "'huge' would have 1,200,000,000 values per image")


def test_a_fixed_batch_inside_is_freed_where_openvino_can(tmp_path):
    path = _ir(tmp_path, ForeignFile(batch=4, flatten="Reshape"))
    assert rrid_edge("adopt", path, "-o", tmp_path / "out", *FACTS).code == 0


def test_changed_and_missing_files_of_an_adopted_ir_are_refused(tmp_path, adopted):
    for suffix in (".xml", ".bin", ".xml.json"):
        shutil.copy(adopted.with_name("people" + suffix), tmp_path / ("people" + suffix))
    path, weights = tmp_path / "people.xml", tmp_path / "people.bin"
    right = weights.read_bytes()
    weights.write_bytes(right[:-4] + b"abcd")
    refused(rrid_edge("info", path), 4, "people.bin: this file of the IR is damaged or was replaced")
    weights.unlink()
    refused(rrid_edge("info", path), 4, "cannot be read")
    weights.write_bytes(right)
    (tmp_path / "people.xml.json").unlink()
    refused(rrid_edge("info", path), 4, "has no sidecar people.xml.json")
    (tmp_path / "people.xml.json").write_text("{}")
    refused(rrid_edge("info", path), 4, "damaged sidecar")


def test_other_runtimes_and_exports_refuse_an_ir(adopted):
    refused(rrid_edge("parity", adopted, "--runtime", "onnxruntime"), 2, "an OpenVINO IR runs on OpenVINO only")
    refused(rrid_edge("export", adopted), 2, "this is an OpenVINO IR")
    refused(rrid_edge("adopt", adopted, *FACTS), 2, "this is a model of rrid-edge already")


def test_the_benchmark_measures_it_on_openvino_and_counts_no_operations(adopted):
    found, passed_over = find_variants([adopted], read_any_spec(adopted).fingerprint, threads=1, max_batch=2)
    assert {variant.runtime for variant in found} == {"openvino"}
    assert not [line for line in passed_over if "onnxruntime" in line]
    with pytest.raises(UsageError, match="a view can be taken out of ONNX files only"):
        fastest_of_onnx([None] * len(found), found)  # type: ignore[list-item]  # no row is looked at


def test_the_only_network_of_a_folder_is_found(adopted):
    assert choose_model(None, folder=adopted.parent)[0] == adopted


def test_nothing_but_an_adopted_network_is_replaced(tmp_path):
    path = _ir(tmp_path)
    refused(rrid_edge("adopt", path, "-o", tmp_path, *FACTS), 2, "net.xml: this is the original")
    (tmp_path / "other.bin").write_bytes(b"a checkpoint")
    outcome = rrid_edge("adopt", path, "-o", tmp_path, "--name", "other", *FACTS)
    refused(outcome, 2, "other.bin: this file is no adopted network, and would be replaced")
