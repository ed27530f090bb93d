"""The command line: help, version, imports, exit codes, options named by errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.models import CommandInfo

import rrid_edge as package
from rrid_edge.cli.app import COMMANDS, app, register, ways_to_set
from rrid_edge.cli.startup import keep_to_share
from rrid_edge.machine import processor
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model

_FRAME = {
    f"rrid_edge.cli.{name}"
    for name in (
        "aligning",
        "app",
        "completion",
        "exit_codes",
        "last_net",
        "log_lines",
        "plain_values",
        "signals",
        "startup",
        "terminal",
        "wrapping",
    )
}
"""Modules that every command needs."""


def _commands() -> list[tuple[str, ...]]:
    register()
    names: list[tuple[str, ...]] = [(_name(command),) for command in app.registered_commands]
    for group in app.registered_groups:
        assert group.name is not None
        assert group.typer_instance is not None
        names += [(group.name, _name(command)) for command in group.typer_instance.registered_commands]
    return names


def _name(command: CommandInfo) -> str:
    assert command.callback is not None
    return command.name or command.callback.__name__.replace("_", "-")


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_every_command_has_help_with_an_example(command):
    outcome = rrid_edge(*command, "--help")
    assert outcome.code == 0
    assert "Example: rrid-edge " + " ".join(command) in " ".join(outcome.out.split())


def test_a_command_imports_only_its_own_module():
    assert {command[0] for command in _commands()} == COMMANDS.keys()
    code = "import sys; from rrid_edge.cli.app import run; run(['info', '--help']); print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = {name for name in done.stdout.split() if name.startswith("rrid_edge.cli.")}
    assert modules == {*_FRAME, "rrid_edge.cli.common", "rrid_edge.cli.inspect"}
    assert not {"msgspec", "numpy"} & {*done.stdout.split()}


def test_help_lists_the_commands_with_the_first_sentence_of_their_help():
    register()
    built: Any = typer.main.get_command(app)
    assert {name: command.get_short_help_str(limit=200) for name, command in built.commands.items()} == {
        name: command.summary for name, command in COMMANDS.items()
    }
    for arguments in (["--help"], []):
        outcome = rrid_edge(*arguments)
        listed = (outcome.out + outcome.err).split("Data and networks:")[1]
        found = re.findall(r"^  ([a-z-]+)  +(\S.*)$", listed, re.MULTILINE)
        assert found == [(name, command.summary) for name, command in COMMANDS.items()]


def test_the_list_of_commands_imports_none_of_them():
    code = "import sys; from rrid_edge.cli.app import run; run(['--help']); print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = {name for name in done.stdout.split() if name.startswith(("rrid_edge.", "rrid_train", "numpy"))}
    assert modules == {"rrid_edge.cli", *_FRAME, "rrid_edge.errors", "rrid_edge.progress", "rrid_edge.stopping"}


def test_an_unknown_command_is_refused_with_a_similar_one():
    outcome = rrid_edge("macth")
    assert outcome.code == 2
    assert outcome.err == "rrid-edge: there is no command 'macth'; did you mean match? See: rrid-edge --help\n"


def test_version_is_printed():
    assert rrid_edge("--version").out.strip() == f"rrid-edge {package.__version__}"


def test_wrong_options_end_with_2():
    assert rrid_edge("match", "--no-such-option").code == 2
    assert rrid_edge("no-such-command").code == 2


def test_help_imports_neither_numpy_nor_a_runtime():
    code = (
        "import sys, rrid_edge.cli; from rrid_edge.cli.app import run; run(['--help']); print(*sys.modules, sep='\\n')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in result.stdout.split()}
    assert not loaded & {"numpy", "torch", "onnx", "onnxruntime", "openvino", "PIL", "rich"}


def test_a_process_with_torch_and_onnx_ends_without_warnings():
    """At exit, Triton's bindings report all objects that the garbage collector did not free."""
    code = (
        "import contextlib, sys, onnx, torch\n"
        "with contextlib.suppress(ImportError): import triton._C.libtriton\n"
        "from rrid_edge.cli import main; sys.argv = ['rrid-edge', '--version']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("rrid-edge ")
    assert done.stderr == ""


def test_runtime_modules_import_without_torch_and_onnx():
    """Every module of rrid_edge imports in a process without the packages for training and export."""
    code = textwrap.dedent(
        """
        import importlib, pkgutil, sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name in {"rrid_train", "rrid_train.setting", "rrid_train.settings"}:
                    return None  # settings behind the options of train
                if name.split(".")[0] in {"torch", "torchvision", "onnx", "rrid_train", "rrid_export", "rrid_calib"}:
                    raise ModuleNotFoundError(f"blocked: {name}", name=name)

        sys.meta_path.insert(0, Blocker())
        import rrid_edge
        for module in pkgutil.walk_packages(rrid_edge.__path__, "rrid_edge."):
            if module.name == "rrid_edge.gallery.bulk.on_ray":
                continue  # the only module that imports Ray; embed-many imports it when it needs a cluster
            importlib.import_module(module.name)
            print(module.name)
        """
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "rrid_edge.engines.openvino.engine" in result.stdout


def test_info_prints_input_and_output(tmp_path):
    path = save_tiny_model(tmp_path / "m.onnx")
    outcome = rrid_edge("info", path)
    assert outcome.code == 0
    assert "uint8 (batch, 192, 64, 3), RGB" in outcome.out
    assert "float32 (batch, 240), unit length" in outcome.out


def test_info_refuses_bad_files(tmp_path):
    (tmp_path / "words.onnx").write_text("these are words")
    refused(rrid_edge("info", tmp_path / "words.onnx"), 4, "words.onnx", "not an ONNX file")
    refused(rrid_edge("info", tmp_path / "none.onnx"), 2, "none.onnx", "no such model file")


def test_info_without_a_model_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RRID_EDGE_MODEL", raising=False)
    refused(rrid_edge("info"), 2, "no model", "rrid-edge export", "(argument MODEL)")


def test_doctor_reports_and_installs_nothing():
    outcome = rrid_edge("doctor", "--json")
    assert outcome.code in (0, 3)
    assert '"name": "onnxruntime"' in outcome.out


def test_debug_shows_the_traceback(tmp_path):
    outcome = rrid_edge("--debug", "info", tmp_path / "none.onnx")
    assert outcome.code == 2
    assert "Traceback" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "parameters", "ways"),
    [
        (["match", "q.jpg", "g"], ["top_k"], ["option --top-k"]),
        (["--debug", "index", "g"], ["gallery"], ["option --gallery"]),
        (["export", "x", "-o", "match"], ["height_px", "workspace_mib"], ["option --height", "option --workspace"]),
        (["gallery", "copy", "a", "b"], ["index_type", "replicas"], ["option --index-type", "option --replicas"]),
        (["evaluate", "m"], ["lambda_value"], ["option --lambda"]),
        (["train"], ["compile", "batch_size"], ["option --compile", "option --batch-size"]),
        (["info", "x.onnx"], ["model", "top_k"], ["argument MODEL"]),
        ([], ["model"], []),
    ],
)
def test_parameters_are_mapped_to_options_and_arguments(arguments, parameters, ways):
    register()
    assert ways_to_set(arguments, parameters) == ways


def test_numerical_libraries_keep_to_the_share_of_cores(monkeypatch):
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(processor, "threads_for", lambda asked: asked)
    keep_to_share()
    assert not any(variable in os.environ for variable in variables)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # the user's
    monkeypatch.setattr(processor, "threads_for", lambda asked: asked or 2)
    keep_to_share()
    assert [os.environ.pop(variable) for variable in variables] == ["7", "2", "2"]


def test_an_error_names_its_option(tmp_path):
    (tmp_path / "q.jpg").touch()
    outcome = rrid_edge("match", tmp_path / "q.jpg", tmp_path, "--top-k", 0)
    assert outcome.err.splitlines()[-1] == "rrid-edge: top_k 0 does not work: expected at least 1 (option --top-k)"


def test_the_import_contract_lists_every_command_module():
    contracts = (
        (Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8").split("[[tool.importlinter.contracts]]")
    )
    (contract,) = (text for text in contracts if "No command of the command line imports another" in text)
    named = set(re.findall(r'"rrid_edge\.cli\.(\w+)"', contract))
    assert named == {command.module for command in COMMANDS.values()}
