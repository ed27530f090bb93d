"""Tests of a TensorRT engine, with stand-ins of every TensorRT version and of CUDA (work runs only when waited for)."""

from __future__ import annotations

import contextlib
import sys
import threading

import numpy as np
import pytest

from rrid_edge.engines import Engine, FakeEngine
from rrid_edge.engines.fake import fake_spec
from rrid_edge.engines.tensorrt.api import generation, load_tensorrt
from rrid_edge.engines.tensorrt.engine import TensorRTEngine
from rrid_edge.errors import GpuFaultError, MissingDependencyError, ModelFileError, UsageError
from rrid_edge.machine.facts import MachineFacts
from rrid_edge.machine.gpu import Gpu
from rrid_edge.model.names import sidecar_path
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.settings import BuildSettings
from support.onnx_models import save_tiny_model
from support.tensorrt_behaviour import install
from support.tensorrt_standin import VERSIONS, build_module

SPEC = fake_spec()


def _build(folder, **settings):
    path = save_tiny_model(folder / "rrid.fp16.onnx", SPEC.with_precision("fp16"))
    engine_path = folder / "rrid.fp16.engine"
    build_engine(path, engine_path, BuildSettings(**({"opt_batch": 2, "max_batch": 4} | settings)))
    return engine_path


def _images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SPEC.height_px, SPEC.width_px, 3), dtype=np.uint8)


def _expected(images: np.ndarray) -> np.ndarray:
    with FakeEngine(SPEC.with_precision("fp16")) as engine:
        return engine.run(images)


@pytest.mark.parametrize("order", ["lazy", "greedy"])
@pytest.mark.parametrize("graphs", [True, False])
def test_descriptors_of_every_batch_size(world, tmp_path, graphs, order):
    world.cuda.greedy = order == "greedy"
    with TensorRTEngine(_build(tmp_path), graphs=graphs) as engine:
        assert isinstance(engine, Engine)
        assert engine.runtime == f"tensorrt {'.'.join(world.version.split('.')[:2])} · Orin"
        assert (engine.max_batch, engine.arithmetic) == (4, "fp16")
        for round_number in range(5):  # ordinary, captured and replayed calls, with sizes in turn
            for count in (0, 1, 2, 3, 4, 5, 8, 9, 17):
                images = _images(count, seed=100 * round_number + count)
                found = engine.run(images)
                assert found.dtype == np.float32
                assert found.flags.owndata
                np.testing.assert_array_equal(found, _expected(images))
    assert world.cuda.live == 0


def test_graphs_are_captured_from_the_second_use_and_then_replayed(world, tmp_path):
    with TensorRTEngine(_build(tmp_path)) as engine:
        after = []
        for _ in range(2):
            engine.run(_images(3))
            after.append(engine.graph_batches)
        assert after == [(), (3,)]
        assert world.enqueued == [3, 3, 3]  # two ordinary ones and the capture
        engine.run(_images(3))
        assert world.enqueued == [3, 3, 3]
        assert world.cuda.calls.count("cudaGraphLaunch") == 1
        engine.run(_images(4))  # another shape between replays
        np.testing.assert_array_equal(engine.run(_images(3, seed=9)), _expected(_images(3, seed=9)))


@pytest.mark.parametrize("failure", ["end", "enqueue"])
def test_without_a_graph_the_ordinary_way_goes_on(world, tmp_path, failure):
    if failure == "end":
        world.cuda.capture_error = world.cuda.cudaError_t.cudaErrorStreamCaptureInvalidated
    else:
        world.stray_enqueue_failures = 1
    with TensorRTEngine(_build(tmp_path)) as engine:
        for seed in range(4):
            np.testing.assert_array_equal(engine.run(_images(2, seed)), _expected(_images(2, seed)))
        assert engine.graph_batches == ()
        assert world.cuda.calls.count("cudaStreamBeginCapture") == 1  # not tried again
        assert world.cuda.calls.count("cudaStreamEndCapture") == 1
        assert "cudaGetLastError" in world.cuda.calls
    assert world.cuda.live == 0


def test_graphs_do_not_grow_without_end(recent, tmp_path, monkeypatch):
    monkeypatch.setattr("rrid_edge.engines.tensorrt.engine.MAX_GRAPHS", 2)
    with TensorRTEngine(_build(tmp_path)) as engine:
        for count in (1, 2, 3, 4):
            for seed in range(3):
                np.testing.assert_array_equal(engine.run(_images(count, seed)), _expected(_images(count, seed)))
        assert engine.graph_batches == (1, 2)


