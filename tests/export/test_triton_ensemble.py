"""The Triton ensemble: its configurations, read with Triton's own protobufs, and the model that decodes."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rrid_edge.crops.images import read_image
from rrid_edge.engines.fake import fake_spec
from rrid_edge.engines.onnxruntime.cpu import OnnxRuntimeEngine
from rrid_edge.errors import OutputError, UsageError
from rrid_edge.model.spec import FLOAT32_NCHW
from rrid_export.triton import TritonSettings, write_triton_repository
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model
from support.tensorrt_behaviour import install

SPEC = fake_spec()
UINT8, FP32, STRING = 2, 11, 13  # of Triton's DataType
CPU = 2  # KIND_CPU


@dataclass
class _Tensor:
    name: str
    values: np.ndarray

    def as_numpy(self) -> np.ndarray:
        return self.values


@dataclass
class _Response:
    output_tensors: list[_Tensor] | None = None
    error: str | None = None


@pytest.fixture
def onnx_path(tmp_path):
    return save_tiny_model(tmp_path / "rrid.onnx")


@pytest.fixture
def repository(onnx_path, tmp_path):
    write_triton_repository(onnx_path, tmp_path / "repository", TritonSettings(ensemble=True, max_batch=16, decoders=3))
    return tmp_path / "repository"


def _parse(folder: Path) -> Any:
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    return text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), messages.ModelConfig())


def _decoder(monkeypatch, folder: Path) -> Any:
    """The Python model of a repository, made as Triton makes it."""
    utilities = ModuleType("triton_python_backend_utils")
    utilities.__dict__.update(
        get_input_tensor_by_name=lambda request, name: request[name],
        Tensor=_Tensor,
        InferenceResponse=_Response,
        TritonError=str,
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utilities)
    spec = importlib.util.spec_from_file_location("model", folder / "1" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    json_format = pytest.importorskip("google.protobuf.json_format")
    config = json_format.MessageToDict(_parse(folder), preserving_proto_field_name=True)
    model.initialize({"model_config": json.dumps(config)})
    return model


def _request(*files: bytes) -> dict[str, _Tensor]:
    return {"files": _Tensor("files", np.array(files, dtype=np.object_).reshape(-1, 1))}


def _jpeg(seed: int, size: tuple[int, int] = (70, 150), form: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def test_three_models_are_written(repository, onnx_path):
    files = {path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()}
    assert files == {
        "rrid/config.pbtxt",
        "rrid/1/model.onnx",
        "rrid-decode/config.pbtxt",
        "rrid-decode/1/model.py",
        "rrid-files/config.pbtxt",
        "rrid-files/1/.keep",
    }
    network, decoder, ensemble = (_parse(repository / name) for name in ("rrid", "rrid-decode", "rrid-files"))
    assert [config.name for config in (network, decoder, ensemble)] == ["rrid", "rrid-decode", "rrid-files"]
    assert {config.max_batch_size for config in (network, decoder, ensemble)} == {16}
    assert (decoder.backend, decoder.platform, ensemble.backend, ensemble.platform) == ("python", "", "", "ensemble")
    (group,) = decoder.instance_group
    assert (group.count, group.kind) == (3, CPU)
    assert ensemble.parameters["rrid.fingerprint"].string_value == SPEC.fingerprint


def test_the_tensors_of_the_steps_fit_together(repository):
    configs = {name: _parse(repository / name) for name in ("rrid", "rrid-decode", "rrid-files")}
    ensemble = configs["rrid-files"]
    (files,), (descriptors,) = ensemble.input, ensemble.output
    assert (files.name, files.data_type, list(files.dims)) == ("files", STRING, [1])
    assert (descriptors.name, descriptors.data_type, list(descriptors.dims)) == ("descriptors", FP32, [240])
    known = {tensor.name: tensor for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        model = configs[step.model_name]
        assert step.model_version == -1
        assert set(step.input_map) == {tensor.name for tensor in model.input}
        for tensor in model.input:
            given = known[step.input_map[tensor.name]]
            assert (given.data_type, list(given.dims)) == (tensor.data_type, list(tensor.dims))
        known |= {step.output_map[tensor.name]: tensor for tensor in model.output}
    result = known[descriptors.name]
    assert (result.data_type, list(result.dims)) == (descriptors.data_type, list(descriptors.dims))


def test_files_become_the_pixels_of_the_image_contract(repository, monkeypatch, tmp_path):
    model = _decoder(monkeypatch, repository / "rrid-decode")
    contents = [_jpeg(0), _jpeg(1, (40, 90), "PNG"), _jpeg(2)]
    responses = model.execute([_request(*contents[:2]), _request(contents[2])])
    assert [response.error for response in responses] == [None, None]
    found = [response.output_tensors[0] for response in responses]
    assert [tensor.name for tensor in found] == ["images", "images"]
    assert [tensor.values.shape for tensor in found] == [(2, 192, 64, 3), (1, 192, 64, 3)]
    for content, pixels in zip(contents, np.concatenate([tensor.values for tensor in found]), strict=True):
        (tmp_path / "crop").write_bytes(content)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, read_image(tmp_path / "crop", 192, 64))


def test_a_network_that_takes_planes_gets_planes(monkeypatch, tmp_path):
    path = save_tiny_model(tmp_path / "rrid.nchw.onnx", SPEC.with_input(FLOAT32_NCHW))
    write_triton_repository(path, tmp_path / "r", TritonSettings(ensemble=True))
    for name, side in (("rrid", "input"), ("rrid-decode", "output")):
        (images,) = getattr(_parse(tmp_path / "r" / name), side)
        assert (images.name, images.data_type, list(images.dims)) == ("images", FP32, [3, 192, 64])
    (response,) = _decoder(monkeypatch, tmp_path / "r" / "rrid-decode").execute([_request(_jpeg(0), _jpeg(1))])
    planes = response.output_tensors[0].values
    assert (planes.dtype, planes.shape, planes.flags.c_contiguous) == (np.float32, (2, 3, 192, 64), True)
    for number in range(2):
        (tmp_path / "crop.jpg").write_bytes(_jpeg(number))
        pixels = read_image(tmp_path / "crop.jpg", 192, 64)
        np.testing.assert_array_equal(planes[number], np.moveaxis(pixels, 2, 0).astype(np.float32))


def test_a_bad_file_fails_its_own_request_only(repository, monkeypatch):
    model = _decoder(monkeypatch, repository / "rrid-decode")
    good, cut = _jpeg(0), _jpeg(1)[:500]
    responses = model.execute([_request(good), _request(good, cut), _request(b""), _request(good)])
    assert [response.error is None for response in responses] == [True, False, False, True]
    assert responses[1].error.startswith("file 1 of the request: ")
    assert "truncated" in responses[1].error
    assert responses[1].output_tensors is None
    assert "file 0 of the request" in responses[2].error


def test_what_nobody_foresaw_fails_its_own_request_only(repository, monkeypatch):
    model = _decoder(monkeypatch, repository / "rrid-decode")
    good, calls = _jpeg(0), []

    def too_large(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise MemoryError("no memory")
        return np.zeros((192, 64, 3), np.uint8)

    monkeypatch.setitem(type(model).execute.__globals__, "read_image_bytes", too_large)
    first, second = model.execute([_request(good), _request(good)])
    assert first.error == "MemoryError: no memory"
    assert second.error is None


def test_the_ensemble_serves_a_plan_with_its_batches(monkeypatch, tmp_path):
    install(monkeypatch, "10.13.3.9")
    onnx = save_tiny_model(tmp_path / "rrid.onnx")
    outcome = rrid_edge("export", onnx, "--max-batch", 8, "--triton", tmp_path / "r", "--triton-ensemble", "--json")
    assert outcome.code == 0, outcome
    facts = json.loads(outcome.out)
    assert facts == {"engine": str(tmp_path / "rrid.fp32.engine"), "triton": str(tmp_path / "r" / "rrid-files")}
    assert {_parse(tmp_path / "r" / name).max_batch_size for name in ("rrid", "rrid-decode", "rrid-files")} == {8}
    assert (tmp_path / "r" / "rrid" / "1" / "model.plan").is_file()
    outcome = rrid_edge("export", tmp_path / "rrid.fp32.engine", "--triton", tmp_path / "again", "--json")
    assert json.loads(outcome.out) == {"triton": str(tmp_path / "again" / "rrid")}
    assert (tmp_path / "again" / "rrid" / "1" / "model.plan").read_bytes() == Path(facts["engine"]).read_bytes()


def test_without_tensorrt_the_onnx_file_is_served(onnx_path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    outcome = rrid_edge("export", onnx_path, "--triton", tmp_path / "r", "--triton-ensemble", "--json")
    assert outcome.code == 0, outcome
    assert json.loads(outcome.out) == {"triton": str(tmp_path / "r" / "rrid-files")}
    assert "Triton serves the ONNX file" in outcome.err
    assert (tmp_path / "r" / "rrid" / "1" / "model.onnx").read_bytes() == onnx_path.read_bytes()
    # Options of an engine ask for one.
    outcome = rrid_edge("export", onnx_path, "--triton", tmp_path / "other", "--max-batch", 8)
    assert outcome.code == 3
    assert not (tmp_path / "other").exists()


def test_an_ensemble_without_a_repository_is_refused(onnx_path, tmp_path):
    refused(rrid_edge("export", onnx_path, "--triton-ensemble"), 2, "--triton DIR")
    engine = tmp_path / "rrid.fp32.engine"
    refused(rrid_edge("export", engine), 2, "an engine already")
    refused(rrid_edge("export", engine, "--triton", tmp_path / "r"), 2, "no such engine file")
    refused(rrid_edge("export", engine, "--triton", tmp_path / "r", "--tf32"), 2, "--tf32", "no engine is built")
    refused(rrid_edge("export", engine, "--triton", tmp_path / "r", "--no-flip"), 2, "--no-flip")


def test_wrong_settings_and_folders_are_refused(onnx_path, tmp_path):
    with pytest.raises(UsageError, match="decoders 0 is too small: expected at least 1"):
        TritonSettings(decoders=0)
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "rrid-decode").write_text("")
    with pytest.raises(OutputError):
        write_triton_repository(onnx_path, tmp_path / "r", TritonSettings(ensemble=True))


def test_the_whole_ensemble_answers_as_the_engine(repository, monkeypatch, onnx_path, tmp_path):
    (response,) = _decoder(monkeypatch, repository / "rrid-decode").execute([_request(_jpeg(0), _jpeg(1))])
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(_jpeg(number))
    images = np.stack([read_image(tmp_path / f"{number}.jpg", 192, 64) for number in range(2)])
    with OnnxRuntimeEngine(repository / "rrid" / "1" / "model.onnx") as served, OnnxRuntimeEngine(onnx_path) as engine:
        np.testing.assert_array_equal(served.run(response.output_tensors[0].values), engine.run(images))
