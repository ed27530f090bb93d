"""Library errors name things and parameters; only the command line speaks of options."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("rrid_edge", "train/rrid_train", "export/rrid_export", "calib/rrid_calib")
OPTION = re.compile(r"(?<![\w-])--[a-z{][\w-]*")
COMMAND = re.compile(r"\b(rrid-edge|trtexec|torchrun|python3|pip|docker run|venv made with)\b[^;:,()]*")
"""Advice to run a command, ours or another program's, names the command's options."""
COMMAND_PARTS = ("export/rrid_export/trtexec.py", "rrid_edge/model/rebuild.py")
"""Modules that put a command together: of another program, and of ours."""
STYLE = re.compile(r"var\(--[a-z]+\)|--[a-z]+: #")
"""Variables of style sheets are written like options."""


def _sources() -> list[Path]:
    own = ROOT / "rrid_edge" / "cli"
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")) if own not in path.parents]


def _texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every string that is no docstring; values in it are shown as ``{}``."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in docstrings | inside:
            continue
        if isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def options_in(source: str) -> list[tuple[int, str]]:
    """Line and option of every option that a text of ``source`` names outside a command."""
    return [
        (line, option)
        for line, text in _texts(ast.parse(source))
        for option in OPTION.findall(COMMAND.sub("", STYLE.sub("", text)))
    ]


def test_no_library_speaks_of_options() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {option}"
        for path in _sources()
        for line, option in options_in(path.read_text("utf-8"))
        if path.relative_to(ROOT).as_posix() not in COMMAND_PARTS
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("raise E(f'{path}: no model; give --model FILE, or make one: rrid-edge export X --fp16')", ["--model"]),
        ("x = 'torchrun --nproc-per-node 2 -m rrid_edge.cli train; take --gpus 0'", ["--gpus"]),
        ("x = f'--{name} {value} does not work (--count)'", ["--{", "--count"]),
        ("'''Only --words in a docstring.'''", []),
    ],
)
def test_what_counts_as_an_option(source: str, options: list[str]) -> None:
    assert [option for _, option in options_in(source)] == options
