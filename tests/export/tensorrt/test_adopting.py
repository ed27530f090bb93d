"""Adopting a plan that trtexec built: it is proved first, and a plan that fails gets no sidecar."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from rrid_edge.engines import open_engine
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.engines.onnxruntime.cpu import OnnxRuntimeEngine
from rrid_edge.errors import (
    CheckFailedError,
    FingerprintMismatchError,
    MissingDependencyError,
    ModelFileError,
    OutputError,
    UsageError,
)
from rrid_edge.files import sha256_of_file
from rrid_edge.model.engine_sidecar import EngineSidecar
from rrid_edge.model.names import sidecar_path
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.spec import FLOAT32_NCHW
from rrid_edge.parity.goldens import Goldens, save_goldens
from rrid_edge.ranking.labels import Labels
from rrid_export.adopt.facts import Choices
from rrid_export.adopt.foreign import read_foreign
from rrid_export.adopt.pipeline import AdoptSettings as AdoptNetworkSettings
from rrid_export.adopt.pipeline import adopt_network
from rrid_export.half.pipeline import write_half
from rrid_export.tensorrt.adopting import AdoptSettings, adopt_plan
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.settings import BuildSettings
from support.commands import refused, rrid_edge
from support.foreign import ForeignFile
from support.onnx_models import save_tiny_model
from support.tensorrt_behaviour import MAGIC, install

SPEC = fake_spec().with_precision("fp16")


@pytest.fixture
def onnx_path(tmp_path):
    return save_tiny_model(tmp_path / "rrid.fp16.onnx", SPEC)


def _plan(onnx_path, name="rrid.fp16.engine", **settings):
    """A plan as trtexec leaves it: without a sidecar."""
    path = onnx_path.parent / name
    build_engine(onnx_path, path, BuildSettings(**({"opt_batch": 2, "max_batch": 4} | settings)))
    sidecar_path(path).unlink()
    return path


def _answers_as(world, onnx_path):
    """Let the stand-in compute what the ONNX file computes."""
    engine = OnnxRuntimeEngine(onnx_path)
    world.compute = lambda spec, images: engine.run(images)


def _changed(path, **entries):
    """Change entries of the stand-in's plan."""
    plan = json.loads(path.read_bytes()[len(MAGIC) :])
    path.write_bytes(MAGIC + json.dumps(plan | entries).encode())
    return path


def _save_goldens(path, spec=SPEC, count=4):
    images = np.random.default_rng(0).integers(0, 256, (count, spec.height_px, spec.width_px, 3), dtype=np.uint8)
    with FakeEngine(spec) as engine:
        unknown = Labels(np.full(count, -1), np.full(count, -1))
        save_goldens(path, Goldens(images, engine.run(images), ("x",) * count, spec.fingerprint, unknown))


def _refused(error, plan, onnx_path, *words, settings=None):
    before = {path.name: path.read_bytes() for path in plan.parent.iterdir() if path.is_file()}
    with pytest.raises(error) as caught:
        adopt_plan(plan, onnx_path, settings)
    assert type(caught.value) is error
    for word in words:
        assert word in caught.value.message
    assert {path.name: path.read_bytes() for path in plan.parent.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0", "11.4.0.106"])
def test_a_plan_that_answers_as_its_onnx_file_gets_a_sidecar(monkeypatch, onnx_path, version):
    world = install(monkeypatch, version)
    built = build_engine(onnx_path, onnx_path.with_name("rrid.fp16.engine"), BuildSettings(opt_batch=2, max_batch=4))
    plan = _plan(onnx_path)
    _answers_as(world, onnx_path)
    adoption = adopt_plan(plan, onnx_path)
    sidecar = EngineSidecar.read(plan)
    assert sidecar == adoption.sidecar
    # What the plan tells is what a build of this package writes; the rest is unknown.
    typed = {"8": False, "10": None, "11": True}[version.split(".")[0]]
    flags = replace(built.flags, strongly_typed=typed, tf32=None, workspace_mib=None)
    assert sidecar == replace(
        built,
        flags=flags,
        build_s=None,
        built_by="trtexec",
        plan_sha256=sha256_of_file(plan),
        plan_bytes=built.plan_bytes,
    )
    assert adoption.report.reference == f"{onnx_path} on onnxruntime CPU fp16, drawn patterns"
    with open_engine(plan) as engine:
        assert engine.max_batch == 4
    assert world.cuda.live == 0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_plan_of_an_adopted_network_gets_a_sidecar(recent, tmp_path, precision):
    choices = Choices(color="bgr", scale=255.0, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), flip=True)
    network = read_foreign(ForeignFile().write(tmp_path / "net.onnx"))
    onnx_path = adopt_network(network, tmp_path / "models", AdoptNetworkSettings(choices)).model
    if precision == "fp16":
        onnx_path = write_half(onnx_path).model
    plan = _plan(onnx_path, onnx_path.with_suffix(".engine").name)
    _answers_as(recent, onnx_path)
    recent.log.clear()
    outcome = rrid_edge("engine", "adopt", plan, "--onnx", onnx_path, "--json")
    assert outcome.code == 0, outcome.err
    assert recent.log.count("Runtime.deserialize_cuda_engine") == 1
    sidecar, spec = EngineSidecar.read(plan), read_spec(onnx_path)
    assert sidecar.spec == spec
    assert (spec.family, spec.origin, spec.precision) == ("adopted", "net.onnx", precision)
    assert json.loads(outcome.out)["sidecar"] == sidecar.to_json()
    images = np.random.default_rng(2).integers(0, 256, (3, spec.height_px, spec.width_px, 3), dtype=np.uint8)
    with open_engine(plan) as engine, OnnxRuntimeEngine(onnx_path) as expected:
        assert np.array_equal(engine.run(images), expected.run(images))
    assert recent.cuda.live == 0


