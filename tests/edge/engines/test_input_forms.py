"""Models that take float32 planes: every engine feeds them the pixels that the uint8 form gets."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnxruntime
import pytest

from rrid_edge.engines import Engine, FakeEngine, open_engine
from rrid_edge.engines.base import model_input
from rrid_edge.engines.fake import fake_spec
from rrid_edge.engines.onnxruntime.cuda import OnnxRuntimeCudaEngine
from rrid_edge.engines.tensorrt.engine import TensorRTEngine
from rrid_edge.errors import ModelFileError, UsageError
from rrid_edge.model.engine_sidecar import EngineSidecar
from rrid_edge.model.names import sidecar_path
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.spec import FLOAT32_NCHW, UINT8_NHWC, ModelSpec
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.settings import BuildSettings
from support.commands import rrid_edge
from support.onnx_models import save_changed_model, save_tiny_model, tiny_model
from support.onnxruntime_standin import install_onnxruntime
from support.tensorrt_behaviour import install
from support.tensorrt_standin import VERSIONS

SPEC = fake_spec()
PLANES = SPEC.with_input(FLOAT32_NCHW)


def _images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SPEC.height_px, SPEC.width_px, 3), dtype=np.uint8)


def test_planes_hold_the_pixels_pixel_by_pixel():
    images = _images(2)[:, ::-1]
    planes = model_input(images, FLOAT32_NCHW)
    assert (planes.dtype, planes.shape) == (np.dtype(np.float32), (2, *PLANES.input_shape))
    assert planes.flags.c_contiguous
    for place in np.random.default_rng(1).integers(0, (2, SPEC.height_px, SPEC.width_px, 3), (200, 4)).tolist():
        image, row, column, colour = place
        assert planes[image, colour, row, column] == float(images[image, row, column, colour])
    assert model_input(_images(1), UINT8_NHWC).dtype == np.uint8


@pytest.mark.parametrize("runtime", ["fake", "onnxruntime", "openvino"])
def test_both_forms_give_the_same_descriptors(tmp_path, runtime):
    found = []
    for spec in (SPEC, PLANES):
        if runtime == "fake":
            engine: Engine = FakeEngine(spec, max_batch=4)
        else:
            precision = "fp32" if runtime == "openvino" else None
            path = save_tiny_model(tmp_path / "m.onnx", spec)
            engine = open_engine(path, runtime, precision=precision, max_batch=4, threads=1)
        with engine:
            assert engine.spec == spec
            found.append([engine.run(images) for images in (_images(0), _images(1), _images(9), _images(6)[::2, ::-1])])
            with pytest.raises(UsageError, match="expected uint8"):  # the image contract is that of every engine
                engine.run(model_input(_images(1), FLOAT32_NCHW))
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_a_file_with_planes_takes_them_from_other_programs(tmp_path):
    """ONNX Runtime alone, with planes of pixels from 0 to 255, as DeepStream's plugins make them."""
    path, images = save_tiny_model(tmp_path / "m.onnx", PLANES), _images(3)
    planes = np.stack([images[..., colour] for colour in range(3)], axis=1).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with open_engine(save_tiny_model(tmp_path / "n.onnx", SPEC), "onnxruntime") as engine:
        expected = engine.run(images)
    np.testing.assert_allclose(session.run(["descriptors"], {"images": planes})[0], expected, atol=1e-6)


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_tensorrt_takes_planes(monkeypatch, tmp_path, version):
    world = install(monkeypatch, version)
    spec = PLANES.with_precision("fp16")
    path = save_tiny_model(tmp_path / "rrid.nchw.fp16.onnx", spec)
    engine_path = tmp_path / "rrid.nchw.fp16.engine"
    build_engine(path, engine_path, BuildSettings(opt_batch=2, max_batch=4))
    assert EngineSidecar.read(engine_path).spec == spec
    entry = json.loads(sidecar_path(engine_path).read_text())["input"]
    assert entry == {"name": "images", "dtype": "float32", "shape": ["batch", 3, 192, 64]}
    with TensorRTEngine(engine_path) as engine:
        for seed, count in enumerate((1, 4, 3, 9, 4, 3, 4, 3)):
            images = _images(count, seed)
            np.testing.assert_array_equal(engine.run(images), FakeEngine(spec).run(images))
    assert world.cuda.live == 0
    assert "float32 (batch, 3, 192, 64), RGB" in rrid_edge("info", engine_path).out


def test_an_engine_of_the_other_form_is_refused(monkeypatch, tmp_path):
    install(monkeypatch, VERSIONS[-1])
    engine_path = tmp_path / "rrid.fp32.engine"
    build_engine(save_tiny_model(tmp_path / "rrid.onnx", SPEC), engine_path)
    sidecar = EngineSidecar.read(engine_path)
    dataclasses.replace(sidecar, spec=PLANES).write(engine_path)
    with pytest.raises(ModelFileError, match=r"expected images float32 \[batch, 3, 192, 64\] and descriptors"):
        TensorRTEngine(engine_path)


def test_onnx_runtime_on_a_gpu_takes_planes(monkeypatch, tmp_path):
    world = install_onnxruntime(monkeypatch, PLANES)
    with OnnxRuntimeCudaEngine(save_tiny_model(tmp_path / "m.onnx", PLANES), max_batch=4) as engine:
        for count in (1, 4, 9):
            np.testing.assert_array_equal(engine.run(_images(count)), FakeEngine(SPEC).run(_images(count)))
    assert world.cuda.live == 0


@pytest.mark.parametrize(("graph", "stored"), [(SPEC, PLANES), (PLANES, SPEC)], ids=["uint8", "planes"])
def test_metadata_that_contradict_the_graph_are_refused(tmp_path, graph, stored):
    path = save_changed_model(tmp_path / "m.onnx", tiny_model(graph), stored)
    expected = f"expected images {stored.input_dtype} .*found images {graph.input_dtype}"
    with pytest.raises(ModelFileError, match=f"the graph contradicts its metadata: {expected}"):
        read_spec(path)


def test_the_form_is_metadata_and_absent_means_uint8():
    metadata = PLANES.to_metadata()
    assert metadata["rrid.input"] == "float32-nchw"
    assert ModelSpec.from_metadata(metadata, where="x") == PLANES
    del metadata["rrid.input"]
    assert ModelSpec.from_metadata(metadata, where="x") == SPEC
    with pytest.raises(ModelFileError, match="damaged metadata of the model"):
        ModelSpec.from_metadata(metadata | {"rrid.input": "float16-nchw"}, where="x")
    assert (PLANES.fingerprint, PLANES.dimension) == (SPEC.fingerprint, SPEC.dimension)
