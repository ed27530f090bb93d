"""Files keep what the parsers of all supported TensorRT versions need; each fault is found when a file is written."""

from __future__ import annotations

import importlib.util
import re

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rrid_calib.calibrate import calibrate
from rrid_calib.layers import int8_layers, read_graph
from rrid_calib.settings import CalibrationSettings
from rrid_edge.errors import CheckFailedError, ModelFileError
from rrid_edge.machine.rtx import RTX_MODULES
from rrid_edge.model.onnx_graph import TYPES, parse_graph
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.operator_rules import breaches, check_operators
from rrid_export.branch import InferenceBranch
from rrid_export.onnx import check_onnx
from support.int8 import FORMS as INT8_FORMS
from support.int8 import form_of, made_up
from support.networks import narrow_source
from support.onnx_models import save_changed_model
from support.pictures import save_crops


@pytest.fixture(scope="module")
def exported(narrow_export):
    return narrow_export / "rrid.onnx"


@pytest.mark.parametrize("named", [True, False], ids=["kernels named", "kernels not named"])
def test_every_convolution_names_the_shape_of_its_kernel(exported, named):
    """TensorRT 8.6 and 10.0 to 10.3 cannot take it from weights that a DequantizeLinear makes."""
    model = read_graph(exported)
    for node in model.graph.node:
        kept = [item for item in node.attribute if named or node.op_type != "Conv" or item.name != "kernel_shape"]
        del node.attribute[:]
        node.attribute.extend(kept)
    first = int8_layers(model)[0].name
    for name, float_layers in (("int8", ()), ("fine head", ()), ("float residuals", [first])):
        result = form_of(model, name, made_up(model)).build(model, float_layers)
        weights = {tensor.name: tensor.dims for tensor in result.graph.initializer}
        stored = {node.output[0]: weights[node.input[0]] for node in result.graph.node if node.input[0] in weights}
        kernels = {
            node.name: (onnx.helper.get_node_attr_value(node, "kernel_shape"), list((weights | stored)[node.input[1]]))
            for node in result.graph.node
            if node.op_type == "Conv"
        }
        assert len(kernels) == 20
        assert all(kernel == shape[2:] for kernel, shape in kernels.values())


FORMS = ["rrid.onnx", "rrid.fp16.onnx", "int8", "fine head", "float residuals", "float layers"]


@pytest.fixture(scope="module")
def forms(narrow_export):
    """Each form of the network, serialised."""
    model = read_graph(narrow_export / "rrid.onnx")
    made = {name: form_of(model, name, made_up(model)).build(model) for name in INT8_FORMS}
    costly = [layer.name for layer in int8_layers(model)[:5]]
    made["float layers"] = form_of(model, "fine head", made_up(model)).build(model, costly)
    contents = {name: result.SerializeToString() for name, result in made.items()}
    return contents | {name: (narrow_export / name).read_bytes() for name in FORMS[:2]}


def _breaches(content: bytes) -> list[str]:
    return [str(breach) for breach in breaches(parse_graph(memoryview(content)))]


@pytest.mark.parametrize("name", FORMS)
def test_every_form_keeps_the_rules(forms, name):
    assert _breaches(forms[name]) == []


def test_planes_keep_the_rules(planes_export):
    assert _breaches((planes_export / "rrid.nchw.onnx").read_bytes()) == []


@pytest.mark.parametrize("name", FORMS)
def test_the_graph_is_read_as_onnx_reads_it(forms, name):
    model, found = onnx.load_model_from_string(forms[name]), parse_graph(memoryview(forms[name]))
    assert found.opsets == {item.domain: item.version for item in model.opset_import}
    for node, expected in zip(found.nodes, model.graph.node, strict=True):
        assert (node.name, node.operator, node.domain) == (expected.name, expected.op_type, expected.domain)
        assert (list(node.inputs), list(node.outputs)) == (list(expected.input), list(expected.output))
        for attribute in expected.attribute:
            value = onnx.helper.get_attribute_value(attribute)
            if isinstance(value, int) or (isinstance(value, list) and value and isinstance(value[0], int)):
                assert node.attributes[attribute.name] == (tuple(value) if isinstance(value, list) else value)
    for tensor in model.graph.initializer:
        constant, values = found.constants[tensor.name], numpy_helper.to_array(tensor)
        assert (constant.dtype, constant.shape) == (str(values.dtype), values.shape)
        if values.nbytes <= 1 << 16:
            np.testing.assert_array_equal(constant.values, values.ravel())
        else:
            assert constant.values is None
    kinds = {item.name: item.type.tensor_type.elem_type for item in (*model.graph.input, *model.graph.output)}
    assert {name: TYPES[number] for name, number in kinds.items()}.items() <= found.types.items()


def test_types_are_followed_without_descriptions(forms):
    """The same verdict with and without ``value_info``, which int8 files do not have."""
    model = onnx.load_model_from_string(forms["rrid.fp16.onnx"])
    assert model.graph.value_info
    del model.graph.value_info[:]
    assert _breaches(model.SerializeToString()) == []


