"""Proofs of an engine's precision, on answers of the inspector that NVIDIA's own libraries gave."""

from __future__ import annotations

import json
from types import ModuleType, SimpleNamespace

import pytest
from onnx import TensorProto, helper

from rrid_edge.artefacts import Artefact
from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import ArtefactError, CheckFailedError, ModelFileError
from rrid_edge.model.engine_sidecar import PrecisionProof, Products
from rrid_export.tensorrt.information import layers_of_log
from rrid_export.tensorrt.nodes import NodeNames, read_node_names
from rrid_export.tensorrt.proof import check_precision, check_tail, count_layers, inspect_engine
from support.onnx_models import save_tiny_model
from support.tensorrt_layers import (
    LOGGED_RTX,
    LOGGED_RTX_1_4,
    LOGGED_RTX_INT8,
    RECORDED_8_6,
    RECORDED_8_6_WITHOUT_SHAPES,
    RECORDED_RTX,
    answer,
    read_recorded,
)

TAIL = frozenset({"node_view_4", "node_sum_4", "node_pow_1", "node_sum_5", "node_sqrt", "node_clamp_min", "node_div"})
DEMO = NodeNames(
    products=frozenset({"node_conv2d", *(f"node_conv2d_{n}" for n in range(1, 20))})
    | {"node_matmul", "node_matmul_1", "node_matmul_2"},
    quantised=frozenset(),
    tail=TAIL,
)


def test_the_recorded_answer_of_8_6_is_no_strict_json():
    recorded = RECORDED_8_6_WITHOUT_SHAPES.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="Invalid control character"):
        json.loads(recorded)
    with pytest.raises(ArtefactError, match="damaged list"):  # the package's strict reader
        Artefact("list", dict, "remedy").parse(recorded, where="answer")
    # 96 layers. Their shapes were not resolved, but the kernels' names and the weights tell the products' types.
    assert count_layers(recorded).layers == 96
    assert count_layers(recorded).products == Products(half=0, int8=0, single=23, other=0)


@pytest.mark.parametrize("nodes", [None, DEMO], ids=["names", "onnx"])
@pytest.mark.parametrize(
    ("path", "layers", "products"),
    [
        (RECORDED_8_6_WITHOUT_SHAPES, 96, Products(0, 0, 23, 0)),
        (RECORDED_8_6, 102, Products(0, 0, 23, 0)),
        (RECORDED_RTX, 38, Products(23, 0, 0, 0)),
    ],
    ids=["8.6", "8.6-shapes", "rtx"],
)
def test_recorded_answers_give_the_counts(path, layers, products, nodes):
    proof = count_layers(path.read_bytes(), nodes)
    assert (proof.layers, proof.products) == (layers, products)
    # The 8.6 plan is of an fp16 model, built without a GPU: kernels were chosen at random, all in float32.
    refused = {"fp16", "int8"} if products.single else {"fp32", "int8"}
    for precision in ("fp32", "fp16", "int8"):
        if precision in refused:
            with pytest.raises(CheckFailedError, match=f"not {precision}: {products.total} convolutions and matrix"):
                check_precision(proof, precision)
        else:
            check_precision(proof, precision)


@pytest.mark.parametrize(
    ("path", "precision", "layers", "products"),
    [
        (LOGGED_RTX_1_4, "fp16", 33, Products(23, 0, 0, 0)),
        (LOGGED_RTX, "fp16", 33, Products(23, 0, 0, 0)),
        (LOGGED_RTX_INT8, "int8", 67, Products(0, 23, 0, 0)),
    ],
    ids=["1.4", "1.7", "1.7-int8"],
)
def test_layers_in_the_log_of_rtx_give_the_counts(path, precision, layers, products):
    proof = count_layers(layers_of_log(path.read_text(encoding="utf-8")))
    assert (proof.layers, proof.products) == (layers, products)
    check_precision(proof, precision)


def test_types_in_the_log_are_those_of_their_side():
    line = (
        "Name: a, b [Shuffle]_myl0_1, LayerType: gemm, Inputs: [ { Name: x [1], Dimensions: [-1,4], Datatype: Half, "
        "Format: Linear }], Constants: [ { Name: w, Datatype: Int8 }], Outputs: [ { Name: y, Datatype: Float }], "
        "TacticName: , StreamId: 0, Metadata: [ONNX Layer: a]\x1f[ONNX Layer: b]"
    )
    assert json.loads(layers_of_log(f"Layers:\n{line}\n\nI/O Tensors:\n Name: x, IOMode: Input"))["Layers"] == [
        {
            "Name": "a, b [Shuffle]_myl0_1",
            "LayerType": "gemm",
            "Inputs": [{"Datatype": "Half"}],
            "Outputs": [{"Datatype": "Float"}],
            "Metadata": "[ONNX Layer: a]\x1f[ONNX Layer: b]",
        }
    ]
    assert json.loads(layers_of_log("nothing"))["Layers"] == []


