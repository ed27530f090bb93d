"""float16 files of adopted networks: what stays in float32, against slow twins, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rrid_edge.engines import open_engine
from rrid_edge.engines.onnxruntime.cpu import MemorySession
from rrid_edge.errors import CheckFailedError
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.weights import check_weights, contract_file
from rrid_edge.parity.goldens import load_goldens
from rrid_export.adopt.facts import Choices
from rrid_export.adopt.foreign import read_foreign
from rrid_export.adopt.pipeline import AdoptSettings, adopt_network
from rrid_export.half.conversion import converted, emulated, with_types
from rrid_export.half.islands import float32_nodes
from rrid_export.half.pipeline import write_half
from support.commands import refused, rrid_edge
from support.foreign import ForeignFile

PLAIN = Choices(color="rgb", scale=255.0, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


@dataclass(frozen=True)
class Scaled(ForeignFile):
    """The foreign network with some of its weights multiplied."""

    factors: tuple[tuple[str, float], ...] = ()

    def weights(self):
        return {
            name: values * np.float32(dict(self.factors).get(name, 1)) for name, values in super().weights().items()
        }


def _adopted(file, folder, **settings):
    source = file.write(folder / "net.onnx")
    return adopt_network(read_foreign(source), folder / "models", AdoptSettings(PLAIN, **settings)).model


def _cosines(model, runtime, precision=None):
    goldens = load_goldens(model.with_name("net.goldens.npz"))
    with open_engine(model, runtime, precision=precision) as engine:
        return np.sum(engine.run(goldens.images) * goldens.descriptors, axis=1)


def _types(path):
    """Names of nodes by the type that they compute."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.value_info, *model.graph.output)}
    nodes = [node for node in model.graph.node if node.op_type != "Cast"]
    return {
        kind: [node.op_type for node in nodes if kinds[node.output[0]] == kind]
        for kind in (TensorProto.FLOAT16, TensorProto.FLOAT)
    }


@pytest.mark.parametrize("file", [ForeignFile(), ForeignFile(unit=True, depthwise=True)], ids=["plain", "depthwise"])
def test_the_float16_file_of_an_adopted_network(file, tmp_path):
    source = _adopted(file, tmp_path)
    before = sorted(path.name for path in source.parent.iterdir())
    outcome = rrid_edge("export", source, "--fp16")
    refused(outcome, 3, "net.fp16.onnx: written, but no TensorRT engine was built", "run: rrid-edge export")
    half = source.with_name("net.fp16.onnx")
    added = ["net.fp16.onnx", "net.fp16.onnx.parity.json", "net.fp16.onnx.parity.png"]
    assert sorted(path.name for path in source.parent.iterdir()) == sorted([*before, *added])
    assert read_spec(half) == read_spec(source).with_precision("fp16")
    assert check_weights(half) is not None
    for runtime, precision in (("onnxruntime", None), ("openvino", "fp32")):
        assert _cosines(half, runtime, precision).min() > 0.9999
    computed = _types(half)
    assert "Conv" in computed[TensorProto.FLOAT16]
    assert {"Gemm", "Conv"}.isdisjoint(computed[TensorProto.FLOAT])
    assert {"Mul", "Sub", "Div", "Sqrt"}.isdisjoint(computed[TensorProto.FLOAT16])  # scaling and norms
    assert rrid_edge("parity", half).code == 0


def test_a_file_of_planes_keeps_its_input(tmp_path):
    source = _adopted(ForeignFile(), tmp_path)
    rrid_edge("export", source, "--input", "nchw-float")
    planes = source.with_name("net.nchw.onnx")
    half = write_half(planes).model
    assert half.name == "net.nchw.fp16.onnx"
    assert read_spec(half) == read_spec(planes).with_precision("fp16")
    goldens = load_goldens(source.with_name("net.goldens.npz"))
    with open_engine(half, "onnxruntime") as engine:
        assert np.sum(engine.run(goldens.images) * goldens.descriptors, axis=1).min() > 0.9999