def test_a_thousand_calls_allocate_nothing(recent, tmp_path):
    recent.compute = lambda spec, images: np.zeros((len(images), spec.dimension))
    with TensorRTEngine(_build(tmp_path)) as engine:
        for _ in range(3):
            engine.run(_images(6))
        live, calls = recent.cuda.live, recent.cuda.calls.count("cudaMalloc")
        for _ in range(1000):
            engine.run(_images(1))
        assert recent.cuda.calls.count("cudaMalloc") == calls == 5  # two slots' buffers, the contexts' block
        assert recent.cuda.live == live + 1  # the graph of batch 1


def test_parts_of_a_split_are_copied_while_others_compute(recent, tmp_path):
    with TensorRTEngine(_build(tmp_path), graphs=False) as engine:
        engine.run(_images(4))
        recent.cuda.calls.clear()
        engine.run(_images(16))
        calls = [call for call in recent.cuda.calls if call in ("cudaMemcpyAsync", "cudaStreamSynchronize")]
    # Two parts are in flight (in, out, in, out) before the engine waits for the first.
    assert calls[:5] == ["cudaMemcpyAsync"] * 4 + ["cudaStreamSynchronize"]


def test_the_result_belongs_to_the_caller(recent, tmp_path):
    with TensorRTEngine(_build(tmp_path)) as engine:
        first = engine.run(_images(2, seed=1))
        copy = first.copy()
        engine.run(_images(2, seed=2))
        np.testing.assert_array_equal(first, copy)


def test_images_may_be_a_view(recent, tmp_path):
    images = _images(6)
    with TensorRTEngine(_build(tmp_path)) as engine:
        np.testing.assert_array_equal(engine.run(images[::2]), _expected(images[::2].copy()))
        np.testing.assert_array_equal(engine.run(images[:, :, ::-1]), _expected(images[:, :, ::-1].copy()))


def test_batches_below_the_profile_are_padded(world, tmp_path):
    seen = []

    def compute(spec, images):
        seen.append(images.copy())
        return _expected(images)

    world.compute = compute
    with TensorRTEngine(_build(tmp_path, min_batch=2)) as engine:
        np.testing.assert_array_equal(engine.run(_images(1)), _expected(_images(1)))
        np.testing.assert_array_equal(engine.run(_images(5)), _expected(_images(5)))
        assert set(world.enqueued) == {2, 4}
    assert not seen[0][1].any()  # with zeros, not with the data of another call


def test_a_smaller_largest_batch_takes_less_memory(recent, tmp_path):
    path = _build(tmp_path)
    with TensorRTEngine(path, max_batch=2) as engine:
        assert engine.max_batch == 2
        buffers = 2 * 2 * (192 * 64 * 3 + 4 * SPEC.dimension)
        assert sum(map(len, recent.cuda.device_memory.values())) == buffers + recent.activation_bytes
        np.testing.assert_array_equal(engine.run(_images(5)), _expected(_images(5)))
    with TensorRTEngine(path, max_batch=64) as engine:
        assert engine.max_batch == 4
    with pytest.raises(UsageError, match="takes 3 to 4 images"):
        TensorRTEngine(_build(tmp_path, min_batch=3, opt_batch=3), max_batch=2)
    assert recent.cuda.live == 0


def test_threads_wait_for_each_other(recent, tmp_path):
    results: dict[int, np.ndarray] = {}
    with TensorRTEngine(_build(tmp_path)) as engine:

        def work(seed: int) -> None:
            for _ in range(3):
                results[seed] = engine.run(_images(5, seed))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for seed, found in results.items():
        np.testing.assert_array_equal(found, _expected(_images(5, seed)))


def test_wrong_images_never_reach_the_runtime(recent, tmp_path):
    with TensorRTEngine(_build(tmp_path)) as engine:
        with pytest.raises(UsageError, match="do not fit"):
            engine.run(_images(1).astype(np.float32))
        assert recent.enqueued == []


def test_closing_frees_everything_and_twice_is_safe(world, tmp_path):
    engine = TensorRTEngine(_build(tmp_path))
    engine.run(_images(9))
    engine.run(_images(9))
    engine.close()
    engine.close()
    assert world.cuda.live == 0
    with pytest.raises(UsageError, match="was closed"):
        engine.run(_images(1))


