"""Options that the user gave, as opposed to defaults: refused where they would have no effect."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import typer

from rrid_edge.errors import UsageError

_ENGINE = "Engine: "
"""Help texts of options that only shape an engine begin with this."""
_LOG = "tensorrt_log"  # commands that open engines share its help
# Options of export that only the export of a checkpoint obeys.
_NETWORK = frozenset({"fp16", "flip", "height", "width", "crops", "golden_crops", "input_", "card", "licence"})


def given_engine_options(context: typer.Context) -> list[str]:
    """The words of the command line that only shape an engine, for example ``["--max-batch", "64", "--tf32"]``."""
    return _given(context, lambda option: (option.help or "").startswith(_ENGINE) or option.name == _LOG)


def refuse_engine_options(context: typer.Context) -> None:
    """Refuse options of an engine where none is built.

    Raises:
        UsageError: names the options that were given.
    """
    words = given_engine_options(context)
    if words:
        raise UsageError(
            f"{' '.join(words)}: no engine is built here, so this has no effect: add --fp16 or --int8, or give it when "
            "you build the engine: rrid-edge export MODEL.onnx"
        )


def refuse_network_options(context: typer.Context, *allowed: str) -> None:
    """Refuse options of a network's export where the ONNX file exists already.

    Args:
        context: the command's context.
        allowed: names of those that have an effect all the same.

    Raises:
        UsageError: names the options that were given.
    """
    words = _given(context, lambda option: option.name in _NETWORK.difference(allowed))
    if words:
        raise UsageError(f"{' '.join(words)}: the network is in the ONNX file already: give this with a checkpoint")


def _given(context: typer.Context, wanted: Callable[[Any], bool]) -> list[str]:
    words: list[str] = []
    for option in context.command.params:
        source = context.get_parameter_source(str(option.name))
        if source is None or source.name == "DEFAULT" or not wanted(option):
            continue
        value = context.params[str(option.name)]
        if isinstance(value, bool):
            words.append(option.opts[0] if value else option.secondary_opts[0])
            continue
        for one in value if isinstance(value, list | tuple) else (value,):
            words += [option.opts[0], str(one.value if isinstance(one, Enum) else one)]
    return words
