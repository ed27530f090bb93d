"""Tests that every engine of this machine keeps the engine contract."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import numpy_helper

from rrid_edge.engines import Engine, FakeEngine, RuntimeChoice, choose_runtime, open_engine
from rrid_edge.engines.fake import fake_spec
from rrid_edge.engines.openvino.engine import openvino_core
from rrid_edge.errors import ModelFileError, UsageError
from rrid_edge.machine.gpu import find_gpu
from support.onnx_models import save_changed_model, save_tiny_model, tiny_model

RUNTIMES = ["fake", "onnxruntime", "openvino"]


@pytest.fixture(params=RUNTIMES)
def engine(request, tmp_path):
    if request.param == "fake":
        opened: Engine = FakeEngine(max_batch=4)
    else:
        path = save_tiny_model(tmp_path / "m.onnx")
        precision = "fp32" if request.param == "openvino" else None
        opened = open_engine(path, request.param, precision=precision, max_batch=4, threads=1)
    with opened:
        yield opened


def _images(count: int, spec, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, spec.height_px, spec.width_px, 3), dtype=np.uint8)


def test_keeps_the_protocol(engine):
    assert isinstance(engine, Engine)
    assert engine.runtime
    assert engine.arithmetic == "fp32"


def test_descriptors_are_unit_float32_rows(engine):
    descriptors = engine.run(_images(3, engine.spec))
    assert descriptors.dtype == np.float32
    assert descriptors.shape == (3, engine.spec.dimension)
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-5)


def test_no_images_give_no_descriptors(engine):
    assert engine.run(_images(0, engine.spec)).shape == (0, engine.spec.dimension)


def test_batches_beyond_the_largest_are_split(engine):
    images = _images(11, engine.spec)
    together = engine.run(images)
    alone = np.concatenate([engine.run(image[None]) for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_descriptor_depends_neither_on_neighbours_nor_on_position(engine):
    images = _images(4, engine.spec)
    alone = engine.run(images[:1])[0]
    for position in range(4):
        batch = _images(4, engine.spec, seed=position + 1)
        batch[position] = images[0]
        np.testing.assert_allclose(engine.run(batch)[position], alone, atol=1e-6)


def test_caller_owns_the_result(engine):
    first = engine.run(_images(2, engine.spec, seed=1))
    kept = first.copy()
    engine.run(_images(2, engine.spec, seed=2))
    np.testing.assert_array_equal(first, kept)
    first[:] = 0


def test_views_that_are_not_contiguous_are_read_right(engine):
    images = _images(4, engine.spec)
    np.testing.assert_allclose(engine.run(images[::2, :, ::-1]), engine.run(images[::2, :, ::-1].copy()), atol=1e-6)


@pytest.mark.parametrize("change", ["float", "size", "three axes"])
def test_wrong_images_are_refused(engine, change):
    images = _images(2, engine.spec)
    bad = {"float": images.astype(np.float32), "size": images[:, :-1], "three axes": images[0]}[change]
    with pytest.raises(UsageError, match="do not fit this model: expected uint8"):
        engine.run(bad)


def test_close_twice(engine):
    engine.close()
    engine.close()


def test_runtimes_agree(tmp_path):
    path = save_tiny_model(tmp_path / "m.onnx")
    with open_engine(path, "onnxruntime") as one, open_engine(path, "openvino", precision="fp32") as two:
        images = _images(3, one.spec)
        np.testing.assert_allclose(one.run(images), two.run(images), atol=1e-6)


def test_auto_says_what_it_chose_and_why(tmp_path):
    path = save_tiny_model(tmp_path / "m.onnx")
    choice = choose_runtime(path)
    assert not choice.asked
    assert choice.passed_over[0] == "tensorrt: this is no engine file"
    assert choice.describe() == f"runtime {choice.runtime} (passed over: {'; '.join(choice.passed_over)})"
    told, count = f"runtime {choice.runtime}", len(choice.passed_over)
    assert choice.in_brief() == f"{told} ({count} others passed over; doctor says why)"
    assert replace(choice, passed_over=("one",)).in_brief() == f"{told} (1 other passed over; doctor says why)"
    assert replace(choice, passed_over=()).in_brief() == told
    assert replace(choice, asked=True).in_brief() == "runtime as asked"
    with open_engine(path) as chosen, open_engine(path, choice.runtime) as named:
        assert chosen.runtime == named.runtime
    assert choose_runtime(path, "onnxruntime") == RuntimeChoice("onnxruntime", asked=True)


@pytest.fixture
def with_cuda_provider(monkeypatch, tmp_path):
    """An installed ONNX Runtime with the library of its CUDA provider."""
    folder = tmp_path / "onnxruntime"
    (folder / "capi").mkdir(parents=True)
    (folder / "capi" / "libonnxruntime_providers_cuda.so").write_bytes(b"")
    monkeypatch.setattr("rrid_edge.engines.available.onnxruntime_folder", lambda: folder)
    monkeypatch.setattr("rrid_edge.engines.available.onnxruntime_cuda", lambda: (13, 0))


@pytest.mark.parametrize(
    ("files", "cuda", "reason"),
    [
        (["dev/dxg", "usr/lib/wsl/lib/libcuda.so.1"], (13, 0), None),  # WSL2 has no /proc/driver/nvidia
        (["proc/driver/nvidia/version"], (13, 1), None),
        (["dev/nvhost-gpu"], (13, 0), None),
        ([], None, "no NVIDIA driver"),
        (["dev/nvidia0"], (12, 4), "the installed onnxruntime-gpu is for CUDA 13, but this driver serves CUDA 12.4"),
    ],
    ids=["wsl2", "server", "jetson", "none", "old-driver"],
)
def test_auto_finds_the_gpu_of_every_platform(with_cuda_provider, monkeypatch, tmp_path, files, cuda, reason):
    for name in files:
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).touch()
    gpu = find_gpu(tmp_path / "root", architecture="x86_64", cuda=cuda)
    monkeypatch.setattr("rrid_edge.engines.available.this_gpu", lambda: gpu)
    choice = choose_runtime(save_tiny_model(tmp_path / "m.onnx"))
    assert (choice.runtime == "onnxruntime-cuda") is (reason is None)
    assert reason is None or f"onnxruntime-cuda: {reason}" in choice.passed_over


def test_unknown_runtime_and_precision(tmp_path):
    path = save_tiny_model(tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="runtime 'fast' is unknown: expected one of auto"):
        open_engine(path, "fast")
    with pytest.raises(UsageError, match="precision 'fp8' is unknown to OpenVINO"):
        open_engine(path, "openvino", precision="fp8")
    here = {name.split(".")[0] for name in openvino_core().available_devices}
    for device in {"GPU", "NPU"} - here:
        with pytest.raises(UsageError, match=f"no device '{device}'.*expected one of CPU"):
            open_engine(path, f"openvino-{device.lower()}")
    with pytest.raises(UsageError, match="precision bf16 works with the runtime openvino only"):
        open_engine(path, "onnxruntime", precision="bf16")


def test_runtime_and_file_must_fit_each_other(tmp_path):
    path = save_tiny_model(tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="needs an engine file"):
        open_engine(path, "tensorrt")
    engine_file = tmp_path / "m.engine"
    engine_file.write_bytes(b"plan")
    with pytest.raises(UsageError, match="needs an ONNX file"):
        open_engine(engine_file, "openvino")
    with pytest.raises(UsageError, match="no such model file"):
        open_engine(tmp_path / "none.onnx")
    odd = save_tiny_model(tmp_path / "m.onnx").rename(tmp_path / "m\udcff.onnx")
    for runtime in ("auto", "onnxruntime", "openvino"):
        with pytest.raises(UsageError, match=r"m\\udcff\.onnx: the name is not UTF-8.*; rename the file"):
            open_engine(odd, runtime)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_graph_that_the_runtime_refuses_ends_in_one_line(tmp_path, runtime):
    model = tiny_model()
    model.graph.node[3].op_type = "NoSuchOperator"
    save_changed_model(tmp_path / "m.onnx", model)
    with pytest.raises(ModelFileError, match="cannot load this model") as refusal:
        open_engine(tmp_path / "m.onnx", runtime)
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_graph_that_fails_at_work_ends_in_one_line(tmp_path, runtime, capfd):
    model = tiny_model()
    shape = next(item for item in model.graph.initializer if item.name == "flat")
    shape.CopyFrom(numpy_helper.from_array(np.array([16, 36], np.int64), "flat"))
    save_changed_model(tmp_path / "m.onnx", model)
    with (
        open_engine(tmp_path / "m.onnx", runtime) as engine,
        pytest.raises(ModelFileError, match="cannot run") as refusal,
    ):
        engine.run(_images(2, fake_spec()))
    assert refusal.value.message.startswith(f"{tmp_path / 'm.onnx'}: ")
    assert refusal.value.message.isprintable()
    assert capfd.readouterr() == ("", "")


def test_fake_engine_is_deterministic_and_depends_on_the_fingerprint():
    images = _images(2, fake_spec())
    np.testing.assert_array_equal(FakeEngine().run(images), FakeEngine().run(images))
    assert np.abs(FakeEngine().run(images) - FakeEngine(fake_spec("other")).run(images)).max() > 0.01


def test_fake_engine_with_flip_ignores_mirroring():
    images = _images(2, fake_spec())
    np.testing.assert_allclose(FakeEngine().run(images), FakeEngine().run(images[:, :, ::-1]), atol=1e-6)
