"""The environment variables of this package: which are set, what they do, and which names have no effect."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.machine.gpu_findings import Finding

PREFIX = "RRID_EDGE_"
_SECRET = "RRID_EDGE_MILVUS_TOKEN"  # noqa: S105 - the name of a variable
_NEAR = 0.75
_LONGEST_TIMEOUT_S = 86_400


@dataclass(frozen=True)
class Variable:
    """An environment variable of this package.

    Attributes:
        effect: what it does, in words.
        expected: what its value must be, where a wrong one can be found out; else empty.
        manual: what man pages say of it; empty if no user needs it.
    """

    effect: str
    expected: str = ""
    manual: str = ""


VARIABLES: Mapping[str, Variable] = {
    "RRID_EDGE_MODEL": Variable(
        "the model where a command is given none",
        "a model file that exists",
        manual="Model file of commands that are given none.",
    ),
    "RRID_EDGE_CACHE": Variable(
        "folder of compiled models and measured speeds; off keeps none",
        manual="Folder of compiled models, or off. [default: ~/.cache/rrid-edge]",
    ),
    _SECRET: Variable("token for Milvus servers", manual="User and password of a Milvus server, as user:password."),
    "RRID_EDGE_MILVUS_TIMEOUT_S": Variable(
        "seconds that a call of a Milvus server may take",
        "seconds above 0 and below 86,400",
        manual="Seconds that one call of a Milvus server may take. [default: 60]",
    ),
    "RRID_EDGE_TENSORRT_LOG": Variable(
        "file that keeps everything TensorRT says",
        "a file in a folder that exists",
        manual="File that keeps everything TensorRT says, of every command.",
    ),
    "RRID_EDGE_LEAN_RUNTIME": Variable(
        "TensorRT's lean runtime for plans without one",
        "a file that exists",
        manual="Path of TensorRT's libnvinfer_lean.so, where it is not found by itself.",
    ),
    "RRID_EDGE_DEBUG": Variable("errors show their traceback", manual="If it is set, errors show their traceback."),
    "RRID_EDGE_MILVUS_PYTHON": Variable("Python of the Milvus server of the tests"),
}
"""All variables that the package and its tests read."""


def variable_findings(environment: Mapping[str, str]) -> list[Finding]:
    """A finding for each variable of this package that is set.

    A value that cannot work is a problem. So is a name that nothing reads and that resembles one that is read.

    Args:
        environment: variables and their values; empty values count as not set.
    """
    own = sorted(name for name, value in environment.items() if name.upper().startswith(PREFIX) and value)
    return [_known(name, environment[name]) if name in VARIABLES else _unknown(name) for name in own]


def _known(name: str, value: str) -> Finding:
    variable = VARIABLES[name]
    shown = "(set)" if name == _SECRET else value
    if variable.expected and not _is_usable(name, value):
        detail = f"{name}={shown}: expected {variable.expected}"
        return Finding("variable", "problem", detail, f"unset {name}")
    return Finding("variable", "ok", f"{name}={shown}: {variable.effect}")


def _is_usable(name: str, value: str) -> bool:
    if name == "RRID_EDGE_TENSORRT_LOG":
        return Path(value).parent.is_dir() and not Path(value).is_dir()
    if name != "RRID_EDGE_MILVUS_TIMEOUT_S":
        return Path(value).is_file()
    try:
        return 0 < float(value) < _LONGEST_TIMEOUT_S
    except ValueError:
        return False


def _unknown(name: str) -> Finding:
    """A name that nothing reads. Where it resembles no known one, it may belong to another program."""
    near = difflib.get_close_matches(name.upper(), VARIABLES, 1, _NEAR)
    if near:
        remedy = f'export {near[0]}="${name}"; unset {name}'
        return Finding("variable", "problem", f"{name} has no effect: did you mean {near[0]}?", remedy)
    return Finding("variable", "note", f"{name} has no effect: nothing reads it", f"unset {name}")