def test_a_refused_enqueue_is_an_error_and_not_an_old_answer(world, tmp_path):
    with TensorRTEngine(_build(tmp_path)) as engine:
        engine.run(_images(4))
        world.enqueue_error = "bad tensor"
        with pytest.raises(ModelFileError, match=r"running a batch of 4 \(bad tensor\)"):
            engine.run(_images(9))
        world.enqueue_error = None
        np.testing.assert_array_equal(engine.run(_images(9)), _expected(_images(9)))
    assert world.cuda.live == 0


def test_a_fault_of_the_device_is_one_line(recent, tmp_path):
    engine = TensorRTEngine(_build(tmp_path))
    recent.cuda.sync_error = recent.cuda.cudaError_t.cudaErrorLaunchFailure
    with pytest.raises(GpuFaultError, match=r"running on the GPU failed with cudaErrorLaunchFailure \(words for"):
        engine.run(_images(1))
    engine.close()


def test_a_full_device_is_one_line_and_leaves_nothing(recent, tmp_path):
    path = _build(tmp_path)
    recent.cuda.memory = 100_000
    with pytest.raises(UsageError, match=r"allocating 0\.1 MiB failed, 0\.1 MiB of 0\.1 MiB are free"):
        TensorRTEngine(path)
    assert recent.cuda.live == 0


def test_no_room_for_a_context_is_the_same_line(world, tmp_path):
    path = _build(tmp_path)
    world.context_error = "Requested amount of GPU memory could not be allocated: OutOfMemory"
    with pytest.raises(UsageError, match="memory does not suffice"):
        TensorRTEngine(path)
    world.context_error = "another reason"
    with pytest.raises(ModelFileError, match="another reason"):
        TensorRTEngine(path)


def test_a_plan_that_tensorrt_refuses(world, tmp_path):
    path = _build(tmp_path)
    world.load_error = "incompatible device"
    with pytest.raises(ModelFileError, match=r"loading the engine \(incompatible device\).*rrid-edge export .*onnx"):
        TensorRTEngine(path)


def test_an_engine_of_another_gpu_is_refused_before_tensorrt_sees_it(world, tmp_path):
    path = _build(tmp_path)
    world.log.clear()
    world.cuda.name, world.cuda.capability = "NVIDIA H200", (9, 0)
    with pytest.raises(ModelFileError) as caught:
        TensorRTEngine(path)
    assert "Orin, compute capability 8.7 (here NVIDIA H200, 9.0)" in caught.value.message
    assert f"rrid-edge export {tmp_path / 'rrid.fp16.onnx'}" in caught.value.message
    assert world.log == []


def test_a_smaller_model_of_the_same_gpu_is_refused_before_tensorrt_sees_it(world, tmp_path):
    path = _build(tmp_path)
    world.log.clear()
    world.cuda.multiprocessors = 8  # an Orin NX: name and compute capability are those of the AGX Orin
    with pytest.raises(ModelFileError, match=r"Orin with 16 multiprocessors \(here 8: .*power mode"):
        TensorRTEngine(path)
    assert world.log == []


def test_an_engine_of_another_version_is_refused(monkeypatch, tmp_path):
    install(monkeypatch, "10.3.0")
    path = _build(tmp_path)
    other = install(monkeypatch, "10.13.3.9")
    with pytest.raises(ModelFileError, match=r"TensorRT 10\.3\.0 \(here 10\.13\.3\.9\)"):
        TensorRTEngine(path)
    assert other.log == []


@pytest.mark.parametrize("here", ["10.13.3.9", "11.4.0.106"])
def test_a_version_compatible_engine_runs_on_later_versions(monkeypatch, tmp_path, here):
    install(monkeypatch, "10.3.0")
    path = _build(tmp_path, version_compatible=True)
    install(monkeypatch, here)
    with TensorRTEngine(path) as engine:
        np.testing.assert_array_equal(engine.run(_images(2)), _expected(_images(2)))
    install(monkeypatch, "8.6.0")
    with pytest.raises(ModelFileError, match="here 8"):
        TensorRTEngine(path)


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_plan_is_refused_before_tensorrt_sees_it(world, tmp_path, damage):
    path = _build(tmp_path)
    content = path.read_bytes()
    world.log.clear()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        path.write_bytes(content[:-1] + b"!")
    else:
        path.unlink()
    kind = UsageError if damage == "gone" else ModelFileError
    with pytest.raises(kind) as caught:
        TensorRTEngine(path)
    assert {"cut": "bytes, expected", "changed": "sha256", "gone": "cannot be read"}[damage] in caught.value.message
    assert world.log == []