def test_squares_of_large_features_stay_in_float32(tmp_path):
    """Before its head, this network divides by the root of a sum of squares, which exceeds float16."""
    file = Scaled(opset=12, factors=(("stem", 60.0), ("stem_bias", 60.0)))
    nodes, node = list(file.model().graph.node), helper.make_node
    nodes[-1].input[0] = "unit"
    norm = [
        node("Mul", ["h", "h"], ["squares"]),
        node("ReduceSum", ["squares"], ["sum"], axes=[1], keepdims=1),
        node("Sqrt", ["sum"], ["length"]),
        node("Div", ["h", "length"], ["unit"]),
    ]
    path = file.write(tmp_path / "net.onnx", nodes=[*nodes[:-1], *norm, nodes[-1]])
    source = adopt_network(read_foreign(path), tmp_path / "models", AdoptSettings(PLAIN)).model
    result = write_half(source)
    assert result.kept == ()
    assert _cosines(result.model, "onnxruntime").min() > 0.999
    model = with_types(onnx.load(source))
    images = load_goldens(source.with_name("net.goldens.npz")).images[:4]
    names = {f"network/{item.output[0]}" for item in norm}
    kept = float32_nodes(model, images)
    assert names <= kept
    wrong = MemorySession(emulated(converted(model, kept - names)).SerializeToString()).run(images)
    exact = load_goldens(source.with_name("net.goldens.npz")).descriptors[:4]
    assert not (np.sum(wrong * exact, axis=1) > 0.99).all()  # divided by infinity: only the head's bias is left


@pytest.mark.parametrize(("large", "small"), [(1e4, 1e-4), (1e-5, 1e5)], ids=["largest", "smallest"])
def test_values_outside_of_float16_stay_in_float32(large, small):
    factors = {"large": large, "small": small, "one": 1.0, "two": 1.0}
    model = _convolutions(factors)
    images = np.full((2, 2, 2, 3), 1, np.uint8)
    kept = float32_nodes(model, images)
    assert {"large", "small"} < kept  # the convolution that makes them, and the one that reads them
    assert kept.isdisjoint({"one", "two"})
    found = MemorySession(emulated(converted(model, kept)).SerializeToString()).run(images)
    np.testing.assert_allclose(found, 1, rtol=1e-3)


def test_weights_beyond_float16_are_refused():
    with pytest.raises(CheckFailedError, match=r"weights 'large-weights' reach 9e\+04 and exceed float16"):
        converted(_convolutions({"large": 9e4}), {"cast", "turn"})


def _convolutions(factors):
    """Return a graph of 1 x 1 convolutions that multiply each plane by a factor."""
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["x"], ["t"], "turn", perm=[0, 3, 1, 2]),
    ]
    for name in factors:
        nodes.append(helper.make_node("Conv", [nodes[-1].output[0], f"{name}-weights"], [f"{name}-made"], name))
    nodes.append(helper.make_node("Flatten", [nodes[-1].output[0]], ["descriptors"], "flat"))
    weights = {f"{name}-weights": np.eye(3)[:, :, None, None] * factor for name, factor in factors.items()}
    return _model(nodes, weights, 12)


