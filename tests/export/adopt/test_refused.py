"""Files that cannot be adopted, and choices that are missing: one line each."""

from __future__ import annotations

import tracemalloc
from inspect import signature
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from support.commands import refused, rrid_edge
from support.foreign import HEIGHT_PX, VALUES, WIDTH_PX, ForeignFile

FACTS = ("--color", "rgb", "--scale", "255", "--mean", "0,0,0", "--std", "1,1,1")


def _value(name, kind=TensorProto.FLOAT, shape=("N", 3, HEIGHT_PX, WIDTH_PX)):
    return helper.make_tensor_value_info(name, kind, list(shape))


def _with_nodes(*nodes, constants=()):
    """The network with more nodes after it; the last one makes ``features``."""
    model = ForeignFile().model()
    model.graph.node[-1].output[0] = "before"
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    return model


def _claiming():
    model = ForeignFile().model()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([3 << 20, 1024])
    return model


def _external(location):
    model = ForeignFile().model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model


def _apart(shape, kept, **entries):
    """Weights beside the file, in its first initialiser; the file there has ``kept`` bytes, most of them a hole."""

    def build(folder):
        model = _external("weights.bin")
        tensor = model.graph.initializer[0]
        del tensor.dims[:]
        tensor.dims.extend(shape)
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        with (folder / "weights.bin").open("wb") as file:
            file.truncate(kept)
        return model

    return build


def _random_training():
    ratio, yes = numpy_helper.from_array(np.float32(0.5), "ratio"), numpy_helper.from_array(np.array(True), "yes")
    return _with_nodes(helper.make_node("Dropout", ["before", "ratio", "yes"], ["features"]), constants=[ratio, yes])


def _wide():
    repeats = numpy_helper.from_array(np.array([1, 1 << 18], np.int64), "repeats")
    return _with_nodes(helper.make_node("Tile", ["before", "repeats"], ["features"]), constants=[repeats])


def _image(*sides):
    return lambda: ForeignFile().model(inputs=[_value("pixels", shape=sides)])


def _branching():
    branch = helper.make_graph([], "branch", [], [helper.make_tensor_value_info("before", 1, None)])
    condition = numpy_helper.from_array(np.array(True), "yes")
    node = helper.make_node("If", ["yes"], ["features"], then_branch=branch, else_branch=branch)
    return _with_nodes(node, constants=[condition])


def _with_function():
    model = ForeignFile().model()
    body = [helper.make_node("Relu", ["x"], ["y"])]
    model.functions.append(helper.make_function("own", "F", ["x"], ["y"], body, [helper.make_opsetid("", 13)]))
    return model


def _of_unknown_type():
    model = ForeignFile().model()
    model.graph.initializer[0].data_type = 77
    return model


def _empty():
    model = ForeignFile().model(outputs=[_value("pixels", shape=("N", VALUES))])
    del model.graph.node[:]
    return model


