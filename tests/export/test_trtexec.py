"""The trtexec command: every setting has its flag, for each version of TensorRT."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from rrid_edge.engines.cuda import Cuda
from rrid_edge.engines.fake import fake_spec
from rrid_edge.engines.tensorrt.api import load_tensorrt_rtx
from rrid_edge.engines.tensorrt.log import make_logger
from rrid_edge.errors import MissingDependencyError, ModelFileError, UsageError
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.rtx_target import RtxTarget
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME
from rrid_export.tensorrt.network import configure, parse_network
from rrid_export.tensorrt.settings import BuildSettings
from rrid_export.trtexec import SETTINGS, tail_nodes, trtexec_command
from support.commands import refused, rrid_edge
from support.onnx_models import save_changed_model, save_tiny_model, tiny_model
from support.tensorrt_behaviour import install

TAIL = "norm:fp32,squares:fp32"


@pytest.fixture
def onnx_path(tmp_path):
    return save_tiny_model(tmp_path / "rrid.fp16.onnx", fake_spec().with_precision("fp16"))


def _command(onnx_path: Path, version: str = "10", **settings):
    engine = onnx_path.with_name("rrid.fp16.engine")
    return trtexec_command(onnx_path, engine, BuildSettings(**settings), version=version)


def _flags(onnx_path: Path, version: str = "10", **settings) -> set[str]:
    return set(_command(onnx_path, version, **settings).arguments)


def _half_model(path: Path, precision: str = "fp16", names=("norm", "squares")) -> Path:
    """An ONNX file whose tail, after the cast back to float32, are two nodes of these names."""
    spec = fake_spec().with_precision(precision)
    model = tiny_model(spec)
    graph = model.graph
    norm, square = (next(node for node in graph.node if node.op_type == kind) for kind in ("Div", "ReduceL2"))
    larger = next(node for node in graph.node if node.op_type == "Max")
    back = helper.make_node("Cast", ["features"], ["features32"], name="back", to=TensorProto.FLOAT)
    graph.node.insert(list(graph.node).index(square), back)
    for node in (norm, square):
        node.input[:] = ["features32" if name == "features" else name for name in node.input]
    norm.name, square.name, larger.name = names[0], names[1], ""
    norm.input[1] = "norm"
    graph.node.remove(larger)
    return save_changed_model(path, model, spec)


def test_the_whole_command(onnx_path):
    folder = onnx_path.parent
    assert _command(onnx_path).arguments == (
        "trtexec",
        f"--onnx={onnx_path}",
        f"--saveEngine={folder / 'rrid.fp16.engine'}",
        "--minShapes=images:1x192x64x3",
        "--optShapes=images:8x192x64x3",
        "--maxShapes=images:32x192x64x3",
        "--memPoolSize=workspace:1024",
        "--stronglyTyped",
        "--noTF32",
        f"--timingCacheFile={folder / 'trtexec-10.timing'}",
        "--profilingVerbosity=detailed",
        "--skipInference",
    )


def test_the_printed_lines_are_the_command(tmp_path):
    path = save_tiny_model(tmp_path / "a model's.onnx")
    command = trtexec_command(path, tmp_path / "a model's.fp32.engine", version="11")
    lines = command.lines()
    assert tuple(shlex.split("\n".join(lines).replace("\\\n", ""))) == command.arguments
    assert all(line.endswith(" \\") for line in lines[:-1])


CHANGES = {
    "min_batch": (2, {"--minShapes=images:2x192x64x3"}, {"--minShapes=images:1x192x64x3"}),
    "opt_batch": (4, {"--optShapes=images:4x192x64x3"}, {"--optShapes=images:8x192x64x3"}),
    "max_batch": (16, {"--maxShapes=images:16x192x64x3"}, {"--maxShapes=images:32x192x64x3"}),
    "workspace_mib": (64, {"--memPoolSize=workspace:64"}, {"--memPoolSize=workspace:1024"}),
    "precision": ("fp16", set(), set()),
    "timing_cache_folder": (Path("cache"), {"--timingCacheFile=cache/trtexec-10.timing"}, None),
    "optimization_level": (5, {"--builderOptimizationLevel=5"}, set()),
    "strongly_typed": (False, {"--fp16", "--precisionConstraints=obey"}, {"--stronglyTyped"}),
    "version_compatible": (True, {"--versionCompatible"}, set()),
    "exclude_lean_runtime": (True, {"--excludeLeanRuntime"}, set()),
    "hardware_compatible": (True, {"--hardwareCompatibilityLevel=ampere+"}, set()),
    "strip_weights": (True, {"--stripWeights"}, set()),
    "tf32": (True, set(), {"--noTF32"}),
}
"""Setting -> another value, the flags that it adds, and those that it takes away (None: the cache's other place)."""


def test_every_setting_has_a_decision():
    names = {item.name for item in fields(BuildSettings)}
    assert set(SETTINGS) == names
    assert set(CHANGES) | {"rtx"} == names


def test_trtexec_does_not_build_for_rtx(onnx_path):
    with pytest.raises(UsageError, match="not of TensorRT for RTX"):
        _flags(onnx_path, "10", rtx=RtxTarget())


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_changes_its_flags_only(onnx_path, name):
    value, added, removed = CHANGES[name]
    needed = {"version_compatible": True} if name == "exclude_lean_runtime" else {}
    plain, changed = _flags(onnx_path, "10", **needed), _flags(onnx_path, "10", **needed, **{name: value})
    if name == "strongly_typed":
        changed = {flag for flag in changed if not flag.startswith("--layer")}
    assert changed - plain == added
    if removed is not None:
        assert plain - changed == removed


def test_the_types_come_from_the_file_where_the_version_takes_them(onnx_path):
    assert "--stronglyTyped" in _flags(onnx_path, "10.3.0")
    for version in ("8.6", "11", "11.4.0.106"):
        assert "--stronglyTyped" not in _flags(onnx_path, version)
    assert not {"--fp16", "--int8"} & (_flags(onnx_path, "10") | _flags(onnx_path, "11"))


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("fp16", ["--fp16", "--precisionConstraints=obey"]),
        ("int8", ["--fp16", "--int8", "--precisionConstraints=prefer"]),
    ],
)
def test_flags_choose_the_precision_in_8_6_and_hold_the_tail(tmp_path, precision, expected):
    path = _half_model(tmp_path / "m.onnx", precision)
    command = _command(path, "8.6")
    start = command.arguments.index("--fp16")
    held = [f"--layerPrecisions={TAIL}", f"--layerOutputTypes={TAIL}"]
    assert list(command.arguments[start : start + len(expected) + 2]) == expected + held
    (remark,) = command.remarks
    assert "names some layers by itself" in remark
    assert _command(path, "10").remarks == ()


