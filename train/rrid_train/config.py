"""Settings of a training from a preset, a TOML file and single values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import ArtefactError, CheckpointError, UsageError, printable
from rrid_edge.machine.processor import usable_cores
from rrid_train.settings import PRESETS, TrainConfig, declarations

_SETTINGS: Final = Artefact("TOML", dict[str, Any], "correct the file")
_NETWORK: Final = ("height", "width", "stripes", "block_width")
_MOST: Final = (1 << 31) - 1
_SHOWN: Final = 60
"""Most characters of a wrong value in a message."""


def make_config(preset: str, file: Path | None, given: Mapping[str, object]) -> TrainConfig:
    """Combine settings: ``file`` overrides the preset, and ``given`` overrides both.

    Args:
        preset: ``paper`` or ``demo``.
        file: TOML file with fields of :class:`TrainConfig` at its top level, or None.
        given: values by field name; None means not given.

    Raises:
        UsageError: a preset or field is unknown, a given value does not work, or there is no such file.
        ArtefactError: the file is no TOML, or a value in it has the wrong type or is out of range.
    """
    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r} is unknown: expected one of {', '.join(PRESETS)}", parameter="preset")
    own = {name: value for name, value in given.items() if value is not None}
    workers = min(PRESETS[preset].num_workers, usable_cores())  # the file and the caller may ask for more
    base = dataclasses.replace(PRESETS[preset], num_workers=workers)
    if file is None:
        return config_from_dict(own, base=base, where="the command line")
    values = read_settings(file)
    if not any(name in own for name in _NETWORK):
        _check_network(values, base, file)
    return config_from_dict(values | own, base=base, where=printable(file))


def read_settings(file: Path) -> dict[str, Any]:
    """The settings of a TOML file, each checked alone.

    Raises:
        UsageError: there is no such file, or a field is unknown.
        ArtefactError: the file is no TOML, or a value in it has the wrong type or is out of range.
    """
    where = printable(file)
    try:
        content = _SETTINGS.read(file, is_toml=True)
    except FileNotFoundError as error:
        raise UsageError(f"{where}: no such TOML file of settings; check the path", parameter="config") from error
    values = {_field(name, where): value for name, value in content.items()}
    try:
        for name, value in values.items():
            values[name] = _converted(name, value, where)
            declarations()[name].setting.check(name, values[name])
    except UsageError as error:
        raise _wrong_value(where, error) from error
    return values


def _check_network(values: Mapping[str, Any], base: TrainConfig, file: Path) -> None:
    """Refuse sizes of a file that do not fit together."""
    try:
        _ = dataclasses.replace(base, **{name: values[name] for name in _NETWORK if name in values})
    except UsageError as error:
        raise _wrong_value(printable(file), error) from error


def _wrong_value(where: str, error: UsageError) -> ArtefactError:
    message = error.message.removeprefix(f"{where}: ")
    return ArtefactError(f"{where}: {message}; correct the file")


def config_from_dict(values: Mapping[str, Any], *, base: TrainConfig | None = None, where: str) -> TrainConfig:
    """Settings from the plain values of a TOML file or a checkpoint.

    Args:
        values: values by field name; ``-`` counts as ``_``.
        base: settings for the other fields; the preset ``paper`` when None.
        where: source of the values, for messages.

    Raises:
        UsageError: a field is unknown, or a value has the wrong type or does not work.
    """
    converted: dict[str, Any] = {}
    for name, value in values.items():
        key = _field(name, where)
        converted[key] = _converted(key, value, where)
    return dataclasses.replace(base or TrainConfig(), **converted)


def stored_config(values: Mapping[str, Any], *, where: str) -> TrainConfig:
    """The settings that a run stored with its state. None of them is guessed.

    Raises:
        CheckpointError: a field is unknown or missing, or a value has the wrong type or does not work.
    """
    missing = [name for name in declarations() if name not in values]
    try:
        config = config_from_dict(values, where=where)
        if missing:
            raise UsageError(f"the setting {missing[0]!r} is missing ({len(missing)} in all)")
        return config
    except UsageError as error:
        reason = error.message.removeprefix(f"{where}: ")
        raise CheckpointError(f"{where}: damaged settings ({reason}); start a new run") from error


def _field(name: str, where: str) -> str:
    key = name.replace("-", "_")
    if key not in declarations():
        shown = printable(name[:_SHOWN])
        raise UsageError(f"{where}: the setting '{shown}' is unknown; rrid-edge train --help lists all settings")
    return key


def _converted(name: str, value: object, where: str) -> object:
    """``value`` in the type of its field: lists become tuples, and whole numbers floats."""
    kind, shown = declarations()[name].kind, printable(repr(value)[:_SHOWN])
    if get_origin(kind) is tuple:
        if isinstance(value, (list, tuple)) and all(type(item) is int and abs(item) <= _MOST for item in value):
            return tuple(value)
        raise UsageError(f"{where}: {name} = {shown} does not work: expected a list of whole numbers")
    if type(value) is int and abs(value) > _MOST:
        raise UsageError(f"{where}: {name} = {shown} does not work: expected at most {_MOST:,}")
    if isinstance(value, str) and "\0" in value:
        raise UsageError(f"{where}: {name} = {shown} does not work: expected a text without zero characters")
    if kind is float and type(value) is int:
        return float(value)
    kinds = get_args(kind) or (kind,)
    if type(value) in kinds:
        return value
    expected = 'a text such as "10m"' if declarations()[name].setting.is_duration else kinds[0].__name__
    raise UsageError(f"{where}: {name} = {shown} does not work: expected {expected}")
