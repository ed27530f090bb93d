"""Plain values are read as Typer reads them, and without its validation. Typer is the independent expectation."""

from __future__ import annotations

import os
import sys
import typing
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from rrid_edge.cli.app import run
from rrid_edge.cli.plain_values import read_plain_values

TEXTS = ["", " ", "0", "7", "007", "-1", "+3", "1_0", " 8", "8 ", "1.5", "1.", ".5", "1e3", "inf", "nan", "-0.5", "½"]
TEXTS += ["\u0661", "9" * 20, "text", "-", "true", "a\tb", "ä", "\udcff", "model.onnx", "none.onnx", "secret"]
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "text": (str | None, {}),
    "int": (int | None, {}),
    "limited int": (int | None, {"min": 2}),
    "float": (float | None, {}),
    "limited float": (float | None, {"max": 1.0}),
    "path": (Path | None, {}),
    "path that exists": (Path | None, {"exists": True}),
    "path of a file": (Path | None, {"dir_okay": False}),
    "texts": (list[str] | None, {}),
    "paths": (list[Path] | None, {}),
    "flag": (bool | None, {}),
}


def declared(kind, **limits):
    def command(value=None, other="auto", count=3):
        seen.append((value, other, count))

    seen: list[tuple[Any, ...]] = []
    option = Annotated[kind, typer.Option("--value", **limits)]  # type: ignore[valid-type]
    command.__annotations__ = {"value": option, "other": str, "count": int}
    app = typer.Typer(add_completion=False)
    app.command()(command)
    return app, seen


def outcome(app, seen, arguments, *, quick):
    command = typer.main.get_command(app)
    if quick:
        read_plain_values(command)
    seen.clear()
    try:
        command.main(arguments, standalone_mode=False)
    except Exception as error:
        return type(error).__name__, str(error)
    return repr(seen[0])  # types show, and nan equals nan


@pytest.mark.parametrize("name", KINDS)
def test_values_mean_what_they_mean_to_typer(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").touch()
    (tmp_path / "secret").mkdir(mode=0o000)
    kind, limits = KINDS[name]
    app, seen = declared(kind, **limits)
    more = (["--value", "7", "--value", "x"], ["--value"], ["--count=4"], ["--other=x", "--count", "z"])
    lines = [[], *([f"--value={text}"] for text in TEXTS), *more]
    if name in ("text", "texts", "path", "path that exists", "path of a file", "paths"):
        lines.remove(["--value="])
        assert outcome(app, seen, ["--value="], quick=True) == ("BadParameter", "is empty")
    for line in lines:
        assert outcome(app, seen, line, quick=True) == outcome(app, seen, line, quick=False), line


def test_a_path_that_cannot_be_read_is_refused_as_typer_does(tmp_path, monkeypatch):
    (tmp_path / "secret").touch()
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # root reads every file
    app, seen = declared(Path | None)
    line = ["--value", str(tmp_path / "secret")]
    refusal = outcome(app, seen, line, quick=True)
    assert "not readable" in refusal[1]
    assert refusal == outcome(app, seen, line, quick=False)


@pytest.fixture
def without_pydantic(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydantic", None)  # its import fails
    for name in [name for name in sys.modules if name.startswith("typer._adapters")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(typer, "_adapters", raising=False)


@pytest.mark.usefixtures("without_pydantic")
@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (str, "a", "a"),
        (int, "7", 7),
        (float, "0.5", 0.5),
        (Path, "none.onnx", Path("none.onnx")),
        (list[str], "a", ["a"]),
    ],
)
def test_python_3_10_makes_the_whole_of_a_hint_optional(kind, text, value, monkeypatch):
    def hints(function: Any, include_extras: bool = False) -> dict[str, Any]:
        return {name: hint | None for name, hint in original(function, include_extras=include_extras).items()}

    def command(value=None):
        seen.append(value)

    seen: list[Any] = []
    original = typing.get_type_hints
    command.__annotations__ = {"value": Annotated[kind | None, typer.Option("--value")]}
    monkeypatch.setattr(typing, "get_type_hints", hints)
    app = typer.Typer(add_completion=False)
    app.command()(command)
    assert outcome(app, seen, ["--value", text], quick=True) == repr(value)


@pytest.mark.usefixtures("without_pydantic")
def test_a_usual_match_is_parsed_without_pydantic(tmp_path):
    """Refused before the work, so that only parsing runs."""
    arguments = ["match", "query.jpg", str(tmp_path / "nowhere"), "--model", "m.onnx", "--top-k", "8", "--camera", "2"]
    assert run([*arguments, "--threshold", "0.5", "--explain", "--sheet", "sheet.png"]) == 2
