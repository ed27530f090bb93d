"""One line about a command line that cannot be read: what is wrong, what was expected, what to do.

Click prints three lines of usage around such an error, and names no option of another program by ours.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rrid_edge.cli.plain_values import EMPTY
from rrid_edge.errors import printable
from rrid_edge.file_kinds import broken_name

_OTHER_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "--device": ("--runtime", "--gpus"),
    "--engine": ("--runtime",),
    "--backend": ("--runtime",),
    "--provider": ("--runtime",),
    "--gpu": ("--runtime", "--gpus"),
    "--cuda": ("--runtime", "--gpus"),
    "--min-score": ("--threshold",),
    "--score": ("--threshold",),
    "--topk": ("--top-k",),
    "--limit": ("--top-k",),
    "--batch-size": ("--batch", "--batch-size"),
    "--data": ("--dataset-path", "--dataset", "--images"),
    "--weights-file": ("--weights",),
    "--out": ("--output", "--exp-dir"),
    "--force": ("--overwrite", "--rebuild"),
    "--html": ("--report",),
    "--from": ("--since",),
    "--to": ("--until",),
    "-k": ("--top-k",),
    "-n": ("--top-k",),
    "-m": ("--model",),
    "-h": ("--help",),
}
"""Options as other programs name them; the first one that the command has is proposed."""
_OTHER_COMMANDS: Final[Mapping[str, str]] = {
    "version": "--version",
    "search": "match",
    "query": "match",
    "find": "match",
    "eval": "evaluate",
    "validate": "evaluate",
    "test": "evaluate",
    "convert": "export",
    "embed": "index",
    "add": "index",
    "enroll": "index",
    "build": "engine",
    "quantize": "calibrate",
    "import": "adopt",
    "list": "gallery list",
    "forget": "gallery forget",
    "delete": "gallery forget",
    "benchmark": "bench",
    "check": "doctor",
    "server": "serve",
}
_KINDS: Final = (
    (r"valid integer|valid int\b", "a whole number"),
    (r"valid number|valid float", "a number, with a point for decimals"),
    (r"valid bool", "true or false"),
    (r"greater than or equal to (\S+)", r"at least \1"),
    (r"less than or equal to (\S+)", r"at most \1"),
    (r"greater than (\S+)", r"more than \1"),
    (r"less than (\S+)", r"less than \1"),
)
"""What a value should have been, by Typer's message about it."""


def wrong_use(error: Any, arguments: Sequence[str], command: Any) -> str:  # noqa: ANN401 - Typer brings its own Click
    """The line about Click's ``error``.

    Args:
        error: a usage error of Click.
        arguments: the command line, without the program's name.
        command: the whole command line, as Typer built it.
    """
    context = getattr(error, "ctx", None)
    path, at = _place(arguments, command) if context is None else (_name(context.command_path), context.command)
    if found := re.search(r"[Pp]ath '(.*)' is not readable", str(error.message), re.DOTALL):
        return f"{printable(found[1])}: cannot be read (Permission denied); make it readable, or give another one"
    told, wants_example = _told(error, arguments, at)
    advice = f"see: {' '.join(['rrid-edge', path]).strip()} --help"
    if wants_example and (example := _example(at)):
        advice = f"for example: {example}"
    end = f" {advice[0].upper()}{advice[1:]}" if told.endswith("?") else f"; {advice}"
    return printable(f"{path}{': ' if path else ''}{told}{end}")


def _told(error: Any, arguments: Sequence[str], at: Any) -> tuple[str, bool]:  # noqa: ANN401 - as above
    """What is wrong and what was expected, and whether an example helps more than the list of options."""
    message = str(error.message)
    name = getattr(error, "option_name", None)
    if name and message.endswith("requires an argument."):
        return f"option {name} is given without a value; expected one after it", False
    if name and message.startswith("No such option"):
        return _unknown_option(name, arguments, at, _root(error, at)), False
    if found := re.match(r"No such command '(.*?)'\.", message):
        return unknown_command(found[1], at), False
    if found := re.match(r"Got unexpected extra arguments? ?(?:\(s\) )?\((.*)\)", message):
        broken = broken_name(arguments)
        quotes = f", and a name with spaces in quotes: {shlex.quote(broken[1])}" if broken else ""
        return f"'{found[1]}' is too much; expected {_expected(at)}{quotes}", True
    parameter = getattr(error, "param", None)
    if parameter is None:
        return error.format_message().rstrip("."), False
    is_option = parameter.param_type_name == "option"
    name = f"option {parameter.opts[0]}" if is_option else _shown(parameter)
    if not message:  # a required parameter was not given
        wanted = _expected(at)
        return f"{name} is missing" + (f"; expected {wanted}" if wanted != name else ""), True
    if message == EMPTY:
        return f"{name} is empty, as an unset variable of the shell is; expected a value", False
    return _wrong_value(name, message, _given_value(parameter.opts[0], arguments)), False


