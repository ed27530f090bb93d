"""Man pages of all commands, made from the help of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rrid_edge import __version__
from rrid_edge.cli.exit_codes import EXIT_CODES
from rrid_edge.files import atomic_output
from rrid_edge.machine.variables import VARIABLES

_SPELLINGS: Final = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
"""Characters that roff would read or draw as others."""


def write_man_pages(command: Any, name: str, folder: Path) -> int:  # noqa: ANN401 - Typer brings its own Click
    """Write one page per command, and one for each group of commands, such as ``rrid-edge-gallery-export.1``.

    Args:
        command: the whole command line, with all commands.
        name: of its program.
        folder: to write into; made if it does not exist. Pages of the same names are replaced.

    Returns:
        The number of pages.

    Raises:
        OSError: a page cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pages = list(_pages(command, command.context_class(command, info_name=name)))
    for page_name, text in pages:
        with atomic_output(folder / f"{page_name}.1") as path:
            path.write_text(text, encoding="ascii")
    return len(pages)


def _pages(command: Any, context: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - as above
    """Names and texts of the page of a command and of the pages of the commands below it."""
    below = [(name, command.commands[name]) for name in _names_below(command, context)]
    path = context.command_path
    yield path.replace(" ", "-"), _page(command, context, below)
    for name, child in below:
        yield from _pages(child, child.context_class(child, info_name=name, parent=context))


def _names_below(command: Any, context: Any) -> list[str]:  # noqa: ANN401 - as above
    return command.list_commands(context) if hasattr(command, "commands") else []


def _page(command: Any, context: Any, below: list[tuple[str, Any]]) -> str:  # noqa: ANN401 - as above
    path = context.command_path
    name, program = path.replace(" ", "-"), path.partition(" ")[0]
    summary = _first_sentence(command.help)
    lines = [
        f'.TH "{_text(name.upper())}" 1 "" "{_text(f"{program} {__version__}")}" "{_text(f"{program} manual")}"',
        *(".ad l", ".nh"),  # ragged lines without hyphens: names of files and options stay whole
        *(".SH NAME", f"{_text(name)} \\- {_text(summary[:1].lower() + summary[1:])}"),
        *(".SH SYNOPSIS", f".B {_text(path)}", _synopsis(command, context)),
        *(".SH DESCRIPTION", _paragraph(_one_line(command.help))),
    ]
    for title, kind in (("ARGUMENTS", "argument"), ("OPTIONS", "option")):
        items = [item for item in command.get_params(context) if item.param_type_name == kind]
        lines += _list(title, [(_names(item, context), _help(item, context)) for item in items])
    lines += _list("COMMANDS", [(_bold(child), f"{_first_sentence(part.help)}.") for child, part in below])
    lines += _example(command.epilog or "")
    lines += _list("EXIT STATUS", [(_bold(str(code)), _sentence(meaning)) for code, meaning in EXIT_CODES.items()])
    if not context.parent:
        told = [(_bold(variable), found.manual) for variable, found in VARIABLES.items() if found.manual]
        lines += _list("ENVIRONMENT", told)
    others = [f"{name}-{child}" for child, _ in below] or [context.parent.command_path.replace(" ", "-")]
    lines += [".SH SEE ALSO", ",\n".join(f"\\fB{_text(other)}\\fR(1)" for other in others)]
    return "\n".join(line for line in lines if line) + "\n"


def _synopsis(command: Any, context: Any) -> str:  # noqa: ANN401 - as above
    """The rest of the usage line: what is typed is set in italics, brackets are not."""
    pieces = []
    for piece in command.collect_usage_pieces(context):
        many = "{QUERY... " in piece  # the command names the parts of its list itself
        pieces.append(piece.replace("{", "").replace("}..." if many else "}", "").upper())
    return re.sub(r"[A-Z_]{2,}", lambda found: _italic(found[0]), _text(" ".join(pieces)))


def _names(item: Any, context: Any) -> str:  # noqa: ANN401 - as above
    """How a parameter is typed, with option names in bold and place holders in italics."""
    record = item.get_help_record(context)
    shown = record[0] if record else item.name
    if item.param_type_name == "argument":
        return _italic(shown.partition(" <")[0].strip("[]{}").upper())
    words = re.findall(r"--?[\w-]+|<[^>]*>|[^\s,]+|,", shown)
    told = [
        _bold(word) if word.startswith("-") else _italic(word.strip("<>")) if word != "/" else word for word in words
    ]
    return " ".join(told).replace(f" {_italic(',')}", ",")


def _help(item: Any, context: Any) -> str:  # noqa: ANN401 - as above
    record = item.get_help_record(context)
    return _one_line(record[1] if record else item.help)


def _list(title: str, rows: list[tuple[str, str]]) -> list[str]:
    """A section with a tagged paragraph per row; nothing without rows. Tags are roff already."""
    lines = [line for tag, text in rows for line in (".TP", tag, _paragraph(text))]
    return [f".SH {title}", *lines] if rows else []


def _example(epilog: str) -> list[str]:
    """The section of an example, as it is typed."""
    text = epilog.partition(":")[2].strip()
    return [".SH EXAMPLE", ".nf", ".RS", _text(text), ".RE", ".fi"] if text else []


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _first_sentence(text: str | None) -> str:
    """The first sentence of a help text, without its full stop."""
    return _one_line(text).partition(". ")[0].rstrip(".")


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _paragraph(text: str) -> str:
    """Text as roff. Each sentence begins a line, so that roff puts its own space between them."""
    return "\n".join(map(_text, re.split(r"(?<=\.) ", text)))


def _bold(text: str) -> str:
    return f"\\fB{_text(text)}\\fR"


def _italic(text: str) -> str:
    return f"\\fI{_text(text)}\\fR"


def _text(text: str) -> str:
    """Plain text in one line of roff: ASCII, and no request."""
    shown = "".join(_SPELLINGS.get(char) or (char if char.isascii() else f"\\[u{ord(char):04X}]") for char in text)
    return f"\\&{shown}" if shown.startswith(".") else shown
