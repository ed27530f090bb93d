"""The check of lengths counts what it says it counts."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "check_lengths.py"


@pytest.fixture(scope="module")
def lengths():
    spec = importlib.util.spec_from_file_location("check_lengths", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_code_counts(lengths):
    source = '''
class Some:
    def method(
        self,
        first: int,
    ) -> int:
        """A docstring.

        Of three lines.
        """
        # a comment

        def inner() -> int:
            return first

        return (
            inner()
        )

    def empty(self) -> None:
        """Nothing."""
'''
    assert lengths.function_lengths(source) == {"Some.method": 5, "Some.method.inner": 1, "Some.empty": 0}


@pytest.mark.parametrize(("path", "lines", "wrong"), [("a.py", 300, 0), ("a.py", 301, 1), ("tests/a.py", 301, 0)])
def test_long_modules_are_named(lengths, path, lines, wrong):
    assert len(list(lengths.too_long(path, "x = 1\n" * lines))) == wrong


@pytest.mark.parametrize(("lines", "wrong"), [(40, []), (41, ["a.py:long"])])
def test_long_functions_are_named(lengths, lines, wrong):
    source = "def long():\n" + "    x = 1\n" * lines
    assert [name for name, _ in lengths.too_long("a.py", source)] == wrong
