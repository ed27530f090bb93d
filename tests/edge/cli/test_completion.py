"""Completion in shells: candidates, files, nothing else on the terminal, and no heavy imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
import shellingham

from rrid_edge.cli.app import COMMANDS
from rrid_edge.cli.completion import one_of
from support.commands import refused, rrid_edge

MAIN = "import sys; sys.argv[0] = 'rrid-edge'; from rrid_edge.cli import main; main()"


def ask(shell: str, *words: str, code: str = MAIN, **more: str) -> subprocess.CompletedProcess[str]:
    """Ask as the script of a shell does. The last of ``words`` is being typed."""
    line = " ".join(("rrid-edge", *words))
    variables = {
        "_RRID_EDGE_COMPLETE": f"complete_{shell}",
        **({"COMP_WORDS": "\n".join(("rrid-edge", *words)), "COMP_CWORD": str(len(words))} if shell == "bash" else {}),
        **({} if shell == "bash" else {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables, **more},
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ma",), ["match"]),
        (("",), list(COMMANDS)),
        (("match", "--ru"), ["--runtime"]),
        (("match", "--runtime", "openvino-"), ["openvino-gpu", "openvino-npu"]),
        (("match", "--runtime", "=", "openvino-"), ["openvino-gpu", "openvino-npu"]),
        (("match", "--runtime", "=", "onnx", "q.jpg"), []),
        (("--verbose", "ma"), ["match"]),
        (("gallery", "ex"), ["export"]),
        (("help", "do"), ["doctor"]),
        (("help", "gallery", "ver"), ["verify"]),
        (("help", "match", ""), []),
        (("prepare", "cuhk"), ["cuhk03", "cuhk01"]),
        (("match", "quer"), []),  # bash completes names of files where nothing is offered
        (("match", "--model", "mod"), []),
    ],
)
def test_bash_gets_the_candidates(words, expected):
    done = ask("bash", *words)
    assert (done.stdout.split(), done.stderr, done.returncode) == (expected, "", 0)


def test_zsh_and_fish_get_summaries_too():
    summary = COMMANDS["doctor"].summary
    assert f'"doctor":"{summary}"' in ask("zsh", "doc").stdout
    assert ask("fish", "doc").stdout == f"doctor\t{summary}\n"
    assert "[default: the one in use]" in ask("fish", "match", "--thresholds-o").stdout
    assert ask("zsh", "match", "quer").stdout == "_files\n"
    files = ask("fish", "match", "quer", _TYPER_COMPLETE_FISH_ACTION="is-args")
    assert (files.stdout, files.stderr, files.returncode) == ("", "", 1)  # fish completes names of files


@pytest.mark.parametrize("words", [("",), ("match", "--"), ("train", "--backb"), ("help", "ga")])
def test_completion_imports_nothing_heavy(words):
    code = f"import atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n{MAIN}"
    loaded = {name.split(".")[0] for name in ask("fish", *words, code=code).stderr.split()}
    assert "rrid_edge" in loaded
    assert not loaded & {"numpy", "torch", "onnx", "onnxruntime", "openvino", "PIL"}


def test_what_goes_wrong_says_nothing():
    broken = "import rrid_edge.cli.app as app; app.register = lambda _: 1 / 0; import sys; app.main()"
    done = ask("bash", "match", "--", code=broken)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 1)
    shown = ask("bash", "match", "--", code=broken, RRID_EDGE_DEBUG="1")
    assert "ZeroDivisionError" in shown.stderr


@pytest.mark.parametrize("words", [("--version", ""), ("export", "--tensorrt-log", "folder/none.log", "")])
def test_completing_behind_an_option_does_not_do_it(tmp_path, words):
    done = ask("bash", *words)
    assert "rrid-edge " not in done.stdout
    assert done.stderr == ""


def test_the_script_of_a_shell_calls_this_program():
    shown = subprocess.run(
        [sys.executable, "-c", MAIN],
        capture_output=True, text=True, check=True, env={**os.environ, "_RRID_EDGE_COMPLETE": "source_fish"},
    )  # fmt: skip
    assert shown.stdout.startswith("complete --command rrid-edge --no-files --arguments")
    assert "_RRID_EDGE_COMPLETE=complete_fish" in shown.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_itself_completes(tmp_path):
    """With the printed script, in a bash whose ``rrid-edge`` is this package."""
    program = tmp_path / "rrid-edge"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{MAIN}" "$@"\n')
    program.chmod(0o755)
    lines = [
        'eval "$(rrid-edge --show-completion)"',
        "COMP_WORDS=(rrid-edge match --runtime = onnx); COMP_CWORD=4; _rrid_edge_completion rrid-edge",
        'printf "%s\\n" "${COMPREPLY[@]}"',
        "complete -p rrid-edge",
    ]
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", "\n".join(lines)], capture_output=True, text=True, check=True,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "onnxruntime-cuda",
        "onnxruntime",
        "complete -o default -F _rrid_edge_completion rrid-edge",
    ]


@pytest.mark.parametrize("option", ["--install-completion", "--show-completion"])
def test_completion_is_for_known_shells(option, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))

    def of_cron():
        raise shellingham.ShellDetectionFailure

    monkeypatch.setattr(shellingham, "detect_shell", of_cron)
    refused(rrid_edge(option), 2, "no shell runs this: expected bash, fish, zsh, powershell or pwsh; run it from one")
    monkeypatch.setattr(shellingham, "detect_shell", lambda: ("tcsh", "/bin/tcsh"))
    refused(rrid_edge(option), 2, "the shell 'tcsh' runs this: expected bash, fish, zsh")
    assert not any(tmp_path.iterdir())


def test_words_are_filtered_by_what_was_typed():
    assert one_of("ema raw")("") == ["ema", "raw"]
    assert one_of("ema raw")("r") == ["raw"]
    assert one_of("ema raw")("x") == []
