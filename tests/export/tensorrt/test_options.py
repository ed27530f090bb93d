"""Options of an engine's build: what they set, where they write, and where they are refused."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.engine_options import Target
from rrid_edge.cli.engine_steps import build_here, settings_of
from rrid_edge.cli.export import export
from rrid_edge.engines.fake import fake_spec
from rrid_edge.engines.tensorrt import lean
from rrid_edge.engines.tensorrt.engine import TensorRTEngine
from rrid_edge.errors import MissingDependencyError, ModelFileError, OutputError, UsageError
from rrid_edge.model import rebuild
from rrid_edge.model.engine_sidecar import EngineSidecar, Profile
from rrid_edge.model.rebuild import DEFAULT_BATCHES
from rrid_edge.model.rtx_target import RtxTarget
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.settings import BuildSettings
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model
from support.tensorrt_behaviour import install
from support.tensorrt_standin import VERSIONS

LEAN_OUT = BuildSettings(version_compatible=True, exclude_lean_runtime=True)


@pytest.fixture
def onnx_path(tmp_path):
    (tmp_path / "models").mkdir()
    return save_tiny_model(tmp_path / "models" / "rrid.fp16.onnx", fake_spec().with_precision("fp16"))


# -- the command line --------------------------------------------------------------------------------------------------


def test_options_reach_the_builder_and_the_sidecar(recent, onnx_path, tmp_path):
    outcome = rrid_edge(
        *("export", onnx_path, "--weak-typing", "--optimization-level", 2, "--tf32", "--timing-cache", tmp_path / "t"),
        *("--version-compatible", "--exclude-lean-runtime", "--workspace", 64, "--json"),
    )
    assert outcome.code == 0, outcome
    flags = EngineSidecar.read(onnx_path.with_name("rrid.fp16.engine")).flags
    assert (flags.strongly_typed, flags.optimization_level, flags.tf32, flags.workspace_mib) == (False, 2, True, 64)
    assert (flags.version_compatible, flags.exclude_lean_runtime) == (True, True)
    assert recent.configs[0].fake_builder_optimization_level == 2
    assert {"FP16", "TF32", "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"} <= recent.configs[0].fake_flag_names
    assert "tf32, exclude lean runtime, optimization level 2" in rrid_edge("info", onnx_path.with_suffix(".engine")).out
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["tensorrt-10.13.3.9-sm87.timing"]


def test_paths_reach_export_as_paths_where_typer_keeps_them_as_text(onnx_path, tmp_path, capsys):
    """Typer 0.12 to 0.27 leave text in the parameters of the context, and convert what the function gets."""
    commands: Any = typer.main.get_command(app)
    command = commands.commands["export"]
    options = {"output": tmp_path / "new" / "engines", "print_trtexec": True, "trtexec_version": "10"}
    words = ["--output", str(options["output"]), "--print-trtexec", "--trtexec-version", "10"]
    with command.make_context("export", [str(onnx_path), *words]) as context:
        context.params = {name: str(one) if isinstance(one, Path) else one for name, one in context.params.items()}
        export(context, str(onnx_path), **options)
    assert f"--saveEngine={options['output'] / 'rrid.fp16.engine'}" in capsys.readouterr().out


def _export_options() -> list[Any]:
    command: Any = typer.main.get_command(app)
    return list(command.commands["export"].params)


def test_every_setting_but_the_files_precision_is_an_option():
    given = {option.name for option in _export_options()}
    assert {item.name for item in fields(BuildSettings)} - given == {"precision", "workspace_mib", "rtx"}
    assert settings_of({"workspace": 77, "tf32": True}) == BuildSettings(workspace_mib=77, tf32=True)
    for_rtx = settings_of({"target": Target.RTX, "compute_capability": ["8.9"]})
    assert for_rtx == BuildSettings(rtx=RtxTarget(("8.9",), later=False))


def test_a_command_to_rebuild_is_understood_and_leaves_defaults_out(onnx_path):
    assert BuildSettings().profile == Profile(*DEFAULT_BATCHES)
    options = {option for declared in _export_options() for option in (*declared.opts, *declared.secondary_opts)}
    written = {word for word in Path(rebuild.__file__).read_text().split('"') if word.startswith("--")}
    assert {word for word in written if "{" not in word} <= options


def test_output_takes_engine_sidecar_and_timing_cache(recent, onnx_path, tmp_path):
    outcome = rrid_edge("export", onnx_path, "--output", tmp_path / "out" / "deep", "--json")
    assert json.loads(outcome.out) == {"engine": str(tmp_path / "out" / "deep" / "rrid.fp16.engine")}
    names = {path.name for path in (tmp_path / "out" / "deep").iterdir()}
    assert names == {"rrid.fp16.engine", "rrid.fp16.engine.json", "tensorrt-10.13.3.9-sm87.timing"}
    assert [path.name for path in onnx_path.parent.iterdir()] == [onnx_path.name]
    with TensorRTEngine(tmp_path / "out" / "deep" / "rrid.fp16.engine") as engine:
        assert engine.spec == fake_spec().with_precision("fp16")


def test_trtexec_writes_to_the_same_place(onnx_path, tmp_path):
    arguments = ("--print-trtexec", "--trtexec-version", "10", "--output", tmp_path / "out", "--json")
    command = json.loads(rrid_edge("export", onnx_path, *arguments).out)["command"]
    assert f"--saveEngine={tmp_path / 'out' / 'rrid.fp16.engine'}" in command


def test_an_engine_elsewhere_does_not_name_an_onnx_file_that_is_not_there(recent, onnx_path, tmp_path):
    out = tmp_path / "out"
    build_engine(onnx_path, out / "rrid.fp16.engine")
    recent.cuda.name = "Thor"
    with pytest.raises(ModelFileError) as caught:
        TensorRTEngine(out / "rrid.fp16.engine")
    assert caught.value.message.endswith(f"with: rrid-edge export .../rrid.fp16.onnx --output {out}")


def test_options_of_an_engine_are_refused_where_none_is_built(recent, tmp_path):
    arguments = ("--max-batch", 64, "--tf32", "--weak-typing", "--timing-cache", "t", "--tensorrt-log", tmp_path / "l")
    refused(
        rrid_edge("export", tmp_path / "best.safetensors", *arguments),
        2,
        f"--max-batch 64 --weak-typing --tf32 --timing-cache t --tensorrt-log {tmp_path / 'l'}: no engine is built",
        "add --fp16 or --int8",
    )


@pytest.mark.parametrize("option", ["--output", "--triton", "--deepstream"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_network_is_loaded(tmp_path, option):
    (tmp_path / "file").write_text("")
    outcome = rrid_edge("export", tmp_path / "best.safetensors", option, tmp_path / "file" / "folder")
    refused(outcome, OutputError("").exit_code, "file/folder: cannot be written (Not a directory)")


def test_options_of_a_network_are_refused_with_an_onnx_file(recent, onnx_path):
    for arguments in (["--no-flip"], ["--fp16"], ["--height", 384], ["--golden-crops", 9], ["--crops", "c"]):
        words = " ".join(map(str, arguments))
        outcome = rrid_edge("export", onnx_path, *arguments)
        refused(outcome, 2, f"{words}: the network is in the ONNX file already: give this with a checkpoint")
    assert recent.log == []


def test_options_of_the_trtexec_command_are_refused_without_it(onnx_path, tmp_path):
    outcome = rrid_edge("export", onnx_path, "--trtexec-version", "10")
    refused(outcome, 2, "--trtexec-version is for the command that --print-trtexec prints")
    outcome = rrid_edge("export", onnx_path, "--print-trtexec", "--triton", tmp_path / "t")
    refused(outcome, 2, "--triton has no effect")


def test_without_a_gpu_the_command_for_the_device_keeps_the_options(recent, onnx_path):
    recent.cuda.devices = 0
    with pytest.raises(MissingDependencyError) as caught:
        build_here(
            [onnx_path], BuildSettings(), ["--max-batch", "64", "--timing-cache", "a b"], required=True, quiet=False
        )
    assert caught.value.message.endswith(f"run: rrid-edge export {onnx_path} --max-batch 64 --timing-cache 'a b'")


def test_tensorrt_11_refuses_weak_typing_with_the_option(monkeypatch, onnx_path):
    install(monkeypatch, "11.4.0.106")
    refused(rrid_edge("export", onnx_path, "--weak-typing"), 2, "leave strong typing on", "option --strong-typing")


# -- folders -----------------------------------------------------------------------------------------------------------


def test_an_engine_without_weights_needs_its_onnx_file_beside_it(recent, onnx_path, tmp_path):
    engine_path, settings = tmp_path / "out" / "rrid.fp16.engine", BuildSettings(strip_weights=True)
    with pytest.raises(UsageError, match=r"models/rrid\.fp16\.onnx: .*copy it to .*/out first"):
        build_engine(onnx_path, engine_path, settings)
    assert not engine_path.parent.exists()
    engine_path.parent.mkdir()
    save_tiny_model(engine_path.with_name(onnx_path.name), fake_spec().with_precision("fp16"), seed=3)
    with pytest.raises(UsageError, match="must be in the engine's folder"):  # another file of this name
        build_engine(onnx_path, engine_path, settings)
    assert recent.log == []
    engine_path.with_name(onnx_path.name).write_bytes(onnx_path.read_bytes())
    assert build_engine(onnx_path, engine_path, settings).onnx_beside
    TensorRTEngine(engine_path).close()


@pytest.mark.parametrize("which", ["engine", "cache"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_build(recent, onnx_path, tmp_path, which):
    (tmp_path / "file").write_text("")
    wrong = tmp_path / "file" / "folder"
    settings = BuildSettings(timing_cache_folder=wrong if which == "cache" else None)
    with pytest.raises(OutputError, match="file/folder: cannot be written"):
        build_engine(onnx_path, (wrong if which == "engine" else tmp_path) / "m.engine", settings)
    assert recent.log == []
    assert not (tmp_path / "m.engine").exists()


# -- the lean runtime --------------------------------------------------------------------------------------------------


def test_excluding_needs_a_version_compatible_plan():
    with pytest.raises(UsageError, match="exclude_lean_runtime does not work without version_compatible"):
        BuildSettings(exclude_lean_runtime=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_missing_lean_runtime_is_named_before_the_build(monkeypatch, onnx_path, tmp_path, version):
    world = install(monkeypatch, version)
    monkeypatch.setattr("rrid_edge.engines.tensorrt.lean._wheel_of_lean_runtime", lambda: None)
    world.lean_runtimes.clear()
    major = version.split(".")[0]
    with pytest.raises(MissingDependencyError) as caught:
        build_engine(onnx_path, tmp_path / "m.engine", BuildSettings(version_compatible=True))
    assert f"libnvinfer_lean.so.{major}), which is not installed: sudo apt install libnvinfer-lean{major}" in str(
        caught.value
    )
    assert "exclude_lean_runtime" in caught.value.message
    assert world.networks == []
    build_engine(onnx_path, tmp_path / "m.engine", LEAN_OUT)
    TensorRTEngine(tmp_path / "m.engine").close()  # the same TensorRT needs no lean runtime


def test_the_lean_runtime_of_tensorrt_from_pypi_is_a_wheel(monkeypatch, tmp_path):
    monkeypatch.setattr("rrid_edge.machine.gpu._JETSON_RELEASE", tmp_path / "absent")
    installed = {"tensorrt-cu12-libs"}

    def version(name):
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return "10.3.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    message = lean.missing_lean_runtime("10.3.0", "this", "that").message
    assert message.endswith("not installed: pip install 'tensorrt-lean-cu12-libs==10.3.0', or that")
    monkeypatch.setattr("rrid_edge.machine.gpu._JETSON_RELEASE", tmp_path)
    assert "pip" not in lean.missing_lean_runtime("10.3.0", "this", "that").message


def test_a_wheel_of_another_version_is_named_and_not_loaded(monkeypatch, tmp_path):
    def version(name):
        if name != "tensorrt-lean-cu12-libs":
            raise importlib.metadata.PackageNotFoundError(name)
        return "10.9.0.34"

    (tmp_path / lean._WHEEL).mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(lean, "load_library", lambda _name: None)
    monkeypatch.setattr(lean, "_MAPS", tmp_path / "absent")
    monkeypatch.setattr(importlib.metadata, "version", version)
    assert lean.load_lean_runtime("10.3.0") == "libnvinfer_lean.so.10"
    assert lean.load_lean_runtime("10.9.0") == str(tmp_path / lean._WHEEL / "libnvinfer_lean.so.10")
    message = lean.missing_lean_runtime("10.3.0", "this", "that").message
    assert "(libnvinfer_lean.so.10), but tensorrt-lean-cu12-libs 10.9.0.34 is installed: " in message


def test_the_lean_runtime_is_looked_for_in_the_wheel_and_beside_tensorrt(monkeypatch, tmp_path):
    tried = []

    def load_library(name):
        tried.append(name)
        raise OSError

    (tmp_path / lean._WHEEL).mkdir()
    maps = tmp_path / "maps"
    maps.write_text(
        "7f00-7f01 r-xp 00000000 08:01 42 /opt/a b/libnvinfer.so.10.3.0\n7f02-7f03 rw-p 00000000 00:00 0\n"
        "7f04-7f05 r-xp 00000000 08:01 43 /usr/lib/libcuda.so.1\n"
    )
    monkeypatch.setattr(lean, "load_library", load_library)
    monkeypatch.setattr(lean, "_MAPS", maps)
    monkeypatch.syspath_prepend(tmp_path)
    assert lean.load_lean_runtime("10.3.0") is None
    name = "libnvinfer_lean.so.10"
    assert tried == [str(tmp_path / lean._WHEEL / name), f"/opt/a b/{name}", name]


def test_a_plan_without_lean_runtime_needs_that_of_its_version(monkeypatch, onnx_path, tmp_path):
    install(monkeypatch, "10.3.0")
    engine_path = tmp_path / "m.engine"
    build_engine(onnx_path, engine_path, LEAN_OUT)
    world = install(monkeypatch, "11.4.0.106")
    with pytest.raises(MissingDependencyError, match=r"TensorRT 10\.3\.0 .*libnvinfer_lean\.so\.10.*RRID_EDGE_LEAN"):
        TensorRTEngine(engine_path)
    world.lean_runtimes["libnvinfer_lean.so.10"] = "10.3.0"
    with TensorRTEngine(engine_path) as engine:
        assert engine.spec == fake_spec().with_precision("fp16")
    assert world.cuda.live == 0
    monkeypatch.setenv(lean.LEAN_RUNTIME_VARIABLE, "/opt/lean.so")
    with pytest.raises(ModelFileError, match=r"loading the lean runtime /opt/lean\.so \(cannot load /opt/lean\.so\)"):
        TensorRTEngine(engine_path)
    world.lean_runtimes["/opt/lean.so"] = "10.3.0"
    TensorRTEngine(engine_path).close()
    world.lean_runtimes["/opt/lean.so"] = "10.13.3.9"
    with pytest.raises(ModelFileError, match=r"the plan was built by 10\.3\.0, this is 10\.13\.3\.9"):
        TensorRTEngine(engine_path)
