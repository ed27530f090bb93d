"""NVIDIA's real parser and builder on the project's own files, without a GPU: TensorRT for RTX 1.7.1.116 (API of 11).

It proves that the files parse and build and which types the network has. Kernels do not run here. TensorRT for RTX
1.4.0.76 (API of 10) has an environment of its own: ``tools/check_tensorrt10_builder.py``.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from rrid_edge.engines.opening import open_engine
from rrid_edge.engines.tensorrt.api import generation, load_tensorrt_rtx
from rrid_edge.engines.tensorrt.log import make_logger
from rrid_edge.errors import CheckFailedError, MissingDependencyError, ModelFileError
from rrid_edge.files import sha256_of_file
from rrid_edge.machine.rtx import rtx_machine
from rrid_edge.model.choice import choose_model
from rrid_edge.model.engine_sidecar import EngineSidecar, Products
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.rtx_target import RtxTarget
from rrid_export.tensorrt.build import build_engine, load_timing_cache
from rrid_export.tensorrt.network import configure, parse_network
from rrid_export.tensorrt.network_types import count_network
from rrid_export.tensorrt.progress import PROGRESS_TOTAL
from rrid_export.tensorrt.settings import BuildSettings
from support.commands import refused, rrid_edge
from support.int8 import FORMS
from support.networks import narrow_source
from support.progress import CountedProgress
from support.real_networks import (
    check_every_node,
    expected_products,
    int8_models,
    random_source,
    write_model,
    write_traced,
)
from support.tensorrt_recording import recorded
from support.tensorrt_standin import read_api

pytest.importorskip(
    "tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed (pip install 'rrid-edge[gpu-proof]')"
)

RTX = BuildSettings(rtx=RtxTarget())
without_gpu = pytest.mark.skipif(rtx_machine() is not None, reason="this machine has a GPU")


@pytest.fixture(scope="module")
def trt() -> ModuleType:
    return load_tensorrt_rtx()


@pytest.fixture(scope="module")
def files(narrow_export, planes_export, tmp_path_factory) -> dict[str, Path]:
    """Return the narrow network as ONNX files: fp32, fp16, float32 planes, and every form of int8."""
    folder = tmp_path_factory.mktemp("narrow")
    found = {"fp32": narrow_export / "rrid.onnx", "fp16": narrow_export / "rrid.fp16.onnx"}
    found["planes"] = next(planes_export.glob("*.nchw.onnx"))
    made = int8_models(found["fp32"])
    return found | {name: write_model(folder / f"{name}.onnx", model, spec) for name, model, spec in made}


@pytest.fixture(scope="module")
def built(files, tmp_path_factory) -> Callable[[str], tuple[EngineSidecar, Path, CountedProgress]]:
    """Return a function that builds a file of the narrow network, once: sidecar, engine and progress."""
    folder = tmp_path_factory.mktemp("built")

    @functools.cache
    def build(name: str) -> tuple[EngineSidecar, Path, CountedProgress]:
        engine, progress = folder / f"{name}.rtx", CountedProgress()
        return build_engine(files[name], engine, RTX, progress=progress), engine, progress

    return build


@dataclass
class Parsed:
    """A parsed network, with what must stay alive."""

    network: Any
    parser: Any
    builder: Any
    errors: list[str]


def _parse(trt: ModuleType, path: Path) -> Parsed:
    errors: list[str] = []
    logger = make_logger(trt, errors)
    builder = trt.Builder(logger)
    network, parser = parse_network(trt, builder, logger, path, RTX)
    return Parsed(network, parser, builder, errors)


NARROW = ("fp32", "fp16", "planes", *FORMS, "int8 with float layers")


def test_the_recorded_api_is_that_of_the_real_bindings(trt):
    api = read_api(f"rtx_{trt.__version__}")
    assert recorded(trt, list(api)) == api
    assert generation(trt) == 11


@pytest.mark.parametrize("name", NARROW)
def test_every_node_becomes_layers_of_its_type(trt, files, name):
    assert check_every_node(trt, files[name], RTX) > 80


@pytest.mark.parametrize("name", NARROW)
def test_the_network_builds_in_its_precision(files, built, name):
    sidecar, engine, progress = built(name)
    assert EngineSidecar.read(engine).plan_sha256 == sidecar.plan_sha256 == sha256_of_file(engine)
    assert sidecar.proof.products == expected_products(files[name], sidecar.spec.precision)
    assert progress.done == PROGRESS_TOTAL
    assert len(progress.steps) > 2


def test_a_file_of_float16_gives_half_a_plan(built):
    assert built("fp16")[0].plan_bytes <= 0.55 * built("fp32")[0].plan_bytes
    assert built("int8")[0].plan_bytes < built("fp16")[0].plan_bytes


def test_ctrl_c_ends_the_real_build(files, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build_engine(files["fp32"], tmp_path / "m.rtx", RTX, progress=CountedProgress(interrupted_at=1))
    assert list(tmp_path.iterdir()) == []


def test_named_gpus_change_the_plan(files, built, tmp_path):
    settings = BuildSettings(rtx=RtxTarget.of(("7.5", "8.9")))
    both = build_engine(files["fp16"], tmp_path / "m.rtx", settings)
    assert both.plan_bytes > built("fp16")[0].plan_bytes  # kernels of Turing are other ones
    assert both.rtx is not None
    assert both.rtx.target.compute_capabilities == ("7.5", "8.9")


def test_the_calls_for_a_timing_cache_work_on_the_api_of_11(trt, files, tmp_path):
    """Builds for RTX do not use one: NVIDIA calls it a no-op there. The calls are those of TensorRT 11."""
    parsed = _parse(trt, files["fp16"])
    config = configure(trt, parsed.builder, parsed.network, read_spec(files["fp16"]), RTX)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        load_timing_cache(trt, config, tmp_path / "none.timing")
        content = bytes(config.get_timing_cache().serialize())
        (tmp_path / "kept.timing").write_bytes(content)
        load_timing_cache(trt, config, tmp_path / "kept.timing")
        assert bytes(config.get_timing_cache().serialize()) == content
    assert len(content) > 100


@without_gpu
def test_without_a_gpu_the_real_library_refuses_to_load_in_one_line(monkeypatch, files, tmp_path):
    monkeypatch.setattr("rrid_export.tensorrt.build.gpu_is_here", lambda _target: True)
    with pytest.raises(MissingDependencyError, match=r"refused loading the engine it just built .*driver"):
        build_engine(files["fp16"], tmp_path / "m.rtx", RTX)
    assert list(tmp_path.iterdir()) == []


@without_gpu
def test_the_command_builds_here_and_opening_says_what_is_missing(files, tmp_path):
    done = rrid_edge("export", files["fp16"], "--for", "rtx", "--output", tmp_path, "--json")
    assert done.code == 0, done
    engine = Path(json.loads(done.out)["engine"])
    assert {path.name for path in tmp_path.iterdir()} == {engine.name, f"{engine.name}.json"}
    assert rrid_edge("info", engine).code == 0
    with pytest.raises(MissingDependencyError):
        open_engine(engine)
    refused(rrid_edge("parity", engine), 3, "no NVIDIA GPU answers here")


@without_gpu
def test_a_checkpoint_becomes_an_engine_for_rtx(monkeypatch, narrow_export, tmp_path):
    """The README's command. The network was traced before; all other steps run."""
    (tmp_path / "narrow.pth").touch()
    traced = {torch.float32: "rrid.onnx", torch.float16: "rrid.fp16.onnx"}
    monkeypatch.setattr("rrid_export.source.load_source", lambda _path, **_size: narrow_source())
    monkeypatch.setattr(
        "rrid_export.onnx.trace_branch", lambda branch: onnx.load(narrow_export / traced[branch.compute_dtype])
    )
    done = rrid_edge("export", tmp_path / "narrow.pth", "--fp16", "--for", "rtx", "--output", tmp_path / "models")
    assert done.code == 0, done
    engine = tmp_path / "models" / "rrid.fp16.rtx"
    assert f"{engine}: fp16 engine for RTX" in done.out
    assert "built ahead of time and not run" in done.err
    assert EngineSidecar.read(engine).onnx_name == "rrid.fp16.onnx"
    assert choose_model(None, folder=engine.parent)[0].name == "rrid.onnx"  # no RTX GPU is here
    refused(rrid_edge("index", narrow_export, "--model", engine), 3, "no NVIDIA GPU answers here")


