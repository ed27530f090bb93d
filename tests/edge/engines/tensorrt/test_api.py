"""Tests that every TensorRT class, member, keyword and enum value in the code exists in the versions it may run on."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from support.tensorrt_standin import RTX_VERSIONS, VERSIONS, build_module, parse_signatures, read_api
from support.tensorrt_syntax import check_modules, versions_of

ROOT = Path(__file__).parents[4]
ROOMS = ("rrid_edge", "export/rrid_export", "calib/rrid_calib")


def _modules() -> list[Path]:
    """Return the modules that use TensorRT's module."""
    files = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return [path for path in files if "trt." in path.read_text(encoding="utf-8")]


def test_the_modules_are_found():
    assert {path.relative_to(ROOT).as_posix() for path in _modules()} >= {
        "rrid_edge/engines/tensorrt/api.py",
        "rrid_edge/engines/tensorrt/contexts.py",
        "export/rrid_export/tensorrt/network.py",
    }


@pytest.mark.parametrize("version", [*VERSIONS, *RTX_VERSIONS])
def test_every_use_fits_the_version(version):
    report = check_modules(_modules(), version)
    assert report.problems == []
    expected = {
        "Builder.build_serialized_network",
        "IBuilderConfig.set_memory_pool_limit",
        "IExecutionContext.execute_async_v3",
        "ICudaEngine.get_tensor_profile_shape",
        "EngineInspector.get_engine_information",
        "OnnxParser.parse_from_file",
        "Runtime.deserialize_cuda_engine",
        "ILogger.log",
    }
    assert expected <= report.uses


def test_each_generation_has_its_own_uses():
    uses = {version: check_modules(_modules(), version).uses for version in VERSIONS}
    assert "BuilderFlag.FP16" in uses["8.6.0"]
    assert "BuilderFlag.FP16" not in uses["11.4.0.106"]
    assert "IProgressMonitor.step_complete" in uses["11.4.0.106"]
    assert "IProgressMonitor" not in uses["8.6.0"]
    assert "NetworkDefinitionCreationFlag.STRONGLY_TYPED" in uses["10.3.0"]
    assert "NetworkDefinitionCreationFlag.EXPLICIT_BATCH" in uses["8.6.0"]


@pytest.mark.parametrize(
    ("code", "version", "complaint"),
    [
        ("def f(trt): return trt.Bilder(1)", "10.3.0", "there is no Bilder"),
        ("def f(trt): return trt.BuilderFlag.FP16", "11.4.0.106", "BuilderFlag has no FP16"),
        ("def f(trt, c: trt.IBuilderConfig): c.max_workspace_size = 1", "10.3.0", "no max_workspace_size"),
        ("def f(trt, e: trt.ICudaEngine): e.num_io_tensors = 1", "10.3.0", "cannot be set"),
        ("def f(trt, l): b = trt.Builder(l); b.create_network(0, 1)", "10.3.0", "does not fit"),
        ("def f(trt, l): b = trt.Builder(l); b.create_network(flag=0)", "10.3.0", "does not fit"),
        ("def f(trt, l): trt.Builder(l).create_builder_config().set_flag()", "8.6.0", "does not fit"),
        ("def f(trt, x): x.execute_async_v3(1)", "8.6.0", "unknown type"),
        ("def f(trt, n: trt.INetworkDefinition): n.get_input(0).num_elements()", "8.6.0", "ITensor has no"),
        ("class M(trt.ILogger):\n  def log(self, level, msg): pass", "8.6.0", "overrides"),
        ("class M(trt.IProgressMonitor): pass", "8.6.0", "there is no IProgressMonitor"),
    ],
)
def test_the_check_sees_mistakes(tmp_path, code, version, complaint):
    path = tmp_path / "code.py"
    path.write_text(code)
    assert any(complaint in problem for problem in check_modules([path], version).problems)


def test_function_names_carry_their_generations():
    assert versions_of("_flags_trt8") == ("8.6.0",)
    on_rtx = ("rtx_1.4.0.76", "rtx_1.7.1.116")
    assert versions_of("watch_trt10_11") == (*VERSIONS[1:4], on_rtx[0], VERSIONS[4], on_rtx[1])
    assert versions_of("make_context_rtx") == on_rtx
    assert set(versions_of("configure")) == {*VERSIONS, *RTX_VERSIONS}


def test_no_bit_of_a_flag_is_written_as_a_number():
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("create_network"):
                assert not any(isinstance(argument, ast.Constant) for argument in node.args), ast.unparse(node)


def test_signatures_are_read_with_overloads_and_defaults():
    text = read_api("10.13.3.9")["ICudaEngine"]["create_execution_context"]
    first, second = parse_signatures(text)
    assert [(item.name, item.optional) for item in first.parameters] == [("strategy", True)]
    assert [(item.name, item.type) for item in second.parameters] == [("runtime_config", "trt.IRuntimeConfig")]
    assert first.returns == "trt.IExecutionContext"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_standin_has_just_the_members_of_its_version(version):
    module, api = build_module(version, {}, []), read_api(version)
    assert module.__version__ == version
    for name in api.keys() - {"__top_level__"}:
        found = {member for member in vars(getattr(module, name)) if not member.startswith("__")}
        assert found == {
            member for member, text in api[name].items() if not member.startswith("__") and not text.startswith("class")
        } - ({"itemsize"} if name == "DataType" else set())
    with pytest.raises(TypeError, match="No constructor"):
        module.IExecutionContext()


def test_the_standin_refuses_other_arguments():
    module = build_module("8.6.0", {"Dims.__init__": lambda self, shape=(): None}, [])
    module.Dims([1, 2])
    for wrong in ((1,), (["a"],), ([1], [2])):
        with pytest.raises(TypeError):
            module.Dims(*wrong)
    with pytest.raises(TypeError, match="unexpected"):
        module.Dims(sizes=[1])
    with pytest.raises(AttributeError):
        module.Dims([1]).rank = 3
