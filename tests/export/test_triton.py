"""Triton model repositories, read back with Triton's own protobufs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import ModelFileError, OutputError, UsageError
from rrid_edge.files import sha256_of_file
from rrid_edge.model.engine_sidecar import BuildFlags, EngineSidecar, Machine, PrecisionProof, Profile
from rrid_export.triton import TritonSettings, write_triton_repository
from support.onnx_models import of_format_1, save_tiny_model, tiny_model

SPEC = fake_spec()
FLAGS = BuildFlags(
    strongly_typed=True,
    version_compatible=False,
    hardware_compatible=False,
    strip_weights=False,
    tf32=False,
    workspace_mib=512,
    optimization_level=None,
)


@pytest.fixture
def onnx_path(tmp_path):
    return save_tiny_model(tmp_path / "rrid.onnx")


@pytest.fixture
def plan_path(tmp_path):
    path = tmp_path / "rrid.fp16.engine"
    path.write_bytes(b"plan")
    _sidecar(path).write(path)
    return path


def _sidecar(path: Path) -> EngineSidecar:
    return EngineSidecar(
        spec=SPEC.with_precision("fp16"),
        machine=Machine("10.13.3.9", 'NVIDIA "H200"', "9.0"),
        profile=Profile(1, 8, 64),
        onnx_name="rrid.fp16.onnx",
        onnx_sha256="a" * 64,
        plan_sha256=sha256_of_file(path),
        plan_bytes=path.stat().st_size,
        build_s=1.0,
        flags=FLAGS,
        proof=PrecisionProof(10, 0, 1, 0),
    )


def _parse(folder: Path):
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    return text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), messages.ModelConfig())


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_an_onnx_file_becomes_a_repository(onnx_path, tmp_path):
    folder = write_triton_repository(onnx_path, tmp_path / "repository")
    assert folder == tmp_path / "repository" / "rrid"
    assert _files(tmp_path / "repository") == {"rrid/config.pbtxt", "rrid/1/model.onnx"}
    assert (folder / "1" / "model.onnx").read_bytes() == onnx_path.read_bytes()
    config = _parse(folder)
    assert (config.name, config.backend, config.platform) == ("rrid", "onnxruntime", "onnxruntime_onnx")
    assert config.max_batch_size == 32
    (images,), (descriptors,) = config.input, config.output
    assert (images.name, images.data_type, list(images.dims)) == ("images", 2, [192, 64, 3])  # 2: TYPE_UINT8
    assert (descriptors.name, descriptors.data_type) == ("descriptors", 11)  # 11: TYPE_FP32
    assert list(descriptors.dims) == [240]
    assert descriptors.label_filename == ""
    (group,) = config.instance_group
    assert (group.count, group.kind, list(group.gpus)) == (1, 0, [])  # 0: KIND_AUTO
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    assert config.parameters["rrid.fingerprint"].string_value == SPEC.fingerprint
    assert config.parameters["rrid.precision"].string_value == "fp32"


def test_a_plan_becomes_a_repository(plan_path, tmp_path):
    folder = write_triton_repository(plan_path, tmp_path / "repository", TritonSettings(instances=2, gpus=(0, 2)))
    assert _files(folder) == {"config.pbtxt", "1/model.plan"}
    config = _parse(folder)
    assert (config.backend, config.platform, config.max_batch_size) == ("tensorrt", "tensorrt_plan", 64)
    (group,) = config.instance_group
    assert (group.count, group.kind, list(group.gpus)) == (2, 1, [0, 2])  # 1: KIND_GPU
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert config.optimization.cuda.graphs
    assert config.parameters["tensorrt.gpu"].string_value == 'NVIDIA "H200"'


def test_settings_reach_the_configuration(onnx_path, tmp_path):
    settings = TritonSettings(name="reid-v2", version=7, max_batch=16, max_queue_delay_us=0, instances=3, kind="cpu")
    folder = write_triton_repository(onnx_path, tmp_path / "repository", settings)
    assert _files(folder) == {"config.pbtxt", "7/model.onnx"}
    config = _parse(folder)
    assert (config.name, config.max_batch_size) == ("reid-v2", 16)
    assert (config.instance_group[0].count, config.instance_group[0].kind) == (3, 2)  # 2: KIND_CPU


def test_external_weights_are_copied(tmp_path):
    path = tmp_path / "source" / "big.onnx"
    path.parent.mkdir()
    onnx.save_model(
        of_format_1(tiny_model()), str(path), save_as_external_data=True, location="big.data", size_threshold=0
    )
    folder = write_triton_repository(path, tmp_path / "repository")
    assert _files(folder) == {"config.pbtxt", "1/model.onnx", "1/big.data"}
    onnx.load(str(folder / "1" / "model.onnx"))


def test_other_versions_and_models_stay_unchanged(onnx_path, tmp_path):
    repository = tmp_path / "repository"
    write_triton_repository(onnx_path, repository)
    write_triton_repository(onnx_path, repository, TritonSettings(version=2))
    write_triton_repository(onnx_path, repository, TritonSettings(name="other"))
    assert _files(repository) == {
        "rrid/config.pbtxt",
        "rrid/1/model.onnx",
        "rrid/2/model.onnx",
        "other/config.pbtxt",
        "other/1/model.onnx",
    }


@pytest.mark.parametrize(
    ("change", "settings", "complaint"),
    [
        ({"profile": Profile(2, 8, 64)}, {}, "at least 2 images"),
        ({"flags": replace(FLAGS, strip_weights=True)}, {}, "without weights"),
        ({}, {"max_batch": 65}, "at most 64 images, not 65"),
        ({}, {"kind": "cpu"}, "does not run on a CPU"),
    ],
)
def test_plans_that_triton_cannot_serve_are_refused(plan_path, tmp_path, change, settings, complaint):
    replace(_sidecar(plan_path), **change).write(plan_path)
    with pytest.raises(UsageError, match=complaint):
        write_triton_repository(plan_path, tmp_path / "repository", TritonSettings(**settings))
    assert not (tmp_path / "repository").exists()


def test_a_preferred_batch_beyond_the_largest_is_left_out(plan_path, tmp_path):
    folder = write_triton_repository(plan_path, tmp_path / "repository", TritonSettings(max_batch=4))
    assert list(_parse(folder).dynamic_batching.preferred_batch_size) == []


def test_damaged_models_write_nothing(onnx_path, plan_path, tmp_path):
    onnx_path.write_bytes(onnx_path.read_bytes()[:100])
    plan_path.write_bytes(b"pla")
    for model in (onnx_path, plan_path):
        with pytest.raises(ModelFileError):
            write_triton_repository(model, tmp_path / "repository")
    for absent in ("no.onnx", "no.engine"):
        with pytest.raises(UsageError, match="no such"):
            write_triton_repository(tmp_path / absent, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_a_repository_that_cannot_be_written_is_an_output_error(onnx_path, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_triton_repository(onnx_path, tmp_path / "file")


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"name": "../x"}, "model name '../x' is invalid"),
        ({"name": ""}, "model name '' is invalid"),
        ({"kind": "tpu"}, "kind 'tpu' is unknown: expected one of auto, gpu, cpu"),
        ({"kind": "cpu", "gpus": (0, 2)}, "GPU numbers 0, 2 contradict Triton kind cpu: leave one of the two out"),
        ({"instances": 0}, "instances 0 is too small: expected at least 1"),
        ({"version": 0}, "version 0 is too small: expected at least 1"),
        ({"max_batch": 0}, "max_batch 0 is too small: expected at least 1"),
        ({"max_queue_delay_us": -1}, "queue delay -1 us is negative"),
        ({"gpus": (0, -1)}, "GPU numbers 0, -1 are wrong: expected no negative number"),
    ],
)
def test_invalid_settings_are_refused(wrong, complaint):
    with pytest.raises(UsageError, match=complaint):
        TritonSettings(**wrong)