def _huge_map():
    size = numpy_helper.from_array(np.array([1, 1 << 20, 1024], np.int64), "size")
    number = numpy_helper.from_array(np.array(0, np.float32), "zero")
    return _with_nodes(
        helper.make_node("ConstantOfShape", ["size"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["one"], keepdims=0),
        helper.make_node("Add", ["before", "one"], ["features"]),
        constants=[size, number],
    )


HOSTILE = {
    "two inputs": (
        lambda: ForeignFile().model(inputs=[_value("pixels"), _value("mask")]), "2 inputs (pixels, mask), expected one"
    ),
    "no output of rank 2": (
        lambda: ForeignFile().model(outputs=[_value("features", shape=("N", VALUES, 1, 1))]),
        "output 'features' is float32 (N, 12, 1, 1), expected float32 (batch, values)",
    ),
    "integers in": (
        lambda: ForeignFile().model(inputs=[_value("pixels", TensorProto.INT64)]), "input 'pixels' is int64"
    ),
    "integers out": (
        lambda: ForeignFile().model(outputs=[_value("features", TensorProto.INT64, ("N", VALUES))]),
        "output 'features' is int64",
    ),
    "three axes in": (lambda: ForeignFile().model(inputs=[_value("pixels", shape=("N", 3, 8))]), "float16 of 4 axes"),
    "custom operator": (
        lambda: _with_nodes(helper.make_node("Magic", ["before"], ["features"], domain="com.example")),
        "custom operator com.example.Magic",
    ),
    "control flow": (_branching, "operator If has graphs of its own"),
    "local function": (_with_function, "1 local functions"),
    "weights outside": (lambda: _external("../secret.bin"), "'../secret.bin' for its weights, which lies outside"),
    "weights missing": (lambda: _external("weights.bin"), "'weights.bin', which is not beside it"),
    "weights of 3 GB": (_claiming, "weights 'stem' claim the shape [3145728, 1024], expected 2 GB at most"),
    "a map of 4 GB": (_huge_map, "tensor 'huge' would have 1,073,741,824 values"),
    "3 GB beside it": (
        _apart((3 << 20, 256), 3 << 30, length=3 << 30), "weights 'stem' claim the shape [3145728, 256], expected 2 GB"
    ),
    "3 GB beside it for a small shape": (
        _apart((6, 3, 3, 3), 3 << 30, length=3 << 30), "'stem' take 3,221,225,472 bytes of 'weights.bin' from 0"
    ),
    "3 GB beside it without a length": (_apart((6, 3, 3, 3), 3 << 30), "3,221,225,472 bytes"),
    "too few bytes beside it": (_apart((6, 3, 3, 3), 647), "take 647 bytes of 'weights.bin' from 0, expected 648"),
    "no rows": (_image("N", 3, 0, WIDTH_PX), "(N, 3, 0, 16), expected 16 to 16,384 rows and columns"),
    "narrow images": (_image("N", HEIGHT_PX, 7, 3), "(N, 24, 7, 3), expected 16 to 16,384 rows and columns"),
    "five channels": (_image("N", 5, HEIGHT_PX, WIDTH_PX), "expected 3 channels on axis 1 or 3"),
    "large images": (_image("N", 3, 2048, 2048), "(N, 3, 2048, 2048), expected 4,194,304 values per image at most"),
    "a large batch": (_image(1024, 3, 256, 128), "expected 16,777,216 values per call at most"),
    "a long descriptor": (_wide, "descriptors of 3,145,728 values, expected 1,048,576 at most"),
    "random": (_random_training, "its descriptors change from run to run"),
    "cycle": (
        lambda: _with_nodes(
            helper.make_node("Add", ["before", "loop"], ["features"]), helper.make_node("Relu", ["features"], ["loop"])
        ),
        "(Add) waits for its own output",
    ),
    "made twice": (
        lambda: _with_nodes(*(helper.make_node("Relu", ["before"], ["features"]) for _ in range(2))),
        "tensor 'features' is made twice",
    ),
    "missing tensor": (lambda: _with_nodes(helper.make_node("Add", ["before", "nothing"], ["features"])), "not valid"),
    "old operator set": (lambda: ForeignFile(opset=7).model(), "operator set 7, expected 9 or newer"),
    "unknown operator": (lambda: _with_nodes(helper.make_node("Magic", ["before"], ["features"])), "not valid ONNX"),
    "fixed batch": (
        lambda: ForeignFile(batch=1, flatten="Reshape").model(), "operator Reshape (node 'fix') has a fixed batch"
    ),
    "a batch of a million": (
        lambda: ForeignFile().model(inputs=[_value("pixels", shape=(1 << 20, 3, HEIGHT_PX, WIDTH_PX))]),
        "a fixed batch of 1,048,576 images, expected 1 to 1,024",
    ),
    "unknown type of weights": (_of_unknown_type, "its graph is damaged (KeyError: 77)"),
    "no network": (_empty, "its output has the shape (1, 3, 24, 16), expected (1, at most 1,048,576 values)"),
    "not finite": (
        lambda: _with_nodes(helper.make_node("Log", ["before"], ["features"])), "its descriptors are not finite"
    ),
    "constant": (lambda: _with_nodes(helper.make_node("Sub", ["before", "before"], ["features"])), "are the same"),
    "changes with the batch": (
        lambda: _with_nodes(
            helper.make_node("ReduceMean", ["before"], ["over"], axes=[0], keepdims=1),
            helper.make_node("Mul", ["over", "over"], ["other"]),
            helper.make_node("Add", ["before", "other"], ["features"]),
        ),
        "its descriptors are others than alone",
    ),
}  # fmt: skip


@pytest.mark.parametrize("make", HOSTILE, ids=str)
def test_networks_that_cannot_be_adopted(make, tmp_path):
    build, words = HOSTILE[make]
    path = tmp_path / "net.onnx"
    path.write_bytes((build(tmp_path) if signature(build).parameters else build()).SerializeToString())
    tracemalloc.start()
    outcome = rrid_edge("adopt", path, "-o", tmp_path / "out", *FACTS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    refused(outcome, 4, words)
    assert len(outcome.err) < 500
    assert peak < 100e6
    assert not list((tmp_path / "out").glob("*"))


def test_huge_graphs_are_refused_before_they_are_prepared(tmp_path, monkeypatch):
    path = ForeignFile().write(tmp_path / "net.onnx")
    nodes, weights = len(onnx.load_model(str(path)).graph.node), len(ForeignFile().weights())
    for most, words in ((nodes - 1, f"{nodes} operators, expected {nodes - 1} at most"), (nodes, "")):
        monkeypatch.setattr("rrid_export.adopt.foreign._MOST_NODES", most)
        outcome = rrid_edge("adopt", path, "-o", tmp_path / "out", *FACTS)
        assert weights == nodes
        if words:
            refused(outcome, 4, words)
        else:
            assert outcome.code == 0, outcome.err
    model = ForeignFile().model()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "another"))
    path.write_bytes(model.SerializeToString())
    refused(rrid_edge("adopt", path, "-o", tmp_path / "out", *FACTS), 4, f"{weights + 1} weights, expected {weights}")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"hello\n", "not an ONNX file"), (b"", "is empty"), (b"\x00" * 64, "not an ONNX file")],
    ids=["text", "empty", "zeros"],
)
def test_files_that_are_no_networks(content, words, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    refused(rrid_edge("adopt", path, "-o", tmp_path / "out", *FACTS), 4, words, "export the network again")


def test_a_cut_file_is_refused(tmp_path):
    path = ForeignFile().write(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes()[:-100])
    refused(rrid_edge("adopt", path, "-o", tmp_path / "out", *FACTS), 4, "damaged")


def _adopt(tmp_path: Path, *options: str, file: ForeignFile | None = None):
    path = (file or ForeignFile()).write(tmp_path / "net.onnx")
    return rrid_edge("adopt", path, "-o", tmp_path / "out", *options)


def test_missing_facts_are_named(tmp_path):
    refused(_adopt(tmp_path), 2, "(color, scale, mean, std)", "give a preset (torchreid, fastreid", "option --mean")
    refused(_adopt(tmp_path, "--color", "rgb", "--scale", "255", "--mean", "0,0,0"), 2, "is not known (std)")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--preset", "magic"), "preset 'magic' is unknown: expected one of torchreid"),
        (("--color", "hsv"), "color 'hsv' is unknown"),
        (("--mean", "1,2"), "mean 1, 2 does not work: expected 3 numbers"),
        (("--mean", "a,b,c"), "mean 'a,b,c' does not work"),
        (("--mean", "nan,0,0"), "mean nan, 0, 0 does not work"),
        (("--std", "0,1,1"), "std 0, 1, 1 does not work"),
        (("--scale", "0"), "scale 0 does not work"),
        (("--size", "big"), "size 'big' does not work"),
        (("--size", "8x16"), "size 8 x 16 px does not work"),
        (("--size", "256x128"), "size 256 x 128 px contradicts the file, whose input is (N, 3, 24, 16)"),
        (("--layout", "nhwc"), "layout nhwc contradicts the file"),
        (("--input", "x"), "no input 'x'; its input is 'pixels'"),
        (("--output", "x"), "no output 'x'; its outputs are features"),
        (("--name", "a/b"), "the name 'a/b' does not work"),
        (("--normalise", "l1"), "normalise 'l1' is unknown"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_choices_that_do_not_work(options, words, tmp_path):
    refused(_adopt(tmp_path, *options, *(FACTS if options[0] not in FACTS else ("--preset", "yolo-reid"))), 2, words)


def test_an_output_that_has_no_unit_length_is_refused(tmp_path):
    refused(_adopt(tmp_path, "--normalise", "none", *FACTS), 2, "not 1, though the choice none says so", "--normalise")


def test_other_files_are_told_apart(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"weights")
    refused(rrid_edge("adopt", tmp_path / "net.pth", *FACTS), 2, "this is a checkpoint")
    refused(rrid_edge("adopt", tmp_path / "none.onnx", *FACTS), 2, "no such model file")
    _adopt(tmp_path, *FACTS)
    refused(rrid_edge("adopt", tmp_path / "out" / "net.onnx", *FACTS), 2, "this is a model of rrid-edge already")


def test_a_model_without_metadata_names_adopt(tmp_path):
    path = ForeignFile().write(tmp_path / "net.onnx")
    refused(rrid_edge("info", path), 4, "rrid-edge adopt FILE")


def test_weights_in_a_file_beside_it_are_taken_in(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save_model(ForeignFile().model(), str(path), save_as_external_data=True, size_threshold=0, location="net.bin")
    assert rrid_edge("adopt", path, "-o", tmp_path / "out", *FACTS).code == 0
    (tmp_path / "net.bin").unlink()
    assert rrid_edge("info", tmp_path / "out" / "net.onnx").code == 0
