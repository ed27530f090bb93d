"""Messages advise only options that the command has: every text of the command line that names one is checked.

A text in a function that several commands reach must fit all of them. Which commands reach a function is read from the
source: a function reaches all functions that it names.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rrid_edge.cli.app import built_command, register

ROOT = Path(__file__).parents[3]
CLI = ROOT / "rrid_edge" / "cli"
FOLDERS = ("rrid_edge", "train/rrid_train", "export/rrid_export", "calib/rrid_calib")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
COMMAND = re.compile(r"\brrid-edge((?: [a-z][a-z-]*)+)([^;:,()`\n]*)")
ELSEWHERE = re.compile(
    r"(?<![\w-])(?:trtexec|torchrun|python3?|pip|docker run|apt|evaluate|match|bench|index|export|parity)\b[^;:,()]*"
)
"""Advice to run another command names that command's options."""
ABOUT_OTHERS = ("__init__", "app", "man_pages", "wrong_use")
"""Modules that speak of all commands: their options are no advice to the command that runs."""
NEVER_SAID = {("parity", "steps.open_model", "--model"): "it says so of galleries, and parity opens none"}
"""Command, function and option where the source reaches a text that the command never prints."""
Place = tuple[str, str]
"""A module of the command line, and a function in it."""


@functools.cache
def options_of_commands() -> dict[str, set[str]]:
    """The options of every command, such as ``gallery list``."""
    register()
    found: dict[str, set[str]] = {}

    def walk(command: Any, name: str) -> None:
        for key, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{name} {key}".strip())
        if not hasattr(command, "commands"):
            found[name] = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}

    walk(built_command(), "")
    return {name: options | {"--help", "--debug"} for name, options in found.items()}


def is_command(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith("app.command")


@functools.cache
def functions() -> dict[Place, ast.AST]:
    """Every function and class of the command line, and what its module runs outside of them."""
    found: dict[Place, ast.AST] = {}
    for path in sorted(CLI.glob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        rest = []
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[path.stem, node.name] = node
            else:
                rest += [(target.id, node) for target in ast.walk(node) if isinstance(target, ast.Name)]
        for name, node in rest:
            found.setdefault((path.stem, name), node)
    return found


def commands() -> dict[Place, str]:
    """The commands by their function."""
    found = {}
    for (module, name), node in functions().items():
        for call in getattr(node, "decorator_list", []):
            if is_command(call):
                told = [one.value for one in call.args if isinstance(one, ast.Constant)]
                plain = str(told[0]) if told else name.replace("_", "-")
                group = ast.unparse(call.func).removesuffix("app.command").rstrip("_")
                found[module, name] = f"{group} {plain}".strip()
    return found


def imported(tree: ast.AST) -> dict[str, Place]:
    """Names that a module takes from other modules of the command line."""
    return {
        alias.asname or alias.name: (node.module.rsplit(".", 1)[1], alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rrid_edge.cli.")
        for alias in node.names
        if node.module
    }


def reached_from(command: Place) -> set[Place]:
    known = functions()
    names = {path.stem: imported(ast.parse(path.read_text("utf-8"))) for path in CLI.glob("*.py")}
    reached, waiting = set(), [command]
    while waiting:
        place = waiting.pop()
        if place in reached or place not in known:
            continue
        reached.add(place)
        for node in ast.walk(known[place]):
            waiting += [names[place[0]].get(node.id, (place[0], node.id))] if isinstance(node, ast.Name) else []
    return reached


def texts(tree: ast.AST) -> Iterator[str]:
    """Every text that is neither a docstring nor the help of an option; values in it are shown as ``{}``."""
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    left_out |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        declares = isinstance(node, ast.Call) and ast.unparse(node.func) in ("typer.Option", "typer.Argument")
        if declares or is_command(node):
            left_out |= {id(part) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def advised(text: str) -> set[str]:
    """Options that a text names as those of the command that runs."""
    return set(OPTION.findall(ELSEWHERE.sub("", COMMAND.sub("", text))))


def wrong_advice() -> list[str]:
    has, found = options_of_commands(), []
    for place, command in commands().items():
        for module, name in sorted(reached_from(place)):
            if module in ABOUT_OTHERS:
                continue
            for text in texts(functions()[module, name]):
                said = {option for option in advised(text) if (command, f"{module}.{name}", option) not in NEVER_SAID}
                lacks = sorted(said - has[command])
                found += [f"{command}: {module}.{name}: {' '.join(lacks)}: {text[:100]}"] if lacks else []
    return found


def test_every_command_is_found_in_the_source():
    assert set(commands().values()) == options_of_commands().keys()


def test_messages_advise_options_that_their_commands_have():
    assert wrong_advice() == []


def commands_in(text: str) -> list[tuple[str, set[str]]]:
    """Commands of this package that a text names, each with the options it names for it."""
    found = []
    for words, rest in COMMAND.findall(text):
        first, *others = words.split()
        name = f"{first} {others[0]}" if first in ("gallery", "engine") and others else first
        found.append((name, set(OPTION.findall(rest))))
    return found


def test_commands_in_messages_exist_and_have_their_options():
    has = options_of_commands()
    wrong = []
    for path in (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))):
        for text in texts(ast.parse(path.read_text("utf-8"))):
            for name, options in commands_in(text):
                lacks = options - has.get(name, set())
                if lacks:
                    wrong.append(f"{path.relative_to(ROOT)}: {name} has no {' '.join(sorted(lacks))}: {text[:100]}")
    assert wrong == []


def test_what_counts_as_advice():
    assert advised("name it once with --model, or take --gpus 0") == {"--model", "--gpus"}
    assert advised("make one with: rrid-edge export X --fp16; or give --thresholds") == {"--thresholds"}
    assert advised("for these, give match --thresholds-of X, or evaluate --use-thresholds") == set()
    assert commands_in("run: rrid-edge gallery export G --output F; then rrid-edge index G --rebuild") == [
        ("gallery export", {"--output"}), ("index", {"--rebuild"}),
    ]  # fmt: skip


def test_what_a_command_reaches():
    match = reached_from(("match", "match"))
    assert {("steps", "open_model"), ("steps", "say_links_left_out"), ("asked_threshold", "AskedThreshold")} <= match
    assert not {place for place in match if place[0] in ("export_checks", "gallery_forget", "train")}