@pytest.mark.parametrize("generation", [8, 10, 11])
def test_few_layers_in_float16_suffice_if_they_are_the_products(generation):
    values = json.loads(answer(generation, "fp16", shaped=True), strict=False)
    layers = len(values["Layers"])
    values["Layers"] += [{"Name": f"copy {index}", "Inputs": [{"Datatype": "Float"}]} for index in range(500)]
    proof = count_layers(json.dumps(values))
    assert proof.layers == layers + 500
    check_precision(proof, "fp16")


def test_many_layers_in_float16_prove_nothing_if_they_are_no_products():
    layers = [{"Name": f"node_relu_{index}", "Inputs": [{"Datatype": "Half"}]} for index in range(500)]
    layers.append({"Name": "node_conv2d", "LayerType": "CaskConvolution", "Inputs": [{"Datatype": "Float"}]})
    proof = count_layers(json.dumps({"Layers": layers}))
    with pytest.raises(CheckFailedError, match=r"1 convolutions .* of 501 layers: 0 in float16, 0 in int8, 1 in float"):
        check_precision(proof, "fp16")


def test_text_that_is_no_utf8_is_read():
    layer = (
        b'{"Layers": [{"Name": "gr\xfc\x01n", "LayerType": "gemm", "Inputs": [{"Datatype": "Half"}], "Alpha": NaN}]}'
    )
    assert count_layers(layer + b"\0").products == Products(1, 0, 0, 0)

    # This is how NVIDIA's Python bindings refuse it.
    inspector = SimpleNamespace(get_engine_information=lambda form: layer.decode("utf-8"))
    calls = []
    context = SimpleNamespace(
        set_input_shape=lambda name, shape: calls.append("shape"), infer_shapes=lambda: calls.append("infer")
    )
    trt = ModuleType("tensorrt")
    trt.__dict__.update(Dims=list, LayerInformationFormat=SimpleNamespace(JSON=1))
    engine = SimpleNamespace(create_engine_inspector=lambda: inspector)
    told = inspect_engine(trt, engine, context, fake_spec(), 1)
    assert calls == ["shape", "infer"]
    assert count_layers(told).products == Products(1, 0, 0, 0)


def _layer(**changes: object) -> str:
    layer = {"Name": "a", "Inputs": [{"Format/Datatype": "Half"}], "Outputs": []} | changes
    return json.dumps({"Layers": [layer]})