# -- what must be refused ---------------------------------------------------------------------------------------------


def _transposed_first(graph: Any) -> None:
    """Transpose the uint8 pixels before they are cast."""
    cast, transpose = graph.node[0], graph.node[1]
    assert (cast.op_type, transpose.op_type) == ("Cast", "Transpose")
    transpose.input[0], cast.input[0] = cast.input[0], "pixels"
    cast.output[0], transpose.output[0] = transpose.output[0], "pixels"
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (transpose, cast, *graph.node[2:])]
    del graph.node[:]
    graph.node.extend(nodes)


def _float32_weights(graph: Any) -> None:
    """Leave one convolution's weights in float32, between float16 layers."""
    weight = next(node.input[1] for node in graph.node if node.op_type == "Conv")
    tensor = next(tensor for tensor in graph.initializer if tensor.name == weight)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), weight))


def _unknown_operator(graph: Any) -> None:
    next(node for node in graph.node if node.op_type == "Relu").op_type = "Unheard"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_transposed_first, r"\(Transpose\).*UInt8"),
        (_float32_weights, r"\(Conv\).*must be of same type"),
        (_unknown_operator, r"\(Unheard\)"),
    ],
)
def test_the_real_parser_refuses_and_names_the_node(trt, files, tmp_path, change, complaint):
    path = _changed(files["fp16"], tmp_path / "m.onnx", change)
    with pytest.raises(ModelFileError, match=complaint):
        build_engine(path, tmp_path / "m.rtx", RTX)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def _changed(source: Path, path: Path, change: Callable[[Any], None]) -> Path:
    model, spec = onnx.load(source), read_spec(source)
    change(model.graph)
    del model.graph.value_info[:]
    del model.metadata_props[:]
    return write_model(path, model, spec)


