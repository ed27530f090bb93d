"""One engine in many threads: every engine gives the serial results, and a closed engine says so in one line."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rrid_edge.engines import Engine, FakeEngine, open_engine
from rrid_edge.engines.base import BatchEngine
from rrid_edge.engines.fake import fake_spec
from rrid_edge.engines.onnxruntime.cuda import OnnxRuntimeCudaEngine
from rrid_edge.engines.tensorrt.engine import TensorRTEngine
from rrid_edge.errors import ClosedError
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.settings import BuildSettings
from support.onnx_models import save_tiny_model
from support.onnxruntime_standin import install_onnxruntime
from support.tensorrt_behaviour import install

SPEC = fake_spec()
RUNTIMES = ["fake", "onnxruntime", "openvino", "onnxruntime-cuda", "tensorrt"]
WAIT_S = 30


@pytest.fixture(autouse=True)
def _threads_in_quick_turns():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(params=RUNTIMES)
def engine(request, tmp_path, monkeypatch):
    with _opened(request.param, tmp_path, monkeypatch) as engine:
        yield engine


def _opened(runtime: str, folder, monkeypatch) -> Engine:
    if runtime == "fake":
        return FakeEngine(max_batch=3)
    if runtime == "tensorrt":
        install(monkeypatch, "10.13.3.9").cuda.per_thread = True
        engine_path = folder / "rrid.engine"
        build_engine(save_tiny_model(folder / "rrid.onnx"), engine_path, BuildSettings(opt_batch=2, max_batch=3))
        return TensorRTEngine(engine_path)
    path = save_tiny_model(folder / "m.onnx", SPEC)
    if runtime == "onnxruntime-cuda":
        install_onnxruntime(monkeypatch, SPEC).cuda.per_thread = True
        return OnnxRuntimeCudaEngine(path, max_batch=3)
    return open_engine(path, runtime, precision="fp32" if runtime == "openvino" else None, max_batch=3, threads=1)


def _images(seed: int, count: int) -> np.ndarray:
    """Different images of large uniform patches: noise alone would give almost equal descriptors."""
    patches = np.random.default_rng(seed).integers(0, 256, (count, 6, 2, 3), dtype=np.uint8)
    return patches.repeat(SPEC.height_px // 6, axis=1).repeat(SPEC.width_px // 2, axis=2)


def test_calls_from_many_threads_give_the_serial_results(engine):
    batches = [_images(number, number % 5) for number in range(120)]  # 0 to 4 images, and 3 are a full batch
    serial = [engine.run(images) for images in batches]
    assert np.abs(serial[1][0] - serial[6][0]).max() > 0.01
    ready = threading.Barrier(8)

    def work(number: int) -> list[tuple[int, np.ndarray]]:
        ready.wait(WAIT_S)
        return [(index, engine.run(batches[index])) for index in range(number, len(batches), 8)]

    with ThreadPoolExecutor(8) as pool:
        found = dict(pair for part in pool.map(work, range(8)) for pair in part)
    for index, expected in enumerate(serial):
        np.testing.assert_array_equal(found[index], expected)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_closed_engine_says_so_in_one_line(engine, count):
    engine.close()
    engine.close()
    with pytest.raises(ClosedError, match=r"^the engine .* was closed: expected an open one; open it again") as caught:
        engine.run(_images(0, count))
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2
    assert isinstance(engine, FakeEngine) or str(engine._path) in caught.value.message


def test_closing_in_another_thread_gives_right_answers_or_one_line(engine):
    batches = [_images(number, 1 + number % 4) for number in range(8)]
    serial = [engine.run(images) for images in batches]
    started = threading.Semaphore(0)

    def work(number: int) -> str:
        while True:
            try:
                found = engine.run(batches[number])
            except ClosedError:
                return "closed"
            started.release()
            np.testing.assert_array_equal(found, serial[number])

    with ThreadPoolExecutor(10) as pool:
        workers = [pool.submit(work, number) for number in range(8)]
        for _ in range(16):
            assert started.acquire(timeout=WAIT_S)
        for closing in [pool.submit(engine.close), pool.submit(engine.close)]:
            closing.result(WAIT_S)
        assert [worker.result(WAIT_S) for worker in workers] == ["closed"] * 8


class SlowEngine(BatchEngine):
    """Waits inside of a call until it may go on, and writes down what happens."""

    def __init__(self) -> None:
        super().__init__(SPEC, "slow", 1)
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.events: list[str] = []

    def _run_batch(self, images):
        self.events.append("begin")
        self.entered.set()
        assert self.go_on.wait(WAIT_S)
        self.events.append("end")
        return np.zeros((len(images), self.spec.dimension), np.float32)

    def _release(self):
        self.events.append("release")


def test_close_waits_for_the_running_call_and_refuses_those_that_wait():
    engine = SlowEngine()
    with ThreadPoolExecutor(4) as pool:
        running = pool.submit(engine.run, _images(0, 2))
        assert engine.entered.wait(WAIT_S)
        waiting = pool.submit(engine.run, _images(1, 2))
        closing = [pool.submit(engine.close) for _ in range(2)]
        while not engine._closed:
            pass
        assert not any(future.done() for future in closing)
        engine.go_on.set()
        assert running.result(WAIT_S).shape == (2, SPEC.dimension)
        with pytest.raises(ClosedError):
            waiting.result(WAIT_S)
        for future in closing:
            future.result(WAIT_S)
    assert engine.events == ["begin", "end", "begin", "end", "release"]


def test_an_engine_works_on_after_a_call_that_failed():
    class Failing(FakeEngine):
        failures = 1

        def _run_batch(self, images):
            if self.failures:
                self.failures -= 1
                raise RuntimeError("no")
            return super()._run_batch(images)

    engine = Failing()
    with pytest.raises(RuntimeError, match="no"):
        engine.run(_images(0, 1))
    np.testing.assert_array_equal(engine.run(_images(0, 1)), FakeEngine().run(_images(0, 1)))