def _first(graph, operator):
    return next(node for node in graph.node if node.op_type == operator)


def _initialiser(graph, name):
    return next(tensor for tensor in graph.initializer if tensor.name == name)


def _drop_kernel_shape(graph):
    node = next(node for node in graph.node if node.op_type == "Conv" and node.name == "node_conv2d")
    kept = [item for item in node.attribute if item.name != "kernel_shape"]
    del node.attribute[:]
    node.attribute.extend(kept)


def _turn_uint8(graph):
    """Transpose before Cast, as many exporters write it."""
    cast, transpose = _first(graph, "Cast"), _first(graph, "Transpose")
    transpose.input[0], cast.input[0], cast.output[0], transpose.output[0] = "images", "turned", "permute", "turned"
    nodes = [transpose, cast, *[node for node in graph.node if node not in (transpose, cast)]]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _set_values(name_of, values):
    def change(graph):
        name = name_of(graph)
        _initialiser(graph, name).CopyFrom(numpy_helper.from_array(values, name))

    return change


def _scale_of(graph):
    return _first(graph, "QuantizeLinear").input[1]


def _weight_scale(graph):
    return next(tensor.name for tensor in graph.initializer if tensor.name.endswith("weight_scale"))


def _quantise_per_channel(graph):
    values = np.full(32, 0.1, np.float32)
    _initialiser(graph, _scale_of(graph)).CopyFrom(numpy_helper.from_array(values, _scale_of(graph)))


def _zero_of_uint8(graph):
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.uint8), "unsigned"))
    _first(graph, "QuantizeLinear").input[2] = "unsigned"


def _axis_1(graph):
    node = next(node for node in graph.node if node.name.endswith("weight_dequantise"))
    node.attribute[0].i = 1


def _no_quantisation(graph):
    """A DequantizeLinear whose int8 comes from a Cast."""
    quantise = _first(graph, "QuantizeLinear")
    quantise.op_type = "Cast"
    del quantise.input[1:]
    quantise.attribute.append(onnx.helper.make_attribute("to", onnx.TensorProto.INT8))


def _bias_of_int8(graph):
    node = next(node for node in graph.node if node.op_type == "Conv" and len(node.input) > 2)
    bias = node.input[2]
    size = _initialiser(graph, bias).dims[0]
    graph.initializer.append(numpy_helper.from_array(np.ones(size, np.int8), "b8"))
    graph.initializer.append(numpy_helper.from_array(np.ones((), np.float32), "bs"))
    graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", ["b8", "bs", "int8_zero"], ["b"], "bias"))
    node.input[2] = "b"


def _half_scale(graph):
    name = _first(graph, "Mul").input[1]
    _initialiser(graph, name).CopyFrom(numpy_helper.from_array(np.ones((3, 1, 1), np.float16), name))


def _cast_to(number):
    def change(graph):
        _first(graph, "Cast").attribute[0].i = number

    return change


def _computed_axes(graph):
    node = _first(graph, "Unsqueeze")
    graph.node.insert(0, onnx.helper.make_node("Identity", [node.input[1]], ["axes"], "axes"))
    node.input[1] = "axes"


def _rename(operator, other, domain=""):
    def change(graph):
        node = _first(graph, operator)
        node.op_type, node.domain = other, domain

    return change


def _indices(graph):
    _first(graph, "MaxPool").output.append("indices")