def test_a_float32_model_needs_no_flags_of_types_in_8_6(tmp_path):
    path = save_tiny_model(tmp_path / "rrid.onnx")
    command = _command(path, "8.6")
    assert not any("fp16" in flag.removeprefix("--saveEngine") for flag in command.arguments[3:])
    assert not any(flag.startswith(("--layer", "--precision")) for flag in command.arguments)
    assert command.remarks == ()


def test_names_that_trtexec_cannot_take_are_told(tmp_path):
    path = _half_model(tmp_path / "m.onnx", names=("norm", "a,b:c"))
    command = _command(path, "8.6")
    assert "--layerPrecisions=norm:fp32" in command.arguments
    assert "1 nodes of the tail have no name that trtexec takes" in command.remarks


def test_the_tail_ends_at_casts_and_convolutions(tmp_path):
    assert sorted(tail_nodes(_half_model(tmp_path / "a.onnx"))) == ["norm", "squares"]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("DequantizeLinear", ["q", "s"], ["d"], name="dequantise"),
        helper.make_node("Add", ["c", "d"], ["sum"], name="add"),
        helper.make_node("Split", ["sum"], ["left", "right"], name="split"),
        helper.make_node("Mul", ["left", "right"], [OUTPUT_NAME], name="mul"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (INPUT_NAME, OUTPUT_NAME)]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]))
    onnx.save_model(model, str(tmp_path / "b.onnx"))
    assert sorted(tail_nodes(tmp_path / "b.onnx")) == ["add", "mul", "split"]


def test_a_damaged_file_is_refused(tmp_path, onnx_path):
    (tmp_path / "bad.onnx").write_bytes(b"\x3a\xff\xff\x01abc")
    with pytest.raises(ModelFileError, match="not an ONNX file, or damaged"):
        tail_nodes(tmp_path / "bad.onnx")
    onnx_path.write_bytes(onnx_path.read_bytes()[:-40])
    with pytest.raises(ModelFileError):
        _command(onnx_path)


@pytest.mark.parametrize(
    ("version", "settings", "complaint"),
    [
        ("8.5", {}, "expected 8.6, 10 or 11"),
        ("9", {}, "expected 8.6, 10 or 11"),
        ("new", {}, "TensorRT 'new' is not a version"),
        ("8.6", {"strip_weights": True}, "expected 10 or later"),
        ("11", {"strongly_typed": False}, "leave strong typing on"),
        ("10", {"precision": "int8"}, "stored in fp16, not in int8"),
    ],
)
def test_what_a_version_lacks_is_refused(onnx_path, version, settings, complaint):
    with pytest.raises(UsageError, match=complaint):
        _command(onnx_path, version, **settings)


def test_the_command_line_prints_the_command_and_writes_nothing(onnx_path):
    before = sorted(onnx_path.parent.iterdir())
    outcome = rrid_edge("export", onnx_path, "--print-trtexec", "--trtexec-version", "8.6", "--max-batch", 16)
    assert outcome.code == 0, outcome
    words = shlex.split(outcome.out.replace("\\\n", ""))
    assert tuple(words) == _command(onnx_path, "8.6", max_batch=16).arguments
    assert "names some layers by itself" in outcome.err
    assert f"rrid-edge engine adopt {onnx_path.with_name('rrid.fp16.engine')} --onnx {onnx_path}" in outcome.err
    assert sorted(onnx_path.parent.iterdir()) == before


