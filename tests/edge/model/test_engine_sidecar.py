"""The sidecar of an engine: write, read, refuse damage and other machines."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import ModelFileError, UsageError
from rrid_edge.model.engine_sidecar import (
    BuildFlags,
    EngineSidecar,
    Machine,
    PrecisionProof,
    Products,
    Profile,
    version_numbers,
)
from rrid_edge.model.names import sidecar_path
from rrid_edge.model.rebuild import rebuild_command
from rrid_edge.model.rtx_target import RtxBuild, RtxTarget

FLAGS = BuildFlags(
    strongly_typed=True,
    version_compatible=False,
    hardware_compatible=False,
    strip_weights=False,
    tf32=False,
    workspace_mib=512,
    optimization_level=None,
)
HERE = Machine("10.3.0", "Orin", "8.7", 16)
SIDECAR = EngineSidecar(
    spec=fake_spec().with_precision("fp16"),
    machine=HERE,
    profile=Profile(1, 8, 32),
    onnx_name="rrid.fp16.onnx",
    onnx_sha256="a" * 64,
    plan_sha256="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",  # sha256 of b"abc" (FIPS 180)
    plan_bytes=3,
    build_s=12.5,
    flags=FLAGS,
    proof=PrecisionProof(half=50, int8=0, single=6, other=2, products=Products(half=20, int8=0, single=3, other=0)),
)


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "rrid.fp16.engine"
    SIDECAR.write(path)
    return path


def test_a_sidecar_is_read_as_written(engine):
    assert EngineSidecar.read(engine) == SIDECAR
    assert sidecar_path(engine).name == "rrid.fp16.engine.json"


def test_what_another_programs_plan_does_not_tell_is_unknown(engine):
    unknown = replace(FLAGS, strongly_typed=None, tf32=None, workspace_mib=None)
    adopted = replace(SIDECAR, built_by="trtexec", build_s=None, flags=unknown)
    adopted.write(engine)
    assert EngineSidecar.read(engine) == adopted
    values = json.loads(sidecar_path(engine).read_text())
    assert (values["built_by"], values["build_s"], values["flags"]["tf32"]) == ("trtexec", None, None)


def test_a_sidecar_without_a_builder_is_of_this_package(engine):
    values = json.loads(sidecar_path(engine).read_text())
    assert values.pop("built_by") == "rrid-edge"
    sidecar_path(engine).write_text(json.dumps(values))
    assert EngineSidecar.read(engine) == SIDECAR


def test_the_json_has_names_dtypes_and_shapes(engine):
    values = json.loads(sidecar_path(engine).read_text())
    assert values["input"] == {"name": "images", "dtype": "uint8", "shape": ["batch", 192, 64, 3]}
    assert values["output"] == {"name": "descriptors", "dtype": "float32", "shape": ["batch", 240]}
    assert values["precision"] == "fp16"
    assert values["tensorrt"] == "10.3.0"
    assert len(values["blocks"]) == 15


def test_the_built_plan_passes_on_its_machine(engine):
    SIDECAR.check_fits(HERE, engine)
    engine.write_bytes(b"abc")
    assert SIDECAR.read_plan(engine) == b"abc"


@pytest.mark.parametrize(("plan", "complaint"), [(b"ab", "2 bytes, expected 3"), (b"abd", "sha256")])
def test_a_changed_plan_is_refused(engine, plan, complaint):
    engine.write_bytes(plan)
    with pytest.raises(ModelFileError, match=complaint):
        SIDECAR.read_plan(engine)


def test_a_huge_or_missing_plan_is_refused_unread(engine):
    with engine.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(ModelFileError, match="1,099,511,627,776 bytes, expected 3"):
        SIDECAR.read_plan(engine)
    engine.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        SIDECAR.read_plan(engine)


@pytest.mark.parametrize(
    ("here", "complaint"),
    [
        (Machine("10.3.1", "Orin", "8.7"), r"TensorRT 10\.3\.0 \(here 10\.3\.1\);"),
        (Machine("10.3.0", "Xavier", "7.2"), r"Orin, compute capability 8\.7 \(here Xavier, 7\.2\);"),
        (Machine("10.3.0", "Thor", "8.7"), "here Thor"),
        (Machine("8.6.2", "Xavier", "7.2"), "TensorRT .* and Orin"),
        (Machine("10.3.0", "Orin", "8.7", 8), r"Orin with 16 multiprocessors \(here 8: "),
        (Machine("10.3.1", "Orin", "8.7", 8), r"TensorRT 10\.3\.0 .* and Orin with 16 multiprocessors"),
        (Machine("10.3.0", "Thor", "8.7", 8), r"Orin, compute capability 8\.7 \(here Thor, 8\.7\);"),
    ],
)
def test_another_machine_is_refused_with_the_command_to_rebuild(engine, here, complaint):
    with pytest.raises(ModelFileError, match=complaint) as caught:
        SIDECAR.check_fits(here, engine)
    assert caught.value.message.endswith(f"rrid-edge export {engine.parent / 'rrid.fp16.onnx'}")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("built", "here", "fits"),
    [
        ("10.3.0", "10.3.0", True),
        ("10.3.0", "10.13.3.9", True),
        ("8.6.1", "10.3.0", True),
        ("10.3.0", "11.4.0", True),
        ("10.13.3.9", "10.3.0", False),
        ("11.4.0", "10.16.1", False),
    ],
)
def test_version_compatible_plans_run_on_later_versions_only(engine, built, here, fits):
    flags = replace(FLAGS, version_compatible=True)
    sidecar = replace(SIDECAR, machine=replace(HERE, tensorrt=built), flags=flags)
    machine = replace(HERE, tensorrt=here)
    if fits:
        sidecar.check_fits(machine, engine)
    else:
        with pytest.raises(ModelFileError, match="here"):
            sidecar.check_fits(machine, engine)


@pytest.mark.parametrize(("capability", "fits"), [("8.0", True), ("9.0", True), ("10.0", True), ("7.5", False)])
def test_hardware_compatible_plans_run_from_ampere_on(engine, capability, fits):
    sidecar = replace(SIDECAR, flags=replace(FLAGS, hardware_compatible=True))
    machine = Machine("10.3.0", "another", capability)
    if fits:
        sidecar.check_fits(machine, engine)
    else:
        with pytest.raises(ModelFileError, match="another"):
            sidecar.check_fits(machine, engine)


@pytest.mark.parametrize(("built", "here"), [(None, 8), (16, None), (None, None), (16, 16)])
def test_a_number_of_multiprocessors_that_is_not_known_is_not_checked(engine, built, here):
    sidecar = replace(SIDECAR, machine=replace(HERE, multiprocessors=built))
    sidecar.check_fits(replace(HERE, multiprocessors=here), engine)


def test_hardware_compatible_plans_run_on_smaller_models(engine):
    sidecar = replace(SIDECAR, flags=replace(FLAGS, hardware_compatible=True))
    sidecar.check_fits(replace(HERE, multiprocessors=4), engine)


def test_a_sidecar_without_counts_of_products_is_read(engine):
    values = json.loads(sidecar_path(engine).read_text())
    assert values["precision_proof"].pop("products") == {"half": 20, "int8": 0, "single": 3, "other": 0}
    sidecar_path(engine).write_text(json.dumps(values))
    proof = EngineSidecar.read(engine).proof
    assert proof == PrecisionProof(half=50, int8=0, single=6, other=2)
    assert proof.in_words() == "58 layers: 50 in float16, 0 in int8, 6 in float32, 2 of another or unknown type"
    told = "23 convolutions and matrix products of 58 layers: 20 in float16, 0 in int8, 3 in float32"
    assert SIDECAR.proof.in_words() == told


def test_a_sidecar_without_the_number_of_multiprocessors_is_read(engine):
    values = json.loads(sidecar_path(engine).read_text())
    assert values.pop("multiprocessors") == 16
    sidecar_path(engine).write_text(json.dumps(values))
    assert EngineSidecar.read(engine) == replace(SIDECAR, machine=replace(HERE, multiprocessors=None))


BUILT_OTHERWISE = replace(
    SIDECAR,
    profile=Profile(2, 8, 64),
    flags=replace(
        FLAGS,
        strongly_typed=False,
        version_compatible=True,
        exclude_lean_runtime=True,
        hardware_compatible=True,
        strip_weights=True,
        tf32=True,
        optimization_level=0,
    ),
)
OPTIONS = (
    "--min-batch 2 --max-batch 64 --version-compatible --exclude-lean-runtime --hardware-compatible --strip-weights "
    "--tf32"
)


def test_the_command_to_rebuild_has_the_options_of_the_build(engine):
    onnx = engine.with_name("rrid.fp16.onnx")
    assert rebuild_command(engine, BUILT_OTHERWISE) == (
        f"rrid-edge export {onnx} {OPTIONS} --weak-typing --optimization-level 0"
    )
    old = replace(BUILT_OTHERWISE, machine=replace(HERE, tensorrt="8.6.2"))
    assert rebuild_command(engine, old) == f"rrid-edge export {onnx} {OPTIONS} --optimization-level 0"
    assert rebuild_command(engine, SIDECAR) == rebuild_command(engine, None) == f"rrid-edge export {onnx}"
    with pytest.raises(ModelFileError) as caught:
        BUILT_OTHERWISE.check_fits(replace(HERE, tensorrt="8.6.2"), engine)
    assert caught.value.message.endswith(rebuild_command(engine, BUILT_OTHERWISE))


def test_the_command_to_rebuild_names_the_target_and_the_folder(tmp_path):
    target = RtxTarget(("7.5", "8.9"), later=False)
    sidecar = replace(SIDECAR, rtx=RtxBuild(target, inspected=False), onnx_beside=False)
    assert rebuild_command(tmp_path / "a b" / "rrid.fp16.rtx", sidecar) == (
        "rrid-edge export .../rrid.fp16.onnx --for rtx --compute-capability 7.5 --compute-capability 8.9 "
        f"--output '{tmp_path}/a b'"
    )


@pytest.mark.parametrize("target", [RtxTarget(), RtxTarget(("8.0",), later=False)], ids=["default", "Ampere"])
def test_a_gpu_that_no_engine_for_rtx_serves_gets_no_command_that_cannot_help(tmp_path, target):
    sidecar = replace(SIDECAR, rtx=RtxBuild(target, inspected=False))
    h200 = Machine(SIDECAR.machine.tensorrt, "NVIDIA H200", "9.0", 132)
    with pytest.raises(ModelFileError) as caught:
        sidecar.check_fits(h200, tmp_path / "m.fp16.rtx")
    assert caught.value.message == (
        f"{tmp_path}/m.fp16.rtx: this engine cannot run on NVIDIA H200, and none for RTX can: TensorRT for RTX does "
        "not support compute capability 9.0: expected 7.5, 8.0, 8.6, 8.9, 12.0, 12.1 or later; build an engine of "
        "TensorRT here with: rrid-edge export rrid.fp16.onnx, or use that ONNX file with the runtime onnxruntime-cuda"
    )
    for other in ("7.5", "8.9", "12.0", "13.2"):  # engines for these can be built
        if not target.serves(other):
            with pytest.raises(ModelFileError, match=f"--compute-capability {other}"):
                sidecar.check_fits(replace(h200, compute_capability=other), tmp_path / "m.fp16.rtx")


def _change(*keys: str, value: object):
    def change(values):
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return change


def _remove(*keys: str):
    def change(values):
        for key in keys[:-1]:
            values = values[key]
        del values[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_change("format", value=2), "of format 2, expected at most 1: made by a newer release; update rrid-edge"),
        (_change("format", value="1"), "Expected int, got str at format"),
        (_change("format", value=0), "int >= 1 at format"),
        (_remove("plan"), "missing required field plan"),
        (_remove("flags", "tf32"), "missing required field tf32 at flags"),
        (_change("flags", "tf32", value=1), r"Expected bool \| null, got int at flags.tf32"),
        (_change("flags", "optimization_level", value="high"), r"Expected int \| null, got str"),
        (_change("flags", "optimization_level", value=6), "int <= 5"),
        (_change("flags", "workspace_mib", value=-1), "int >= 0 at flags.workspace_mib"),
        (_change("plan", "sha256", value="abc"), "matching regex .* at plan.sha256"),
        (_change("plan", "bytes", value=True), "Expected int, got bool at plan.bytes"),
        (_change("plan", "bytes", value=-3), "int >= 0 at plan.bytes"),
        (_change("tensorrt", value="new"), "matching regex .* at tensorrt"),
        (_change("tensorrt", value="9" * 5000), "length <= 64 at tensorrt"),
        (_change("gpu", value=None), "Expected str, got null at gpu"),
        (_change("compute_capability", value="x"), "matching regex .* at compute_capability"),
        (_change("compute_capability", value="\u0668.0"), "at compute_capability"),
        (_change("multiprocessors", value=0), "int >= 1 at multiprocessors"),
        (_change("multiprocessors", value="16"), r"Expected int \| null, got str at multiprocessors"),
        (_change("profile", "max_batch", value=4), "min <= opt <= max"),
        (_change("profile", "min_batch", value=0), "int >= 1 at profile.min_batch"),
        (_change("profile", "max_batch", value=10**30), "at profile.max_batch"),
        (_change("profile", "max_batch", value=32.5), "at profile.max_batch"),
        (_change("precision", value="fp32"), "contradict"),
        (_change("fingerprint", value="0" * 64), "contradict"),
        (_change("source_onnx", "name", value="../evil.onnx"), "at source_onnx.name"),
        (_change("source_onnx", "name", value="/etc/passwd"), "at source_onnx.name"),
        (_change("source_onnx", "name", value=".."), "at source_onnx.name"),
        (_change("source_onnx", "name", value="a\0b"), "at source_onnx.name"),
        (_change("source_onnx", "name", value=""), "at source_onnx.name"),
        (_change("metadata", value=[]), "Expected object, got array at metadata"),
        (_change("metadata", "rrid.height_px", value=192), "Expected str, got int at metadata"),
        (_remove("metadata", "rrid.flip"), "damaged metadata of the model .*flip"),
        (_change("build_s", value="long"), r"Expected float \| null, got str at build_s"),
        (_change("build_s", value=float("inf")), "malformed"),
        (_change("build_s", value=-1), "float >= 0.0 at build_s"),
        (_change("precision_proof", value=3), "Expected object, got int at precision_proof"),
        (_change("precision_proof", "half", value=-1), "int >= 0 at precision_proof.half"),
        (_change("precision_proof", "products", "int8", value=-1), "int >= 0 at precision_proof.products.int8"),
        (_change("precision_proof", "products", value=3), r"Expected .*object.*, got int at precision_proof.products"),
    ],
)
def test_a_damaged_sidecar_is_refused_in_one_line(engine, change, complaint):
    values = json.loads(sidecar_path(engine).read_text())
    change(values)
    sidecar_path(engine).write_text(json.dumps(values))
    with pytest.raises(ModelFileError, match=complaint) as caught:
        EngineSidecar.read(engine)
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 99_999, b'{"format":' * 9_999],
    ids=["empty", "cut", "list", "number", "no UTF-8", "deep list", "deep object"],
)
def test_other_content_is_refused_as_damaged(engine, content):
    sidecar_path(engine).write_bytes(content)
    with pytest.raises(ModelFileError, match="damaged"):
        EngineSidecar.read(engine)


def test_a_missing_sidecar_is_refused_with_the_command_to_rebuild(tmp_path):
    with pytest.raises(ModelFileError, match=r"m\.engine needs this sidecar.*rrid-edge export"):
        EngineSidecar.read(tmp_path / "m.engine")


def test_versions_are_compared_as_numbers():
    assert version_numbers("10.16.1.11") > version_numbers("10.3.0")
    assert version_numbers("10.3.0.30-1+cuda12.5") == (10, 3, 0, 30)