ALL, OLD, KERNELS = "TensorRT 8.6 to 11 refuse", "TensorRT 8.6 refuses", "TensorRT 8.6 and 10.0 to 10.3 refuse"
UNPROMISED = "TensorRT 8.6 does not promise"
NONE = np.float32(0)
FAULTS = {
    "no kernel shape": ("int8", _drop_kernel_shape, r"node_conv2d' \(Conv\) names no kernel_shape", KERNELS),
    "uint8 turned": ("rrid.onnx", _turn_uint8, r"node_permute' \(Transpose\) takes uint8 \(images\)", ALL),
    "mixed floats": ("rrid.onnx", _half_scale, r"node_mul(_\d+)?' \(Mul\) mixes float16 and float32", ALL),
    "mixed floats in fp16": ("rrid.fp16.onnx", _half_scale, r"node_mul(_\d+)?' \(Mul\) mixes float16", ALL),
    "bfloat16": ("rrid.onnx", _cast_to(16), r"node__to_copy' \(Cast\) makes bfloat16", OLD),
    "double": ("rrid.onnx", _cast_to(11), r"node__to_copy' \(Cast\) makes float64", UNPROMISED),
    "unknown operator": ("rrid.onnx", _rename("Relu", "Mish"), "node_relu' is a Mish", UNPROMISED),
    "foreign domain": ("rrid.onnx", _rename("Relu", "Relu", "com.microsoft"), "is a com.microsoft.Relu", UNPROMISED),
    "computed axes": ("rrid.onnx", _computed_axes, r"\(Unsqueeze\) computes its axes", UNPROMISED),
    "indices": ("rrid.onnx", _indices, r"node_max_pool2d' \(MaxPool\) also gives indices", ALL),
    "zero scale": ("int8", _set_values(_scale_of, NONE), "has a scale that is not positive", ALL),
    "scale nan": ("int8", _set_values(_scale_of, np.float32(np.nan)), "a scale that is not positive", ALL),
    "zero point": ("int8", _set_values(lambda _graph: "int8_zero", np.int8(3)), "has a zero point that is not 0", ALL),
    "unsigned": ("int8", _zero_of_uint8, "has no constant zero point of int8", UNPROMISED),
    "activation per channel": ("int8", _quantise_per_channel, "a scale per channel of an activation", ALL),
    "weights on axis 1": ("int8", _axis_1, "scales on axis 1, expected one per output channel", ALL),
    "too few scales": ("int8", _set_values(_weight_scale, np.ones(2, np.float32)), r"has \(2,\) scales", ALL),
    "int8 from a cast": ("int8", _no_quantisation, "takes int8 that no QuantizeLinear made", UNPROMISED),
    "int8 bias": ("int8", _bias_of_int8, r"\(Conv\) computes its bias", UNPROMISED),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_with_its_node_and_versions(forms, fault):
    form, change, words, versions = FAULTS[fault]
    model = onnx.load_model_from_string(forms[form])
    change(model.graph)
    found = _breaches(model.SerializeToString())
    assert found
    assert any(re.search(words, line) and versions in line for line in found), found


@pytest.fixture(scope="module")
def real_parser():
    """NVIDIA's parser of TensorRT for RTX, which needs no GPU: whether it reads a file."""
    names = [name for name in RTX_MODULES if importlib.util.find_spec(name)]
    if not names:
        pytest.skip("needs the extra gpu-proof (x86-64)")
    trt = importlib.import_module(names[0])
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)

    def reads(content: bytes) -> bool:
        network = builder.create_network(0)  # the parser only refers to it
        parser = trt.OnnxParser(network, logger)
        return bool(parser.parse(content))

    return reads


def test_nvidias_parser_refuses_what_all_versions_refuse(forms, real_parser):
    """And it reads every form without a fault."""
    assert [name for name in FORMS if not real_parser(forms[name])] == []
    read = []
    for fault, (form, change, _, versions) in FAULTS.items():
        model = onnx.load_model_from_string(forms[form])
        change(model.graph)
        if versions == ALL and real_parser(model.SerializeToString()):
            read.append(fault)
    assert read == []


@pytest.mark.parametrize(("opset", "refused"), [(12, True), (13, False), (17, False), (18, True)])
def test_operator_sets_that_8_6_does_not_know_are_refused(forms, opset, refused):
    model = onnx.load_model_from_string(forms["int8"])
    model.opset_import[0].version = opset
    found = _breaches(model.SerializeToString())
    assert found == (
        [f"operator set {opset}, expected 13 to 17 (TensorRT 8.6 does not promise to read it)"] if refused else []
    )


def test_local_functions_are_refused(forms):
    model = onnx.load_model_from_string(forms["rrid.onnx"])
    model.functions.append(onnx.helper.make_function("own", "f", ["x"], ["y"], [], model.opset_import))
    assert _breaches(model.SerializeToString()) == ["1 local functions, expected none (TensorRT 8.6 refuses it)"]


def test_calibration_writes_no_file_that_breaks_a_rule(exported, tmp_path, monkeypatch):
    """The rules run over the finished file, before it gets its name."""
    save_crops(tmp_path / "crops", 16)
    model = onnx.load(exported)
    for node in [node for node in model.graph.node if node.op_type == "Conv"][:3]:
        kept = [item for item in node.attribute if item.name != "kernel_shape"]
        del node.attribute[:]
        node.attribute.extend(kept)
    save_changed_model(tmp_path / "rrid.onnx", model, read_spec(exported))
    monkeypatch.setattr("rrid_calib.graph.name_kernels", lambda _graph: None)
    settings = CalibrationSettings(count=8, measured=8, method="minmax", rounding="nearest", float_layers=0)
    with pytest.raises(CheckFailedError, match=r"node 'node_conv2d' \(Conv\) names no kernel_shape") as caught:
        calibrate(tmp_path / "rrid.onnx", tmp_path / "crops", settings)
    assert "TensorRT 8.6 and 10.0 to 10.3 refuse it), and 2 more; nothing was written" in caught.value.message
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["rrid.onnx"]


def test_export_accepts_no_file_that_breaks_a_rule(exported, tmp_path):
    source = narrow_source()
    model = onnx.load(exported)
    _computed_axes(model.graph)
    path = save_changed_model(tmp_path / "rrid.onnx", model, source.spec())
    with pytest.raises(CheckFailedError, match="computes its axes, expected a constant"):
        check_onnx(path, source.spec(), InferenceBranch(source.model).eval())


def test_a_damaged_file_is_refused(tmp_path, forms):
    path = tmp_path / "rrid.onnx"
    path.write_bytes(forms["int8"][:-100])
    with pytest.raises(ModelFileError, match=r"rrid\.onnx: not an ONNX file, or damaged"):
        check_operators(path)
