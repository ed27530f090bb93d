"""Settings of a training from a preset, a TOML file and single values."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from rrid_edge.errors import UsageError, printable
from rrid_edge.machine.processor import usable_cores
from rrid_train.settings import PRESETS, TrainConfig, declarations


def make_config(preset: str, file: Path | None, given: Mapping[str, object]) -> TrainConfig:
    """Combine settings: ``file`` overrides the preset, and ``given`` overrides both.

    Args:
        preset: ``paper`` or ``demo``.
        file: TOML file with fields of :class:`TrainConfig` at its top level, or None.
        given: values by field name; None means not given.

    Raises:
        UsageError: a preset or field is unknown, or a value does not work.
    """
    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r} is unknown: expected one of {', '.join(PRESETS)}", parameter="preset")
    values = _read_toml(file) if file else {}
    values.update({name: value for name, value in given.items() if value is not None})
    preset_values = PRESETS[preset]
    workers = min(preset_values.num_workers, usable_cores())  # the file and the caller may ask for more
    base = dataclasses.replace(preset_values, num_workers=workers)
    return config_from_dict(values, base=base, where=printable(file) if file else "the command line")


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
        key = name.replace("-", "_")
        if key not in declarations():
            raise UsageError(f"{where}: the setting {name!r} is unknown; rrid-edge train --help lists all settings")
        converted[key] = _converted(key, value, where)
    return dataclasses.replace(base or TrainConfig(), **converted)


def _converted(name: str, value: object, where: str) -> object:
    """``value`` in the type of its field: lists become tuples, and whole numbers floats."""
    kind = declarations()[name].kind
    if get_origin(kind) is tuple:
        if isinstance(value, (list, tuple)) and all(type(item) is int for item in value):
            return tuple(value)
        raise UsageError(f"{where}: {name} = {value!r} does not work: expected a list of whole numbers")
    if kind is float and type(value) is int:
        return float(value)
    kinds = get_args(kind) or (kind,)
    if type(value) in kinds:
        return value
    raise UsageError(f"{where}: {name} = {value!r} does not work: expected {kinds[0].__name__}")


def _read_toml(file: Path) -> dict[str, Any]:
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        values: dict[str, Any] = toml.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{printable(file)}: no such TOML file of settings; check the path") from error
    except ValueError as error:  # Invalid TOML or invalid UTF-8.
        raise UsageError(f"{printable(file)}: invalid TOML ({error}); correct the file") from error
    return values