def test_the_command_is_that_of_the_installed_version(onnx_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    outcome = rrid_edge("export", onnx_path, "--print-trtexec", "--json")
    facts = json.loads(outcome.out)
    assert (facts["tensorrt"], facts["command"]) == ("10", list(_command(onnx_path).arguments))
    assert "no TensorRT is installed here" in outcome.err
    world = install(monkeypatch, "11.4.0.106")
    outcome = rrid_edge("export", onnx_path, "--print-trtexec", "--json")
    facts = json.loads(outcome.out)
    assert (facts["tensorrt"], facts["command"]) == ("11.4.0.106", list(_command(onnx_path, "11").arguments))
    assert world.configs == []


def test_folders_that_trtexec_will_not_find_are_told(onnx_path, tmp_path):
    new = (tmp_path / "a folder", tmp_path / "cache")
    outcome = rrid_edge("export", onnx_path, "--print-trtexec", "--output", new[0], "--timing-cache", new[1])
    assert outcome.code == 0, outcome
    assert f"--saveEngine={new[0] / 'rrid.fp16.engine'}" in shlex.split(outcome.out.replace("\\\n", ""))
    assert f"mkdir -p '{new[0]}'" in outcome.err
    assert f"mkdir -p {new[1]}" in outcome.err
    assert not any(folder.exists() for folder in new)


def test_only_an_onnx_file_has_a_command(tmp_path):
    refused(rrid_edge("export", tmp_path / "a.pth", "--print-trtexec"), 2, "trtexec builds from an ONNX file")
    path = save_tiny_model(tmp_path / "rrid.onnx")
    outcome = rrid_edge("export", path, "--print-trtexec", "--trtexec-version", "7")
    refused(outcome, 2, "expected 8.6, 10 or 11", "--trtexec-version")


FLAGS = {
    "FP16": "--fp16",
    "INT8": "--int8",
    "OBEY_PRECISION_CONSTRAINTS": "--precisionConstraints=obey",
    "PREFER_PRECISION_CONSTRAINTS": "--precisionConstraints=prefer",
    "VERSION_COMPATIBLE": "--versionCompatible",
    "EXCLUDE_LEAN_RUNTIME": "--excludeLeanRuntime",
    "STRIP_PLAN": "--stripWeights",
}
"""Flag of the builder -> flag of trtexec."""


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("version", ["8.6.0", "10.3.0", "11.4.0.106"])
def test_the_command_gives_the_builder_what_the_build_gives_it(monkeypatch, tmp_path, version, precision):
    world = install(monkeypatch, version)
    path = save_tiny_model(tmp_path / "m.onnx", fake_spec().with_precision(precision))
    settings: list[dict[str, Any]] = [
        {},
        {"version_compatible": True, "tf32": True},
        {"hardware_compatible": True, "optimization_level": 3},
    ]
    if version != "11.4.0.106":
        settings.append({"strongly_typed": False})
    if version != "8.6.0":
        settings.append({"strip_weights": True})
    Cuda()
    logger = make_logger(world.module, [])
    builder = world.module.Builder(logger)
    for chosen in settings:
        build = BuildSettings(**chosen)
        network, _parser = parse_network(world.module, builder, logger, path, build)
        config = configure(world.module, builder, network, read_spec(path), build)
        given = _flags(path, version, **chosen)
        assert {FLAGS[name] for name in config.fake_flag_names - {"TF32"}} == given & set(FLAGS.values())
        assert ("TF32" in config.fake_flag_names) == ("--noTF32" not in given)
        assert (network.fake_typed and version.startswith("10")) == ("--stronglyTyped" in given)
        level = getattr(config, "fake_builder_optimization_level", None)
        assert (level is None) == (not any(flag.startswith("--builderOptimizationLevel") for flag in given))
        assert (config.fake_hardware_compatibility_level.name == "AMPERE_PLUS") == (
            "--hardwareCompatibilityLevel=ampere+" in given
        )
        assert f"--memPoolSize=workspace:{config.fake_pools['WORKSPACE'] >> 20}" in given
        for which, shape in zip(("min", "opt", "max"), config.fake_profiles[0], strict=True):
            assert f"--{which}Shapes=images:{'x'.join(map(str, shape))}" in given


def test_the_real_parser_names_layers_by_the_nodes_of_the_tail(tmp_path):
    try:
        trt = load_tensorrt_rtx()
    except MissingDependencyError:
        pytest.skip("TensorRT for RTX is not installed")
    path = _half_model(tmp_path / "m.onnx")
    logger = make_logger(trt, [])
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(path))
    assert {"norm", "squares"} <= {network.get_layer(index).name for index in range(network.num_layers)}
