"""Tests of real engines on a real GPU: ``pytest -m gpu``. Without GPU or TensorRT, every test is skipped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import compare_graphs
from rrid_edge.engines.cuda import Cuda
from rrid_edge.engines.tensorrt.api import load_tensorrt
from rrid_edge.engines.tensorrt.engine import TensorRTEngine
from rrid_edge.errors import MissingDependencyError, ModelFileError
from rrid_edge.model.names import sidecar_path
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.settings import BuildSettings
from support.half_model import half_reference, half_spec, save_half_model, smooth_images

pytestmark = pytest.mark.gpu
SETTINGS = BuildSettings(opt_batch=4, max_batch=8, workspace_mib=1024)


def _need_tensorrt() -> None:
    try:
        Cuda()
        load_tensorrt()
    except MissingDependencyError as error:
        pytest.skip(error.message)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    _need_tensorrt()
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def half_path(folder) -> Path:
    path = folder / "rrid.fp16.engine"
    build_engine(save_half_model(folder / "rrid.fp16.onnx"), path, SETTINGS)
    return path


@pytest.fixture(scope="module")
def single_path(folder) -> Path:
    path = folder / "rrid.fp32.engine"
    build_engine(save_half_model(folder / "rrid.onnx", "fp32"), path, SETTINGS)
    return path


@pytest.fixture
def engine(half_path):
    with TensorRTEngine(half_path) as opened:
        yield opened


def _min_cosine(found: np.ndarray, expected: np.ndarray) -> float:
    return float((found.astype(np.float64) * expected).sum(axis=1).min())


def test_fp16_engine_agrees_with_numpy(engine):
    images = smooth_images(64)
    found, expected = engine.run(images), half_reference(images)
    assert _min_cosine(found, expected) >= 0.999
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    products = engine.sidecar.proof.products
    assert products is not None
    assert products.half > products.total / 2


def test_fp32_engine_agrees_with_numpy(single_path):
    images = smooth_images(64)
    with TensorRTEngine(single_path) as engine:
        assert _min_cosine(engine.run(images), half_reference(images)) >= 0.99999
        products = engine.sidecar.proof.products
        assert products is not None
        assert products.single == products.total > 0


def test_split_beyond_the_profile(engine):
    images = smooth_images(29, seed=1)
    alone = np.concatenate([engine.run(image[None]) for image in images])
    assert _min_cosine(engine.run(images), alone) >= 0.99999
    assert engine.run(images[:0]).shape == (0, half_spec().dimension)


def test_descriptor_depends_neither_on_neighbours_nor_on_position(engine):
    image, others = smooth_images(1, seed=2), smooth_images(8, seed=3)
    alone = engine.run(image)
    for batch in (2, 5, 8):
        for position in range(batch):
            images = others[:batch].copy()
            images[position] = image
            assert _min_cosine(engine.run(images)[position : position + 1], alone) >= 0.99999


def test_graphs_answer_like_the_ordinary_way(half_path):
    images = smooth_images(8, seed=4)
    with TensorRTEngine(half_path) as replayed, TensorRTEngine(half_path, graphs=False) as ordinary:
        for round_number in range(4):
            for count in (1, 8, 3, 5):
                batch = images[round_number % 3 :][:count]
                np.testing.assert_allclose(replayed.run(batch), ordinary.run(batch), atol=1e-6)
        assert replayed.graph_batches
        assert ordinary.graph_batches == ()


def test_graphs_on_both_slots_answer_like_the_ordinary_way(half_path):
    found = compare_graphs.compare(half_path, rounds=4)
    assert found.wrong(1e-6) == []
    assert found.graph_batches


@pytest.mark.parametrize(
    "options",
    [{"version_compatible": True, "exclude_lean_runtime": True}, {"strongly_typed": False}, {"optimization_level": 1}],
    ids=["lean left out", "weak typing", "level 1"],
)
def test_engines_of_other_options_agree_with_numpy(folder, half_path, options):
    if "strongly_typed" in options and load_tensorrt().__version__.startswith("11."):
        pytest.skip("TensorRT 11 has no weak typing")
    path = folder / "options.engine"
    build_engine(folder / "rrid.fp16.onnx", path, BuildSettings(opt_batch=4, max_batch=8, **options))
    images = smooth_images(9, seed=7)
    with TensorRTEngine(path) as engine:
        assert _min_cosine(engine.run(images), half_reference(images)) >= 0.999


def test_a_thousand_calls_use_no_more_memory(engine):
    images = smooth_images(20, seed=5)
    for _ in range(5):
        engine.run(images)
    before = Cuda().free_memory_bytes()
    for call in range(1000):
        engine.run(images[: 1 + call % 3])
    assert before - Cuda().free_memory_bytes() < 64 << 20  # room for a few graphs and other processes on this GPU


def test_foreign_and_damaged_engines_are_refused(half_path, tmp_path):
    path = tmp_path / half_path.name
    sidecar = json.loads(sidecar_path(half_path).read_text())
    path.write_bytes(half_path.read_bytes()[: half_path.stat().st_size // 2])
    sidecar_path(path).write_text(json.dumps(sidecar))
    with pytest.raises(ModelFileError, match="damaged"):
        TensorRTEngine(path)
    path.write_bytes(half_path.read_bytes())
    for key, value in (("gpu", "another GPU"), ("compute_capability", "5.2"), ("tensorrt", "8.6.1")):
        sidecar_path(path).write_text(json.dumps(sidecar | {key: value}))
        with pytest.raises(ModelFileError, match="build it for this machine"):
            TensorRTEngine(path)


def test_a_stripped_engine_runs_with_its_onnx(folder, half_path):
    if load_tensorrt().__version__.startswith("8."):
        pytest.skip("TensorRT 8.6 strips no weights")
    path = folder / "stripped.engine"
    sidecar = build_engine(folder / "rrid.fp16.onnx", path, BuildSettings(opt_batch=4, max_batch=8, strip_weights=True))
    images = smooth_images(4, seed=6)
    with TensorRTEngine(path) as engine:
        assert _min_cosine(engine.run(images), half_reference(images)) >= 0.999
    assert sidecar.flags.strip_weights


def test_onnxruntime_cuda_agrees_with_numpy(tmp_path):
    from rrid_edge.engines.onnxruntime.cuda import OnnxRuntimeCudaEngine

    path, images = save_half_model(tmp_path / "rrid.onnx", "fp32"), smooth_images(20)
    try:
        engine = OnnxRuntimeCudaEngine(path, max_batch=8)
    except MissingDependencyError as error:
        pytest.skip(error.message)
    with engine:
        for _ in range(3):
            assert _min_cosine(engine.run(images), half_reference(images)) >= 0.99999
