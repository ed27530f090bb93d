"""Execution contexts of an engine: one per CUDA graph, in one block of device memory, freed after the graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rrid_edge.engines import FakeEngine
from rrid_edge.engines.fake import fake_spec
from rrid_edge.engines.tensorrt.contexts import Context, SharedContexts
from rrid_edge.engines.tensorrt.engine import TensorRTEngine
from rrid_edge.errors import GpuFaultError, ModelFileError
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.settings import BuildSettings
from support.onnx_models import save_tiny_model
from support.tensorrt_behaviour import install

SPEC = fake_spec().with_precision("fp16")


def _build(folder: Path) -> Path:
    engine_path = folder / "rrid.fp16.engine"
    onnx_path = save_tiny_model(folder / "rrid.fp16.onnx", SPEC)
    build_engine(onnx_path, engine_path, BuildSettings(opt_batch=2, max_batch=4))
    return engine_path


def _check(engine: TensorRTEngine, counts: tuple[int, ...], rounds: int = 4) -> None:
    """Compare interleaved batches with answers that need no engine."""
    with FakeEngine(SPEC) as expected:
        for seed in range(rounds):
            for count in counts:
                generator = np.random.default_rng(100 * seed + count)
                images = generator.integers(0, 256, (count, SPEC.height_px, SPEC.width_px, 3), dtype=np.uint8)
                np.testing.assert_array_equal(engine.run(images), expected.run(images))


def test_each_graph_has_a_context_of_its_own(world, tmp_path):
    path = _build(tmp_path)
    world.contexts_made = 0
    with TensorRTEngine(path) as engine:
        _check(engine, (1, 4, 2, 8, 5, 1, 7, 3))  # 8, 7 and 5 use both slots
        graphs = sum(len(slot.graphs) for slot in engine._slots)
        assert engine.graph_batches == (1, 2, 3, 4)
        assert graphs == 4 + 3  # the second slot sees 4, 3 and 1
        assert world.contexts_made == 1 + graphs
        assert engine.context_memory_bytes == world.activation_bytes
        sizes = [len(buffer) for buffer in world.cuda.device_memory.values()]
        assert sizes.count(world.activation_bytes) == 1
    assert world.cuda.live == 0


def test_a_plan_whose_contexts_share_no_profile_runs_without_graphs(tmp_path, monkeypatch):
    # 8.6.0 on an H200 said "Could not set default profile 0 for execution context". Setting a batch then crashed it.
    world = install(monkeypatch, "8.6.0")
    monkeypatch.setattr("rrid_export.tensorrt.network._share_profile_trt8", lambda _trt, _config: None)
    with TensorRTEngine(_build(tmp_path)) as engine:
        _check(engine, (1, 4, 2, 8))
        assert engine.graph_batches == ()
    assert world.cuda.live == 0


def test_graphs_of_one_context_would_be_noticed(world, tmp_path, monkeypatch):
    create = SharedContexts.create
    shared: list[Context] = []

    def create_once(self: SharedContexts) -> Context:
        if not shared:
            shared.append(create(self))
        return shared[0]

    monkeypatch.setattr(SharedContexts, "create", create_once)
    engine = TensorRTEngine(_build(tmp_path))
    with pytest.raises(AssertionError, match="a graph's context has changed"):
        _check(engine, (1, 4, 2))


def test_without_room_for_more_contexts_the_ordinary_one_goes_on(world, tmp_path):
    with TensorRTEngine(_build(tmp_path)) as engine:
        _check(engine, (3,), rounds=2)
        world.context_error = "OutOfMemory"
        _check(engine, (2, 3, 4))
        assert engine.graph_batches == (3,)
    assert world.cuda.live == 0


def test_a_context_whose_work_is_refused_or_not_captured_is_freed(recent, tmp_path):
    with TensorRTEngine(_build(tmp_path)) as engine:
        _check(engine, (2,), rounds=1)
        recent.enqueue_error = "bad tensor"
        with pytest.raises(ModelFileError, match="bad tensor"):
            _check(engine, (2,), rounds=1)
        assert len(engine._contexts._made) == 1
        recent.enqueue_error = None
        recent.cuda.capture_error = recent.cuda.cudaError_t.cudaErrorStreamCaptureInvalidated
        _check(engine, (2, 3))
        assert len(engine._contexts._made) == 1
        assert engine.graph_batches == ()
    assert recent.cuda.live == 0


def test_work_that_no_slot_waits_for_is_done_before_memory_is_freed(recent, tmp_path, monkeypatch):
    engine = TensorRTEngine(_build(tmp_path))
    record = engine._cuda.record

    def fail(event: int, stream: int) -> None:
        if stream == engine._stream:  # the network was enqueued, and no copy waits for it yet
            raise GpuFaultError("recording an event failed")
        record(event, stream)

    monkeypatch.setattr(engine._cuda, "record", fail)
    with pytest.raises(GpuFaultError, match="recording an event"):
        _check(engine, (2,), rounds=1)
    engine.close()
    assert recent.cuda.live == 0


def test_tensorrt_10_0_has_the_calls_of_8(recent, tmp_path, monkeypatch):
    monkeypatch.delattr(recent.module, "ExecutionContextAllocationStrategy")
    monkeypatch.delattr(recent.module.ICudaEngine, "device_memory_size_v2")
    monkeypatch.delattr(recent.module.IExecutionContext, "set_device_memory")
    with TensorRTEngine(_build(tmp_path)) as engine:
        _check(engine, (1, 4))
        assert engine.graph_batches == (1, 4)
    assert {"IExecutionContext.device_memory=", "ICudaEngine.device_memory_size"} <= set(recent.log)


def test_a_network_without_activations_gets_a_block_too(world, tmp_path):
    world.activation_bytes = 0
    with TensorRTEngine(_build(tmp_path)) as engine:
        _check(engine, (1, 4))
    assert world.cuda.live == 0
