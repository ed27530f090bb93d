"""Options whose value is plain are read without Typer's validation, which imports pydantic for 0.1 s.

A value is plain if Typer can read it in one way only: none at all, the default, text, digits, or a readable path. Every
other value goes the whole way, so that its meaning and the message about it are Typer's own.
"""

from __future__ import annotations

import functools
import os
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import typer
from typer.models import ParameterInfo

EMPTY: Final = "is empty"
"""The message about an empty text: often that of a variable of the shell that is not set."""
_WHOLE: Final = re.compile(r"[0-9]{1,9}")
_DECIMAL: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_UNLIMITED: Final = {
    "parser": None, "click_type": None, "default_factory": None, "envvar": None,
    "min": None, "max": None, "exists": False, "file_okay": True, "dir_okay": True, "writable": False,
    "resolve_path": False, "allow_dash": False, "path_type": None, "count": False,
}  # fmt: skip
"""Attributes of a declaration that limits nothing."""


class _NotPlainError(Exception):
    """The value goes the whole way."""


class _EmptyError(Exception):
    """The value is an empty text."""


def read_plain_values(command: Any) -> None:  # noqa: ANN401 - Typer brings its own Click
    """Let a command, and all commands of a group, read plain values themselves.

    Args:
        command: as ``typer.main.get_command`` returns it.
    """
    for part in getattr(command, "commands", {}).values():
        read_plain_values(part)
    function = getattr(command.callback, "__wrapped__", None)
    hints = {} if function is None else typing.get_type_hints(function, include_extras=True)
    made = getattr(function, "__signature__", None)  # options that a command makes itself, such as those of train
    hints |= {} if made is None else {name: one.annotation for name, one in made.parameters.items()}
    for parameter in (*command.params, command.get_help_option(typer.Context(command))):
        if parameter is not None:
            hint = hints.get(parameter.name)
            read = _reader(hint) if parameter.name in hints else _not_plain
            reader = functools.partial(_not_empty, read) if _declared(hint) in _NAMES else read
            parameter.process_value = functools.partial(_process, parameter, reader, parameter.process_value)


def _process(
    parameter: Any,  # noqa: ANN401 - as above
    reader: Callable[[Any], Any],
    whole_way: Callable[[Any, Any], Any],
    context: Any,  # noqa: ANN401 - as above
    value: Any,  # noqa: ANN401 - any option's
) -> Any:  # noqa: ANN401 - any option's
    """The value of a parameter: what ``process_value`` of Click's parameters returns and raises."""
    try:
        plain = _plain(parameter, reader, value)
    except _EmptyError as error:
        raise typer.BadParameter(EMPTY, ctx=context, param=parameter) from error
    except _NotPlainError:
        return whole_way(context, value)
    return plain if parameter.callback is None else parameter.callback(context, parameter, plain)


def _plain(parameter: Any, reader: Callable[[Any], Any], value: Any) -> Any:  # noqa: ANN401 - as above
    """A plain value as Typer would read it.

    Raises:
        _NotPlainError: it is none.
    """
    if value is None and not parameter.required:
        return () if parameter.multiple or parameter.nargs == -1 else None
    if isinstance(value, (bool, int, float)) and value is parameter.default:
        return value
    if value == "" == parameter.default:
        return ""
    return reader(value)


def _reader(hint: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - any type hint
    """How plain values of a declared type are read."""
    hint = _without_none(hint)  # Python 3.10 puts Optional around the whole of a parameter whose default is None
    extras = typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()
    infos = [extra for extra in extras if isinstance(extra, ParameterInfo)]
    is_limited = any(getattr(info, name, usual) != usual for info in infos for name, usual in _UNLIMITED.items())
    return _READERS.get(_declared(hint), _not_plain) if infos and not is_limited else _not_plain


def _declared(hint: Any) -> Any:  # noqa: ANN401 - any type hint
    """The type of a declaration, without None."""
    hint = _without_none(hint)
    return _without_none(typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint)


def _not_empty(reader: Callable[[Any], Any], value: Any) -> Any:  # noqa: ANN401 - any option's
    """What ``reader`` reads.

    Raises:
        _EmptyError: a text is empty. Typer would take it for the current folder where a path is expected.
    """
    if value == "" or (isinstance(value, (list, tuple)) and "" in value):
        raise _EmptyError
    return reader(value)


def _without_none(hint: Any) -> Any:  # noqa: ANN401 - any type hint
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not types.NoneType)
    return hint


def _not_plain(_value: Any) -> Any:  # noqa: ANN401 - as above
    raise _NotPlainError


def _text(value: Any) -> str:  # noqa: ANN401 - as above
    if type(value) is not str:
        raise _NotPlainError
    return value


def _texts(value: Any) -> list[str]:  # noqa: ANN401 - as above
    if not isinstance(value, (list, tuple)) or not value:
        raise _NotPlainError
    return [_text(item) for item in value]


def _whole(value: Any) -> int:  # noqa: ANN401 - as above
    if not _WHOLE.fullmatch(_text(value)):
        raise _NotPlainError
    return int(value)


def _decimal(value: Any) -> float:  # noqa: ANN401 - as above
    if not _DECIMAL.fullmatch(_text(value)):
        raise _NotPlainError
    return float(value)


def _path(value: Any) -> Path:  # noqa: ANN401 - as above
    text = _text(value)
    # Typer refuses files that exist and cannot be read.
    if not text or "\0" in text or (os.path.lexists(text) and not os.access(text, os.R_OK)):
        raise _NotPlainError
    return Path(text)


_READERS: Final[Mapping[Any, Callable[[Any], Any]]] = {
    str: _text, list[str]: _texts, int: _whole, float: _decimal, Path: _path,
}  # fmt: skip
_NAMES: Final = (str, Path, list[str], list[Path])
"""Types of names and paths, which are never empty."""