def test_a_tail_in_float16_parses_but_is_refused(trt, files, tmp_path):
    """The parser takes a file without the cast before the norm, and rounds its 1e-12 to 0 without a word."""

    def drop_last_cast(graph: Any) -> None:
        to_float = [node for node in graph.node if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT]
        cast = to_float[-1]
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name == cast.output[0]:
                    node.input[index] = cast.input[0]
        graph.node.remove(cast)

    path = _changed(files["fp16"], tmp_path / "m.onnx", drop_last_cast)
    parsed = _parse(trt, path)
    with pytest.raises(CheckFailedError, match="after the last products computes in half"):
        count_network(trt, parsed.network)
    with pytest.raises(CheckFailedError, match="overflows in float16"):
        build_engine(path, tmp_path / "m.rtx", RTX)


def test_this_parser_needs_no_shape_of_the_kernel(files, tmp_path):
    """TensorRT 8.6 and 10.0 to 10.3 do (tests/calib/test_operator_rules.py); this parser cannot be their control."""

    def forget_kernels(graph: Any) -> None:
        for node in graph.node:
            kept = [item for item in node.attribute if node.op_type != "Conv" or item.name != "kernel_shape"]
            del node.attribute[:]
            node.attribute.extend(kept)

    path = _changed(files["int8"], tmp_path / "m.onnx", forget_kernels)
    assert build_engine(path, tmp_path / "m.rtx", RTX).proof.products is not None


# -- whole networks ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "products", "half"), [("resnet18", 23, False), ("resnet50", 56, True)])
def test_whole_networks_build_in_every_form(tmp_path, backbone, products, half):
    """Random weights at 384 x 128. One form is on disk at a time: the files of a ResNet-50 have up to 165 MB.

    The narrow network above is a ResNet-18, in float16 too. ``tools/check_tensorrt10_builder.py`` builds a whole one.
    """
    source = random_source(backbone)
    fp32 = write_traced(tmp_path / "fp32.onnx", source, "fp32")
    built = {"fp32": build_engine(fp32, tmp_path / "m.rtx", RTX)}
    forms = list(int8_models(fp32))[: len(FORMS)]
    fp32.unlink()
    for name, model, spec in forms:
        built[name] = build_engine(write_model(tmp_path / "int8.onnx", model, spec), tmp_path / "m.rtx", RTX)
    del forms
    counted = {name: sidecar.proof.products for name, sidecar in built.items()}
    assert counted["fp32"] == Products(0, 0, products, 0)
    # Both steps of a fine head have the same weights: the builder makes one int8 layer of the two products.
    assert [counted[name] for name in FORMS] == [Products(0, products, 0, 0)] * 3
    assert all(built[name].plan_bytes < 0.35 * built["fp32"].plan_bytes for name in FORMS)
    if half:
        fp16 = build_engine(write_traced(tmp_path / "fp16.onnx", source, "fp16"), tmp_path / "m.rtx", RTX)
        assert fp16.plan_bytes <= 0.55 * built["fp32"].plan_bytes
        assert fp16.proof.products == Products(products, 0, 0, 0)
