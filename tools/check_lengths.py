"""Check that functions have at most 40 lines and modules at most 300.

Run: python tools/check_lengths.py (``make check`` runs it too)

A function's lines are the lines of code in its body, with those of inner functions. The signature, docstring, comments
and blank lines do not count. A module's lines are all of its lines. A test module may have 500. :data:`EXCEPTIONS`
lists what may be longer, with the reason.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("rrid_edge", "train", "export", "calib", "tests", "tools", "benchmarks", "docs")
LONGEST_FUNCTION, LONGEST_MODULE, LONGEST_TEST_MODULE = 40, 300, 500

_PARTS = "one small function per method of TensorRT, in a table"
_INNER_PROGRAM = "half of the function is a program for another process"
EXCEPTIONS = {
    "tests/support/tensorrt_behaviour.py:_building": _PARTS,
    "tests/support/tensorrt_behaviour.py:_running": _PARTS,
    "rrid_edge/model/engine_sidecar.py": "a hundred lines are descriptions of the file's entries",
}
"""Why a module (``path``) or a function (``path:function``) may be longer."""

_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def code_lines(source: str) -> set[int]:
    """Return the numbers of the lines that hold code. Docstrings count here; :func:`_length` leaves them out."""
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            found.update(range(token.start[0], token.end[0] + 1))
    return found


def function_lengths(source: str) -> dict[str, int]:
    """Return the lines of code in the body of every function, by qualified name."""
    lines = code_lines(source)
    return {name: _length(function, lines) for name, function in _functions(ast.parse(source), "")}


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(child, prefix)


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: set[int]) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    return len(lines & set(range(body[0].lineno, (function.end_lineno or 0) + 1)))


def too_long(path: str, source: str) -> Iterator[tuple[str, str]]:
    """Yield what is too long in a file: ``path`` or ``path:function``, and the problem."""
    length, limit = len(source.splitlines()), LONGEST_TEST_MODULE if path.startswith("tests/") else LONGEST_MODULE
    if length > limit:
        yield path, f"{length} lines; expected at most {limit}: split the module"
    for name, size in function_lengths(source).items():
        if size > LONGEST_FUNCTION:
            yield f"{path}:{name}", f"{size} lines of code; expected at most {LONGEST_FUNCTION}: split the function"


def main() -> int:
    """Check every Python file. Return 1 if something is too long, or if an exception is no longer needed."""
    root = Path(__file__).parents[1]
    paths = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    found: dict[str, str] = {}
    for path in paths:
        found.update(too_long(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")))
    allowed = set(EXCEPTIONS)
    wrong = [f"{name}: {reason}" for name, reason in found.items() if name not in allowed]
    wrong += [
        f"{name}: short enough, but listed as an exception; remove it from tools/check_lengths.py"
        for name in sorted(EXCEPTIONS.keys() - found.keys())
    ]
    print("\n".join(wrong) or f"{len(paths)} files: no function and no module is too long")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