@pytest.mark.parametrize(
    ("information", "expected"),
    [
        (_layer(), "half"),
        (_layer(Inputs=[{"Format/Datatype": "Row major linear FP16 format"}]), "half"),
        (_layer(Inputs=[{"Format": "Linear", "Datatype": "Int8"}]), "int8"),
        (_layer(Inputs=[{"Format/Datatype": "Row major linear UInt8 format"}]), "other"),
        (_layer(Inputs=[{"Datatype": "Float"}], Weights={"Type": "Int8", "Count": 3}), "int8"),
        (_layer(Inputs=[{"Datatype": "Int32"}], Outputs=[{"Datatype": "Float"}]), "single"),
        (_layer(Inputs=[{"Datatype": "BFloat16"}]), "other"),
        (_layer(Inputs="N/A"), "other"),
    ],
)
def test_layers_are_counted_by_their_narrowest_type(information, expected):
    counts = {"half": 0, "int8": 0, "single": 0, "other": 0} | {expected: 1}
    assert count_layers(information) == PrecisionProof(**counts, products=Products(0, 0, 0, 0))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ({"LayerType": "CaskGemmConvolution"}, "half"),
        ({"LayerType": "CaskDeconvolutionV2"}, "half"),
        ({"LayerType": "CaskJitConv"}, "half"),
        ({"LayerType": "conv_act_pool"}, "half"),
        ({"LayerType": "gemm"}, "half"),
        ({"LayerType": "Unknown", "ParameterType": "MatrixMultiply"}, "half"),
        ({"LayerType": "fusion", "Name": "__myl_FcCast_myl0_8"}, "half"),
        ({"LayerType": "kgen", "Name": "_gemm_mha_v2_myl0_4"}, "half"),
        (
            {"LayerType": "kgen", "Name": "__mye9_myl0_1", "Metadata": "[ONNX Layer: node_add]\x1f[ONNX Layer: c7]"},
            "half",
        ),
        ({"LayerType": "Myelin", "Name": "{ForeignNode[c7...node_relu]}", "Metadata": ""}, "half"),
        # A float32 convolution that quantises its output.
        (
            {"LayerType": "CaskConvolution", "Inputs": [{"Datatype": "Float"}], "Outputs": [{"Datatype": "Int8"}]},
            "single",
        ),
        # A float32 convolution of int8 values.
        ({"LayerType": "CaskConvolution", "Inputs": [{"Datatype": "Int8"}], "Weights": {"Type": "Float"}}, "single"),
        ({"LayerType": "CaskConvolution", "Inputs": [{"Datatype": "N/A"}], "Weights": {"Type": "Half"}}, "half"),
        # An int8 convolution that adds a float16 residual.
        ({"LayerType": "gemm", "Inputs": [{"Datatype": "Int8"}, {"Datatype": "Half"}]}, "int8"),
        ({"LayerType": "gemm", "Inputs": [], "TacticName": "sm80_xmma_gemm_i8i8_i8i32_f32_tn"}, "int8"),
        ({"LayerType": "gemm", "Inputs": [], "TacticName": "ampere_h16816gemm_256x128_ldg8_nn_v1"}, "half"),
        ({"LayerType": "gemm", "Inputs": [], "TacticName": "sm90_xmma_gemm_bf16bf16_bf16f32_f32"}, "other"),
        # Not convolutions and matrix products.
        ({"LayerType": "kgen", "Name": "__myl_ConcCast_myl0_3"}, None),
        ({"LayerType": "Reformat", "Name": "Reformatting CopyNode for Input Tensor 0 to c7", "Metadata": "c7"}, None),
        ({"LayerType": "Reformat", "Name": "x copy", "Metadata": "[ONNX Layer: c7]"}, None),
        ({"LayerType": "CaskPooling", "ParameterType": "Pooling"}, None),
        ({"LayerType": "NoOp", "Name": "node_convert_element_type_default_4"}, None),
    ],
    ids=lambda value: (value.get("Name") or value["LayerType"])[:30] if isinstance(value, dict) else str(value),
)
def test_convolutions_and_matrix_products_are_known(layer, expected):
    nodes = NodeNames(frozenset({"c7"}), frozenset(), frozenset())
    proof = count_layers(_layer(**layer), nodes)
    assert proof.products is not None
    counts = {kind: getattr(proof.products, kind) for kind in ("half", "int8", "single", "other")}
    assert counts == {"half": 0, "int8": 0, "single": 0, "other": 0} | ({expected: 1} if expected else {})


def test_a_product_is_counted_once():
    layers = [
        {"Name": "__myl_Move_myl0_1", "LayerType": "kgen", "Metadata": "[ONNX Layer: node_conv2d_1]"},
        {"Name": "node_conv2d_1_myl0_2", "LayerType": "correlation", "Metadata": "[ONNX Layer: node_conv2d_1]"},
    ]
    proof = count_layers(json.dumps({"Layers": layers}))
    assert proof.products is not None
    assert proof.products.total == 1


@pytest.mark.parametrize(
    "information",
    [
        "",
        "[]",
        '{"Layers": []}',
        '{"Layers": ["a"]}',
        '{"Bindings": []}',
        '{"Layers": null}',
        '{"Layers": [3]}',
        '{"Layers": ["a", {}]}',
        '{"Layers":' + "[" * 9_999,
    ],
    ids=lambda value: value[:24] or "empty",
)
def test_an_inspector_answer_without_types_is_refused(information):
    with pytest.raises(CheckFailedError, match="cannot be proved"):
        count_layers(information)


@pytest.mark.parametrize(
    ("precision", "proof", "passes"),
    [
        ("fp16", (30, 0, 10, 5), True),
        ("fp16", (2, 0, 50, 5), False),
        ("fp16", (0, 0, 0, 9), False),
        ("fp32", (0, 0, 40, 3), True),
        ("fp32", (1, 0, 40, 3), False),
        ("fp32", (0, 0, 0, 3), False),
        ("int8", (10, 30, 10, 3), True),
        ("int8", (40, 3, 10, 3), False),
    ],
)
@pytest.mark.parametrize("counted", ["layers", "products"])
def test_the_precision_needs_a_share_of_the_products(precision, proof, passes, counted):
    half, int8, single, other = proof
    found = (
        PrecisionProof(half, int8, single, other)  # of a sidecar without products
        if counted == "layers"
        else PrecisionProof(9, 9, 9, 9, Products(half, int8, single, 0))
    )
    if passes:
        check_precision(found, precision)
    else:
        with pytest.raises(CheckFailedError, match=f"not {precision}|cannot be proved"):
            check_precision(found, precision)