def test_the_plan_of_another_preprocessing_is_refused(recent, tmp_path):
    """The networks differ only in their channel order."""
    network = read_foreign(ForeignFile().write(tmp_path / "net.onnx"))
    rgb, bgr = (
        adopt_network(
            network,
            tmp_path / color,
            AdoptNetworkSettings(Choices(color=color, scale=255.0, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))),
        ).model
        for color in ("rgb", "bgr")
    )
    plan = rgb.with_name("net.engine")
    plan.write_bytes(_plan(bgr, "net.engine").read_bytes())
    _answers_as(recent, bgr)
    _refused(CheckFailedError, plan, rgb, f"does not answer as {rgb} does", "goldens")


def test_goldens_beside_the_onnx_file_are_enough(recent, onnx_path, tmp_path, monkeypatch):
    _save_goldens(tmp_path / "rrid.goldens.npz")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "plans").mkdir()
    plan = _plan(onnx_path, "plans/other.plan")
    assert adopt_plan(plan, onnx_path).report.reference == f"goldens {tmp_path / 'rrid.goldens.npz'}"
    assert EngineSidecar.read(plan).onnx_name == "rrid.fp16.onnx"


def test_crops_are_compared_with_the_onnx_file(recent, onnx_path, tmp_path):
    from PIL import Image

    (tmp_path / "crops").mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (90, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "crops" / f"{index:04d}_c1s1_000001_00.png")
    (tmp_path / "crops" / "bad.jpg").write_bytes(b"\xff\xd8\xffno")
    plan = _plan(onnx_path)
    _save_goldens(tmp_path / "rrid.goldens.npz")  # crops that were given come first
    settings = AdoptSettings(crops=tmp_path / "crops")
    _refused(CheckFailedError, plan, onnx_path, "does not answer as", settings=settings)
    _answers_as(recent, onnx_path)
    adoption = adopt_plan(plan, onnx_path, settings)
    assert adoption.report.agreement.images == 3
    assert [line.split(":")[0] for line in adoption.left_out] == [str(tmp_path / "crops" / "bad.jpg")]


@pytest.mark.parametrize("with_goldens", [True, False])
def test_a_plan_of_another_network_is_refused(recent, onnx_path, tmp_path, with_goldens):
    """The plan has the same shapes but other weights."""
    other = save_tiny_model(tmp_path / "other" / "rrid.fp16.onnx", fake_spec("other").with_precision("fp16"), seed=1)
    plan = tmp_path / "rrid.fp16.engine"
    plan.write_bytes(_plan(other).read_bytes())
    if with_goldens:
        _save_goldens(tmp_path / "rrid.goldens.npz")
    else:
        _answers_as(recent, other)
    _refused(CheckFailedError, plan, onnx_path, f"does not answer as {onnx_path} does", "minimum cosine", "below")


def test_goldens_of_another_network_are_refused(recent, onnx_path, tmp_path):
    _save_goldens(tmp_path / "rrid.goldens.npz", fake_spec("other"))
    _refused(FingerprintMismatchError, _plan(onnx_path), onnx_path, "another network")


