"""Facts and their values on a terminal of 80 columns, and as whole lines for programs."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from rrid_edge.cli.thresholds import _print_rates
from rrid_edge.cli.wrapping import hanging, show_facts


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_value_goes_on_in_its_column():
    text = "one two three four"
    assert hanging("name  ", text, 16) == ["name  one two", "      three four"]
    assert hanging("name  ", text, 24) == ["name  one two three four"]
    assert hanging("name  ", text, 0) == ["name  one two three four"]
    assert hanging("name  ", text, 5) == ["name  one two three four"]  # no room beside the name
    assert hanging("name  ", "", 16) == ["name"]


def test_a_long_word_is_not_broken_so_that_it_can_be_copied():
    sum_of_file = "ab" * 32
    assert hanging("sha256 ", f"{sum_of_file}, checked", 30) == [f"sha256 {sum_of_file},", "       checked"]


def test_facts_fit_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    show_facts([("a", "word " * 12), ("b\n", "short\x1b")], name_width=6)
    lines = terminal.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[0].startswith("a      word")
    assert lines[1].startswith("       word")
    assert lines[-1] == "b\\n    short\\x1b"


def test_facts_stay_on_their_lines_in_a_pipe(capsys):
    show_facts([("a", "word " * 40)], name_width=6)
    assert len(capsys.readouterr().out.splitlines()) == 1


def _open_set(rates: int, sizes: tuple[int, ...]) -> Any:
    points = [SimpleNamespace(score=0.9, tpir=0.5)] * len(sizes)
    known = tuple(SimpleNamespace(fpir=10.0**-number, points=points) for number in range(rates))
    return SimpleNamespace(known=known, sizes=sizes)


@pytest.mark.parametrize(("rates", "tables"), [(0, 0), (1, 1), (4, 1), (5, 2), (6, 2), (9, 3)])
def test_thresholds_of_many_rates_are_tables_that_fit_80_columns(capsys, rates, tables):
    _print_rates(_open_set(rates, (5, 1_000_000)))
    lines = capsys.readouterr().out.splitlines()
    heads = [line for line in lines if "gallery" in line]
    assert (len(heads), len(lines)) == (tables, 3 * tables)
    assert sum(line.count("FPIR") for line in heads) == rates
    assert max(map(len, lines), default=0) <= 80