def test_an_engine_without_its_sidecar_is_refused(world, tmp_path):
    path = _build(tmp_path)
    sidecar_path(path).unlink()
    with pytest.raises(ModelFileError, match=r"rrid\.fp16\.engine needs this sidecar"):
        TensorRTEngine(path)


def test_an_engine_of_other_tensors_is_refused(recent, tmp_path, monkeypatch):
    path = _build(tmp_path)
    monkeypatch.setattr(recent.module.ICudaEngine, "get_tensor_location", lambda self, name: None)
    with pytest.raises(ModelFileError, match="expected images uint8"):
        TensorRTEngine(path)


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_a_stripped_engine_takes_its_weights_from_the_onnx(monkeypatch, tmp_path, version):
    install(monkeypatch, version)
    path = _build(tmp_path, strip_weights=True)
    with TensorRTEngine(path) as engine:
        np.testing.assert_array_equal(engine.run(_images(2)), _expected(_images(2)))
    onnx_path = tmp_path / "rrid.fp16.onnx"
    save_tiny_model(onnx_path, SPEC.with_precision("fp16"), seed=5)
    with pytest.raises(ModelFileError, match="is another file"):
        TensorRTEngine(path)
    onnx_path.unlink()
    with pytest.raises(ModelFileError, match="is not there"):
        TensorRTEngine(path)


def test_a_refused_refit_is_an_error(recent, tmp_path, monkeypatch):
    path = _build(tmp_path, strip_weights=True)
    monkeypatch.setattr(recent.module.Refitter, "refit_cuda_engine", lambda self: False)
    with pytest.raises(ModelFileError, match="refused the weights of"):
        TensorRTEngine(path)


def test_without_a_driver_tensorrt_is_not_touched(world, tmp_path):
    path = _build(tmp_path)
    world.log.clear()
    world.cuda.asked = False
    world.cuda.devices = 0
    with pytest.raises(MissingDependencyError, match="0 devices"):
        TensorRTEngine(path)
    assert world.log == []


def test_tensorrt_for_a_newer_cuda_than_the_driver_serves_is_not_touched(recent, tmp_path, monkeypatch):
    path = _build(tmp_path)
    recent.log.clear()
    gpu = Gpu("server", "x86_64", "550.54.14", (12, 4))
    facts = MachineFacts(gpu, packages={"tensorrt-cu13": "11.4.0.106", "tensorrt-cu13-libs": "11.4.0.106"})
    monkeypatch.setattr("rrid_edge.machine.gpu_findings.this_gpu", lambda: gpu)
    monkeypatch.setattr("rrid_edge.machine.gpu_findings.read_facts", lambda: facts)
    said = (
        r"tensorrt-cu13 11\.4\.0\.106 is for CUDA 13, but this driver serves CUDA 12\.4: pip uninstall -y "
        r"tensorrt-cu13 tensorrt-cu13-libs && pip install 'rrid-edge\[gpu-cu12\]', or install a newer NVIDIA driver"
    )
    with pytest.raises(MissingDependencyError, match=said):
        TensorRTEngine(path)
    assert recent.log == []


def test_tensorrt_that_is_absent_or_unknown(recent, tmp_path, monkeypatch):
    path = _build(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(MissingDependencyError, match=r"pip install 'rrid-edge\[gpu-cu12\]'"):
        TensorRTEngine(path)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(MissingDependencyError, match="never pip install it there"):
        load_tensorrt()


@pytest.mark.parametrize("version", ["7.2.3", "8.5.2", "9.3.0", "12.0.1"])
def test_versions_that_are_not_known_are_refused(version):
    module = build_module("8.6.0", {}, [])
    module.__dict__["__version__"] = version
    with pytest.raises(MissingDependencyError, match=r"expected 8\.6, 10\.x or 11\.x"):
        generation(module)


def test_a_flipped_bit_of_plan_or_sidecar_is_refused_or_harmless(recent, tmp_path):
    path, images = _build(tmp_path), _images(2)
    sidecar, answered = sidecar_path(path), 0
    for file in (path, sidecar):
        content = file.read_bytes()
        for place in range(0, len(content), 3):
            flipped = bytearray(content)
            flipped[place] ^= 1 << place * 5 % 8
            file.write_bytes(flipped)
            with contextlib.suppress(ModelFileError), TensorRTEngine(path, graphs=False) as engine:
                assert file == sidecar
                assert engine.spec.fingerprint == SPEC.fingerprint
                np.testing.assert_array_equal(engine.run(images), _expected(images))
                answered += 1
        file.write_bytes(content)
    assert 0 < answered < len(sidecar.read_bytes()) // 6