def test_a_plan_of_another_size_is_refused(recent, onnx_path, tmp_path):
    small = save_tiny_model(tmp_path / "small" / "m.fp16.onnx", fake_spec(width_px=32).with_precision("fp16"))
    _refused(ModelFileError, _plan(small, "m.fp16.engine"), onnx_path, "not one of rrid-edge", "[batch, 192, 64, 3]")


def test_a_plan_of_another_precision_is_refused(recent, onnx_path, tmp_path):
    recent.built_precision = None
    plan = _changed(_plan(onnx_path), precision="fp32")
    _refused(CheckFailedError, plan, onnx_path, str(plan), "not fp16")
    named = onnx_path.with_name("rrid.int8.engine")
    named.write_bytes(plan.read_bytes())
    _refused(UsageError, named, onnx_path, "its name says int8, but its ONNX file is fp16")


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0"])
def test_a_plan_whose_norm_is_float16_is_refused(monkeypatch, onnx_path, version):
    """trtexec --fp16 without constraints: the answers of the stand-in are right, but larger features would overflow."""
    world = install(monkeypatch, version)
    plan = _plan(onnx_path)
    world.half_tail = True
    _save_goldens(onnx_path.with_name("rrid.goldens.npz"))
    _refused(CheckFailedError, plan, onnx_path, "norm in float16")


@pytest.mark.parametrize("version", ["8.6.0", "11.4.0.106"])
def test_a_plan_without_types_is_refused_with_the_flag_that_mends_it(monkeypatch, onnx_path, version):
    install(monkeypatch, version)
    plan = _changed(_plan(onnx_path), detailed=False)
    _refused(CheckFailedError, plan, onnx_path, "precision cannot be proved", "--profilingVerbosity=detailed")


def test_two_profiles_are_refused(recent, onnx_path, monkeypatch):
    plan = _plan(onnx_path)
    monkeypatch.setattr(recent.module.ICudaEngine, "num_optimization_profiles", property(lambda self: 2))
    _refused(ModelFileError, plan, onnx_path, "one profile", "profiles: 2")


def test_another_dtype_is_refused(recent, onnx_path, monkeypatch):
    plan = _plan(onnx_path)
    types = recent.module.DataType
    monkeypatch.setattr(recent.module.ICudaEngine, "get_tensor_dtype", lambda self, name: types.FLOAT)
    _refused(ModelFileError, plan, onnx_path, "images uint8", "found")


def test_a_static_batch_is_adopted_and_works(recent, onnx_path):
    """trtexec without shapes builds a plan for batches of 1."""
    plan = _plan(onnx_path, min_batch=1, opt_batch=1, max_batch=1)
    _save_goldens(onnx_path.with_name("rrid.goldens.npz"))
    profile = adopt_plan(plan, onnx_path).sidecar.profile
    assert (profile.min_batch, profile.opt_batch, profile.max_batch) == (1, 1, 1)


def test_a_plan_that_takes_planes_is_adopted_with_its_onnx_file_only(recent, onnx_path, tmp_path):
    planes = save_tiny_model(tmp_path / "rrid.nchw.fp16.onnx", SPEC.with_input(FLOAT32_NCHW))
    plan = _plan(planes, "rrid.nchw.fp16.engine")
    _save_goldens(tmp_path / "rrid.goldens.npz")
    _refused(ModelFileError, plan, onnx_path, "not one of rrid-edge")
    assert adopt_plan(plan, planes).sidecar.spec.input == FLOAT32_NCHW


def test_what_is_no_plan_is_refused(recent, onnx_path, tmp_path):
    plan = tmp_path / "rrid.fp16.plan"
    _refused(UsageError, plan, onnx_path, "cannot be read", "give the plan")
    plan.write_bytes(b"")
    _refused(ModelFileError, plan, onnx_path, "refused loading the engine")
    plan.write_bytes(onnx_path.read_bytes())
    _refused(ModelFileError, plan, onnx_path, "refused loading the engine", "magic tag", "--versionCompatible")
    for name in ("rrid.trt", "rrid.fp16.rtx"):
        named = tmp_path / name
        named.write_bytes(b"")
        _refused(UsageError, named, onnx_path, "expected the ending .engine or .plan")