def _model(nodes, constants, values):
    """Return a float32 model with types, from images of 2 x 2 pixels to descriptors of some values."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 2, 2, 3])],
        [helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["batch", values])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )
    return with_types(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def test_networks_of_too_large_values_are_refused(tmp_path):
    source = _adopted(Scaled(factors=(("stem", 3e5),)), tmp_path)
    _refused_and_not_written(source, "3 of 3 convolutions and matrix products make or read values above 8,188")


def test_first_layers_that_lose_too_much_stay_in_float32(tmp_path):
    """Differences of 0.05 between values of 500, whose neighbours in float16 are 0.25 away."""
    file = Scaled(factors=(("stem", 0.01), ("stem_bias", 1000.0), ("middle", 0.0), ("head_bias", 0.0)))
    nodes, node = list(file.model().graph.node), helper.make_node
    place = next(place for place, item in enumerate(nodes) if item.op_type == "GlobalAveragePool")
    spread = [
        node("GlobalAveragePool", ["f"], ["middle-value"]),
        node("GlobalMaxPool", ["f"], ["most"]),
        node("Sub", ["most", "middle-value"], ["g"]),
    ]
    path = file.write(tmp_path / "net.onnx", nodes=[*nodes[:place], *spread, *nodes[place + 1 :]])
    source = adopt_network(read_foreign(path), tmp_path / "models", AdoptSettings(PLAIN)).model
    found = write_half(source)
    assert found.kept == ("network/a", "network/d")  # the stem, and the product behind it; the head is float16
    assert not found.parity.failures
    assert _types(found.model)[TensorProto.FLOAT16].count("Gemm") == 1


def test_networks_that_lose_too_much_are_refused(tmp_path, monkeypatch):
    source = _adopted(ForeignFile(), tmp_path)
    monkeypatch.setattr("rrid_export.half.pipeline.emulated", _zeros)
    words = "float16 loses too much of this network, also with 2 convolutions and matrix products in float32: "
    _refused_and_not_written(source, words)


def test_a_graph_that_the_runtime_refuses_is_named(tmp_path):
    """The sum of the weights fits, so nothing notices before the graph is run."""
    source = _adopted(ForeignFile(), tmp_path)
    model = onnx.load_model(str(source))
    next(node for node in model.graph.node if node.op_type == "Conv").input[0] = "images"
    source.write_bytes(contract_file(model.SerializeToString(), read_spec(source)))
    refused(rrid_edge("export", source, "--fp16"), 4, f"{source}: ONNX Runtime cannot run this model")


def _refused_and_not_written(source, words):
    before = sorted(source.parent.iterdir())
    refused(rrid_edge("export", source, "--fp16"), 1, words, "nothing was written")
    assert sorted(source.parent.iterdir()) == before


def test_files_that_cannot_be_converted_are_refused(tmp_path):
    source = _adopted(ForeignFile(), tmp_path)
    half = write_half(source, tmp_path / "other").model
    assert half.with_name("net.goldens.npz").is_file()
    refused(rrid_edge("export", half, "--fp16"), 2, "precision fp16, expected the float32 file")
    refused(rrid_edge("export", source, "--fp16", "--print-trtexec"), 2, "--print-trtexec writes nothing")
    refused(rrid_edge("export", source, "--fp16", "--height", 64), 2, "--height 64: the network is in the ONNX file")
    source.with_name("net.goldens.npz").unlink()
    refused(rrid_edge("export", source, "--fp16"), 2, "net.goldens.npz: no such goldens file")


def test_the_emulation_rounds_every_result():
    """Against NumPy, which rounds after each of the same operations."""
    generator = np.random.default_rng(5)
    constants = {"w": generator.normal(0, 1, (4, 3, 1, 1)), "p": np.array(0.3)}
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["x"], ["t"], "turn", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"], "conv"),
        helper.make_node("Mul", ["c", "p"], ["m"], "scale"),
        helper.make_node("Conv", ["m", "v"], ["d"], "last"),
        helper.make_node("Flatten", ["d"], ["descriptors"], "flat"),
    ]
    constants["v"] = generator.normal(0, 1, (2, 4, 1, 1))
    model = _model(nodes, constants, 8)
    images = generator.integers(0, 256, (3, 2, 2, 3), dtype=np.uint8)
    kept = float32_nodes(model, images)
    assert kept == {"cast", "turn", "flat"}
    found = MemorySession(emulated(converted(model, kept)).SerializeToString()).run(images)

    def rounded(values):
        return values.astype(np.float16).astype(np.float32)

    first, last = (rounded(constants[name].astype(np.float32))[:, :, 0, 0] for name in "wv")
    planes = images.transpose(0, 3, 1, 2).astype(np.float32)
    scaled = rounded(rounded(np.einsum("oc,nchw->nohw", first, planes)) * rounded(np.float32(0.3)))
    expected = rounded(np.einsum("oc,nchw->nohw", last, scaled)).reshape(3, 8)
    np.testing.assert_allclose(found, expected, rtol=0, atol=np.spacing(np.float16(np.abs(expected).max())))
    assert np.mean(found == expected) > 0.9


def test_weights_that_both_types_read_are_stored_twice():
    weights = np.full((3, 3, 1, 1), 1 / 3, np.float32)
    model = _convolutions({"one": 1.0, "two": 1.0, "three": 1.0})
    for node in model.graph.node:
        if node.op_type == "Conv":
            node.input[1] = "w"
    del model.graph.initializer[:]
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    made = converted(with_types(model), {"cast", "turn", "two", "flat"})
    onnx.checker.check_model(made, full_check=True)
    found = {tensor.data_type: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    assert sorted(found) == [TensorProto.FLOAT, TensorProto.FLOAT16]
    assert (found[TensorProto.FLOAT] == weights).all()


def test_a_conversion_to_a_file_that_is_not_valid_is_refused(tmp_path, monkeypatch):
    def wrong(model, kept):
        made = converted(model, kept)
        made.graph.node[0].op_type = "Unheard"
        return made

    source = _adopted(ForeignFile(), tmp_path)
    monkeypatch.setattr("rrid_export.half.pipeline.converted", wrong)
    _refused_and_not_written(source, "this network cannot be converted to float16 (")


def test_a_failing_conversion_keeps_the_file_that_is_there(tmp_path, monkeypatch):
    source = _adopted(ForeignFile(), tmp_path)
    half = write_half(source).model
    content = half.read_bytes()
    monkeypatch.setattr("rrid_export.half.pipeline.emulated", _zeros)
    with pytest.raises(CheckFailedError, match="loses too much"):
        write_half(source)
    assert half.read_bytes() == content


def _zeros(model):
    """Return a model whose head is zero, in the place of the emulation."""
    made = emulated(model)
    for tensor in made.graph.initializer:
        if tensor.name.endswith("head"):
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    return made
