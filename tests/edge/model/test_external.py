"""ONNX files whose weights lie in other files: those outside the model's folder are never opened."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from rrid_calib.layers import read_graph
from rrid_edge.engines import open_engine
from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import ModelFileError
from rrid_edge.model.external import external_files
from rrid_edge.model.onnx_header import read_model_header, read_spec
from rrid_edge.model.weights import check_weights, contract_file
from rrid_export.mistakes import mistaken_networks
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.settings import BuildSettings
from rrid_export.triton import write_triton_repository
from support.commands import refused, rrid_edge
from support.onnx_models import of_format_1, tiny_model

VALUES = b"\0" * 8


def _tensor(location, name="outside"):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def _graph(location):
    output = helper.make_tensor_value_info("outside", TensorProto.FLOAT, [2])
    return helper.make_graph([], "inner", [], [output], [_tensor(location)])


def _in_initialisers(model, location):
    model.graph.initializer.append(_tensor(location))


def _in_a_constant(model, location):
    model.graph.node.insert(0, helper.make_node("Constant", [], ["outside"], value=_tensor(location)))


def _in_a_list_of_tensors(model, location):
    node = helper.make_node("Custom", [], ["outside"], domain="custom")
    node.attribute.append(helper.make_attribute("values", [_tensor(location), _tensor(location, "b")]))
    model.graph.node.insert(0, node)


def _in_a_branch(model, location):
    inner = _graph(location)
    for _ in range(3):
        output = helper.make_tensor_value_info("outside", TensorProto.FLOAT, [2])
        node = helper.make_node("If", ["condition"], ["outside"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([node], "outer", [], [output])
    model.graph.node.extend(inner.node)


def _in_a_function(model, location):
    node = helper.make_node("Constant", [], ["outside"], value=_tensor(location))
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("custom", "f", [], ["outside"], [node], opset))


def _in_sparse_weights(model, location):
    sparse = helper.make_sparse_tensor(_tensor(location), helper.make_tensor("i", TensorProto.INT64, [2], [0, 1]), [4])
    model.graph.sparse_initializer.append(sparse)


def _in_training(model, location):
    model.training_info.add().initialization.CopyFrom(_graph(location))


PLACES = [
    _in_initialisers, _in_a_constant, _in_a_list_of_tensors, _in_a_branch, _in_a_function, _in_sparse_weights,
    _in_training,
]  # fmt: skip


@pytest.fixture
def folders(tmp_path):
    """A folder for models, and weights outside it."""
    (tmp_path / "models" / "sub").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for place in ("outside/w.bin", "w.bin", "models/inside.bin"):
        (tmp_path / place).write_bytes(VALUES)
    (tmp_path / "models" / "link.bin").symlink_to(tmp_path / "outside" / "w.bin")
    (tmp_path / "models" / "linked").symlink_to(tmp_path / "outside")
    (tmp_path / "models" / "circle").symlink_to(tmp_path / "models" / "circle")
    return tmp_path / "models"


def _save(folder, place, location, *, with_sum=False):
    model = of_format_1(tiny_model()) if not with_sum else tiny_model()
    place(model, location)
    content = model.SerializeToString()
    path = folder / "m.onnx"
    path.write_bytes(contract_file(content, fake_spec()) if with_sum else content)
    return path


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__.strip("_"))
def test_weights_outside_the_folder_are_refused_wherever_a_tensor_names_them(folders, place):
    outside = folders.parent / "outside" / "w.bin"
    for location in (
        str(outside), "/etc/passwd", "../w.bin", "sub/../../w.bin", "link.bin", "linked/w.bin", "circle", "..\\w.bin",
        "C:\\w.bin", "C:w.bin", "\\\\server\\w.bin", "../models/inside.bin", "sub/..", "w\0.bin",
    ):  # fmt: skip
        path = _save(folders, place, location)
        with pytest.raises(
            ModelFileError, match=r"m\.onnx: it names the file .* outside the model's folder"
        ) as refusal:
            read_spec(path)
        assert "\n" not in refusal.value.message, location
    path = _save(folders, place, "none.bin")
    with pytest.raises(ModelFileError, match=r"'none\.bin', which is not beside it"):
        read_model_header(path)
    assert read_model_header(_save(folders, place, "inside.bin")).external_files == ("inside.bin",)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__.strip("_"))
def test_a_sum_does_not_vouch_for_weights_elsewhere(folders, place):
    path = _save(folders, place, "inside.bin", with_sum=True)
    with pytest.raises(ModelFileError, match=r"'inside\.bin', which its sha256 does not cover"):
        check_weights(path)


@pytest.mark.parametrize("place", [_in_initialisers, _in_a_constant])
@pytest.mark.parametrize("with_sum", [False, True], ids=["format 1", "format 2"])
def test_everything_that_opens_a_model_refuses_weights_outside(folders, place, with_sum):
    path = _save(folders, place, "../w.bin", with_sum=with_sum)
    for reads in (
        lambda: open_engine(path, "onnxruntime"),
        lambda: open_engine(path, "openvino"),
        lambda: mistaken_networks(path),
        lambda: read_graph(path),
        lambda: build_engine(path, folders / "m.engine", BuildSettings()),
        lambda: write_triton_repository(path, folders / "triton"),
    ):
        with pytest.raises(ModelFileError, match="outside the model's folder"):
            reads()
    for command in (("info", path), ("export", path), ("calibrate", path, "--images", folders), ("parity", path)):
        refused(rrid_edge(*command), 4, "outside the model's folder")


def test_graphs_that_are_nested_too_deeply_are_refused():
    def field(number, content):
        length, encoded = len(content), bytearray()
        while length >= 0x80:
            encoded.append(length & 0x7F | 0x80)
            length >>= 7
        return bytes([number << 3 | 2, *encoded, length]) + content

    inner = field(8, b"location")
    for _ in range(60):
        inner = field(1, field(5, field(6, inner)))  # graph > node > attribute > graph
    with pytest.raises(ValueError, match="nested too deeply"):
        external_files(memoryview(field(7, inner)))


def test_weights_inside_the_folder_still_open(tmp_path):
    path = tmp_path / "m.onnx"
    model = of_format_1(tiny_model())
    onnx.save_model(model, str(path), save_as_external_data=True, location="w.bin", size_threshold=1024)
    with open_engine(path, "onnxruntime") as engine:
        assert engine.spec.precision == "fp32"
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(ModelFileError) as refusal:
        open_engine(path, "onnxruntime")
    assert "\n" not in refusal.value.message