@pytest.mark.parametrize(("int8", "passes"), [(0, False), (1, False), (2, True), (4, True), (20, True)])
def test_an_int8_engine_needs_half_of_what_the_file_quantises(int8, passes):
    names = [f"c{index}" for index in range(20)]
    nodes = NodeNames(frozenset(names), frozenset(names[:4]), frozenset())  # a fifth of the products
    proof = PrecisionProof(0, 0, 0, 0, Products(0, int8, 20 - int8, 0))
    if passes:
        check_precision(proof, "int8", nodes)
    else:
        with pytest.raises(CheckFailedError, match="not int8"):
            check_precision(proof, "int8", nodes)


@pytest.mark.parametrize(("half", "passes"), [(0, False), (3, False), (4, True), (8, True)])
def test_a_float16_engine_needs_half_of_what_the_file_stores_in_float16(half, passes):
    names = [f"c{index}" for index in range(20)]
    nodes = NodeNames(frozenset(names), frozenset(), frozenset(), frozenset(names[8:]))
    proof = PrecisionProof(0, 0, 0, 0, Products(half, 0, 20 - half, 0))
    if passes:
        check_precision(proof, "fp16", nodes)
    else:
        with pytest.raises(CheckFailedError, match="not fp16"):
            check_precision(proof, "fp16", nodes)


def _with_types(kind: str, *nodes: str) -> str:
    """Return 8.6's recorded answer, with another type of the layers that compute these nodes."""
    values = read_recorded(RECORDED_8_6)
    for layer in values["Layers"]:
        if any(f"[ONNX Layer: {name}]" in layer["Metadata"] for name in nodes):
            for tensor in (*layer["Inputs"], *layer["Outputs"]):
                tensor["Format/Datatype"] = kind
    return json.dumps(values)


def test_the_tail_of_the_recorded_answer_is_float32():
    check_tail(RECORDED_8_6.read_bytes(), DEMO)
    # The head may be float16.
    check_tail(_with_types("Row major linear FP16 format", "node_matmul_2", "node_add_176"), DEMO)


@pytest.mark.parametrize("node", ["node_sum_4", "node_pow_1", "node_sum_5", "node_div"])
@pytest.mark.parametrize(("kind", "word"), [("Row major linear FP16 format", "float16"), ("Int8", "int8")])
def test_a_narrow_layer_of_the_tail_is_refused(node, kind, word):
    with pytest.raises(CheckFailedError, match=f"norm in {word} .*{node}.*expected float32") as caught:
        check_tail(_with_types(kind, node), DEMO)
    assert "\n" not in caught.value.message


def test_a_tail_without_types_is_refused():
    for unknown in (RECORDED_8_6_WITHOUT_SHAPES.read_bytes(), _layer()):
        with pytest.raises(CheckFailedError, match="norm cannot be proved"):
            check_tail(unknown, DEMO)


def test_a_layer_that_casts_to_the_tail_may_read_float16():
    check_tail(RECORDED_RTX.read_bytes(), DEMO)
    values = read_recorded(RECORDED_RTX)
    values["Layers"][-1]["Outputs"][0]["Datatype"] = "Half"
    with pytest.raises(CheckFailedError, match="norm in float16"):
        check_tail(json.dumps(values), DEMO)


def test_node_names_of_an_int8_file(tmp_path):
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], "to_float", to=TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["float", "s"], ["q"], "quantise"),
        helper.make_node("DequantizeLinear", ["q", "s"], ["dq"], "dequantise"),
        helper.make_node("Conv", ["dq", "w"], ["c1"], "conv_int8"),
        helper.make_node("Relu", ["c1"], ["r1"], "relu_between"),
        helper.make_node("Conv", ["r1", "w"], ["c2"], "conv_float"),
        helper.make_node("MatMul", ["c2", "m"], ["f"]),  # without a name
        helper.make_node("Add", ["f", "r1"], ["sum"], "add"),
        helper.make_node("ReduceL2", ["sum"], ["norm"], "norm"),
        helper.make_node("Div", ["sum", "norm"], ["descriptors"], "divide"),
    ]
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(helper.make_graph(nodes, "g", [], [])).SerializeToString())
    assert read_node_names(path) == NodeNames(
        products=frozenset({"conv_int8", "conv_float"}),
        quantised=frozenset({"conv_int8"}),
        tail=frozenset({"add", "norm", "divide"}),  # not relu_between: products follow it
    )
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelFileError, match="damaged"):
        read_node_names(path)


def test_node_names_of_a_float32_file(tmp_path):
    names = read_node_names(save_tiny_model(tmp_path / "m.onnx"))
    assert names.products == {"node_matmul"}
    assert names.tail == {"node_sum_5", "node_clamp_min", "node_div"}
    assert names.quantised_share == 0
    assert (names.singles, names.half_share) == (names.products, 0)
