"""The form of printed lines: what is left of them when numbers, paths and facts of one machine are taken out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Final

_RUNTIMES: Final = "openvino|onnxruntime-cuda|onnxruntime|tensorrt-rtx|tensorrt"
_RULES: Final = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"\b\d{4}-\d\d-\d\d(T[\d:.]+(Z|[+-]\d\d:\d\d)?)?", "TIME"),
        (r"\b(?=[0-9a-f]*\d)[0-9a-f]{12,64}\b", "HEX"),
        # Which runtime is taken, and how it computes, depends on the machine; so do the packages for its GPU.
        (rf"(?<=[ (])({_RUNTIMES}) (CPU|GPU|NVIDIA)( \w+)?( \(\w+\))?", "RUNTIME"),
        (rf"\bruntime (as asked|{_RUNTIMES})( \([^()]*\))?", "runtime RUNTIME"),
        # Which form of int8 is taken depends on how the processor rounds.
        (r"\bform '[a-z ]+'", "form FORM"),
        (r"\branges by [a-z]+", "ranges by RANGES"),
        (r"pip install 'rrid-edge\[gpu[^;)]*", "pip install PACKAGES OF A GPU"),
        (r"(?<![A-Za-z\d])[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?(?![A-Za-z])", "N"),
        (r"(?<=[A-Za-z])\d+", "N"),
        (r"\d+(?=[A-Za-z])", "N"),
        (r"\bN ?(B|KB|kB|MB|GB|KiB|MiB|GiB)\b", "N SIZE"),
        (r"\bN (ms|us|min)\b", "N s"),
    )
)
_REPEATED: Final = " (and so on)"


def forms_of(lines: Iterable[str], names: Mapping[str, str], without: Iterable[re.Pattern[str]] = ()) -> list[str]:
    """The forms of lines. Lines of one form in a row are one, so that the number of rows of a table does not matter.

    Args:
        lines: as printed.
        names: text by what stands for it, for example a path by ``DESK``.
        without: lines in which one of these is found say something about the machine only, and are left out.
    """
    dropped = tuple(without)
    kept = (line.rstrip() for line in lines if not any(pattern.search(line) for pattern in dropped))
    forms = (_row_form(line) or _form(line, names) for line in kept)
    grouped = ((form, sum(1 for _ in same)) for form, same in itertools.groupby(forms))
    return [form + (_REPEATED if count > 1 and form else "") for form, count in grouped]


def _row_form(line: str) -> str | None:
    """The form of a row that begins with a rank: which crop it names depends on the runtime."""
    cells = re.split(r" {2,}", line.strip())
    return f"  N  ...  ({len(cells)} columns)" if len(cells) > 3 and cells[0].isdigit() else None


def _form(line: str, names: Mapping[str, str]) -> str:
    for text, name in sorted(names.items(), key=lambda item: -len(item[0])):
        line = line.replace(text, name)
    indent = len(line) - len(line.lstrip())
    for pattern, instead in _RULES:
        line = pattern.sub(instead, line)
    words = re.sub(r"[-=_]{4,}", "----", re.sub(r" {2,}", "  ", line.strip()))
    return ("  " if indent > 1 else "") + words


def too_wide(lines: Iterable[str], columns: int) -> list[str]:
    """Rows of tables that a terminal of so many columns would break. Sentences may take several rows.

    A row of a table has two spaces or more between its columns. A path in its last column is never cut, so it may be
    long; a sentence there may not.
    """
    return [line for line in lines if len(line) > columns and _is_broken(line, columns)]


def _is_broken(line: str, columns: int) -> bool:
    starts = [found.end() for found in re.finditer(r"\S {2,}(?=\S)", line)]
    return bool(starts) and (" " in line[starts[-1] :] or starts[-1] >= columns)