def _root(error: Any, at: Any) -> Any:  # noqa: ANN401 - as above
    """The whole command line."""
    context = getattr(error, "ctx", None)
    return at if context is None else context.find_root().command


def _unknown_option(name: str, arguments: Sequence[str], at: Any, root: Any) -> str:  # noqa: ANN401 - as above
    known = _options_of(at)
    file = next((word for word in arguments if word.startswith(name) and Path(word).exists()), None)
    if file is not None:
        return f"there is no option {name}; expected a file whose name begins with - written as ./{file}"
    proposed = [other for other in _OTHER_WORDS.get(name, ()) if other in known][:1]
    proposed = proposed or difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    later = next((at.commands[word] for word in arguments if word in getattr(at, "commands", {})), None)
    if later is not None and name in _options_of(later):
        return f"option {name} is given before the command; expected it after {later.name}"
    if at is not root and name in _options_of(root):
        return f"option {name} is given after the command; expected it before: rrid-edge {name} {at.name}"
    return f"there is no option {name}" + (f"; did you mean {proposed[0]}?" if proposed else "")


def unknown_command(name: str, at: Any) -> str:  # noqa: ANN401 - as above
    """That a group has no command of this name, and the nearest one that it has.

    Args:
        name: as it was typed.
        at: the group, with all of its commands.
    """
    proposed = difflib.get_close_matches(name, at.commands, n=1) or [
        other for other in (_OTHER_COMMANDS.get(name),) if other and not _is_below(at)
    ]
    return f"there is no command '{name}'" + (f"; did you mean {proposed[0]}?" if proposed else "")


def _wrong_value(name: str, message: str, given: str | None) -> str:
    found = ((re.search(pattern, message), kind) for pattern, kind in _KINDS)
    kind = next((match.expand(kind) for match, kind in found if match), None)
    if kind is None or given is None:
        return f"{name}: {message.removeprefix('Value error, ').rstrip('.')}"
    return f"{name} is '{given}'; expected {kind}"


def _given_value(name: str, arguments: Sequence[str]) -> str | None:
    for word, following in zip(arguments, [*arguments[1:], None], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def _expected(at: Any) -> str:  # noqa: ANN401 - as above
    """What a command needs, for example ``FOLDER``."""
    arguments = [_shown(item) for item in at.params if item.param_type_name == "argument"]
    options = [item.opts[0] for item in at.params if item.param_type_name == "option" and item.required]
    return " ".join([*arguments, *options]) or "no argument"


def _shown(argument: Any) -> str:  # noqa: ANN401 - as above
    return str(argument.metavar or argument.name.upper()).strip("[]{}").upper()


def _example(at: Any) -> str:  # noqa: ANN401 - as above
    return str(getattr(at, "epilog", None) or "").partition("Example: ")[2].split("\n")[0].strip()


def _options_of(at: Any) -> list[str]:  # noqa: ANN401 - as above
    return [spelling for item in at.params if item.param_type_name == "option" for spelling in _spellings(item)] + [
        "--help"
    ]


def _spellings(item: Any) -> Iterable[str]:  # noqa: ANN401 - as above
    return [*item.opts, *item.secondary_opts]


def _place(arguments: Sequence[str], command: Any) -> tuple[str, Any]:  # noqa: ANN401 - as above
    """The command that the command line names, and its path without the program's name."""
    path = []
    for word in arguments:
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
            path.append(word)
    return " ".join(path), command


def _name(path: str) -> str:
    return path.partition(" ")[2]


def _is_below(at: Any) -> bool:  # noqa: ANN401 - as above
    return str(at.name) != "rrid-edge"