def test_a_version_compatible_plan_has_to_be_named_as_such(recent, onnx_path):
    plan = _plan(onnx_path, version_compatible=True)
    _save_goldens(onnx_path.with_name("rrid.goldens.npz"))
    _refused(ModelFileError, plan, onnx_path, "host code is not allowed", "--versionCompatible")
    assert adopt_plan(plan, onnx_path, AdoptSettings(version_compatible=True)).sidecar.flags.version_compatible


def test_a_plan_without_weights_has_to_be_named_as_such(recent, onnx_path):
    plan = _plan(onnx_path, strip_weights=True)
    _save_goldens(onnx_path.with_name("rrid.goldens.npz"))
    _refused(CheckFailedError, plan, onnx_path, "does not answer as", "--stripWeights has to be named")
    assert adopt_plan(plan, onnx_path, AdoptSettings(strip_weights=True)).sidecar.flags.strip_weights


def test_a_hardware_compatible_plan_is_recognised(recent, onnx_path, monkeypatch, tmp_path):
    monkeypatch.setattr("rrid_edge.machine.gpu._JETSON_RELEASE", tmp_path / "absent")
    plan = _plan(onnx_path, hardware_compatible=True)
    _save_goldens(onnx_path.with_name("rrid.goldens.npz"))
    assert adopt_plan(plan, onnx_path).sidecar.flags.hardware_compatible


def test_an_existing_sidecar_is_kept_unless_it_is_to_be_replaced(recent, onnx_path):
    plan = onnx_path.with_name("rrid.fp16.engine")
    build_engine(onnx_path, plan)
    _save_goldens(onnx_path.with_name("rrid.goldens.npz"))
    _refused(UsageError, plan, onnx_path, "has a sidecar already")
    assert adopt_plan(plan, onnx_path, AdoptSettings(replace=True)).sidecar == EngineSidecar.read(plan)
    assert EngineSidecar.read(plan).built_by == "trtexec"


def test_a_changed_onnx_file_is_refused_before_the_gpu_is_asked(recent, onnx_path):
    plan = _plan(onnx_path)
    onnx_path.write_bytes(onnx_path.read_bytes()[:-40])
    recent.cuda.calls.clear()
    _refused(ModelFileError, plan, onnx_path)
    assert recent.cuda.calls == []


def test_without_a_gpu_or_a_runtime_the_missing_one_is_named(recent, onnx_path, monkeypatch):
    plan = _plan(onnx_path)
    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    _refused(MissingDependencyError, plan, onnx_path, "put the goldens rrid.goldens.npz beside")
    recent.cuda.driver_error = recent.cuda.cudaError_t.cudaErrorNoDevice
    recent.log.clear()
    _refused(MissingDependencyError, plan, onnx_path, "no NVIDIA GPU")
    assert recent.log == []


def test_a_sidecar_that_cannot_be_written_is_an_output_error(recent, onnx_path):
    plan = _plan(onnx_path)
    _save_goldens(onnx_path.with_name("rrid.goldens.npz"))
    sidecar_path(plan).mkdir()
    with pytest.raises(OutputError):
        adopt_plan(plan, onnx_path, AdoptSettings(replace=True))


def test_the_command_adopts_and_refuses(recent, onnx_path, tmp_path):
    plan = _plan(onnx_path)
    refused(rrid_edge("engine", "adopt", plan, "--onnx", onnx_path), 1, "does not answer as", "nothing was written")
    _save_goldens(tmp_path / "rrid.goldens.npz")
    outcome = rrid_edge("engine", "adopt", plan, "--onnx", onnx_path)
    assert outcome.code == 0, outcome
    assert outcome.out.splitlines()[:2] == [
        f"{plan}: adopted as fp16 engine for batches of 1 to 4",
        f"sidecar {plan}.json",
    ]
    assert f"rrid-edge parity {plan}" in outcome.err
    assert "by trtexec" in rrid_edge("info", plan).out
    refused(rrid_edge("engine", "adopt", plan, "--onnx", onnx_path), 2, "has a sidecar already", "option --replace")
    outcome = rrid_edge("engine", "adopt", plan, "--onnx", onnx_path, "--replace", "--json")
    facts = json.loads(outcome.out)
    assert facts["sidecar"] == json.loads(sidecar_path(plan).read_text())
    assert facts["parity"]["verdict"] in ("passed", "not decided")
    sidecar_path(plan).unlink()
    plan.write_bytes(b"no plan")
    words = ("refused loading", "option --version-compatible")
    refused(rrid_edge("engine", "adopt", plan, "--onnx", onnx_path), 4, *words)
