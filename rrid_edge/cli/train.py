"""``rrid-edge train``: one option per field of :class:`rrid_train.settings.TrainConfig`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import require, say, show
from rrid_edge.cli.completion import one_of
from rrid_edge.errors import UsageError, printable
from rrid_edge.stopping import kept_if_stopped
from rrid_train.settings import PRESETS, TrainConfig, declarations, resume_settings


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the ``**given`` of ``command`` by one option per setting."""
    signature = inspect.signature(command, eval_str=True)
    own = [item for item in signature.parameters.values() if item.kind is not inspect.Parameter.VAR_KEYWORD]
    settings = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(name))
        for name in declarations()
    ]
    command.__signature__ = inspect.Signature([*own, *settings])  # type: ignore[attr-defined]
    return command


def _option(name: str) -> Any:  # noqa: ANN401 - an annotation that Typer reads
    kind, setting = declarations()[name].kind, declarations()[name].setting
    texts = [setting.help]
    if setting.choices:
        texts = [f"{setting.help.rstrip('.')}: {', '.join(setting.choices)}."]
    if setting.on_resume:
        texts.append(" *")
    presets = {preset: _shown(name, getattr(config, name)) for preset, config in PRESETS.items()}
    if len(set(presets.values())) > 1:
        texts.append(" [" + ", ".join(f"{preset}: {value}" for preset, value in presets.items()) + "]")
    elif presets["paper"]:
        texts.append(f" [default: {presets['paper']}]")
    candidates = one_of(" ".join(setting.choices)) if setting.choices else None
    flags = [f"--{flag}" for flag in (setting.switch or name.replace("_", "-")).split("/")]
    value_type = str if get_origin(kind) is tuple else (get_args(kind) or (kind,))[0]
    return Annotated[value_type | None, typer.Option("/".join(flags), help="".join(texts), autocompletion=candidates)]


def _shown(name: str, value: object) -> str:
    """A setting's value as typed on the command line; empty for None."""
    if isinstance(value, bool):
        return declarations()[name].setting.switch.split("/")[not value]
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return "" if value is None else str(value)


def _flags(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


@app.command(
    epilog="Example: rrid-edge train --dataset-path data/market1501 --exp-dir runs/market --gpus 1 --amp bf16",
    help="Train RRID. --config overrides the preset; other options override both.",
)
@_with_settings
def train(
    preset: Annotated[
        str | None, typer.Option(help="Start from paper (published recipe) or demo (small). [default: paper]")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Read settings from this TOML file.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Resume the run in this folder. It takes options with * anew.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already in --exp-dir.")] = False,
    **given: object,
) -> None:
    for name, value in given.items():
        if value is not None and get_origin(declarations()[name].kind) is tuple:
            given[name] = _whole_numbers(name, str(value))
    require("rrid_train.pace", "train", "training")
    from rrid_train.pace import Waiting

    is_main = os.environ.get("RANK", "0") == "0"  # torchrun starts several processes
    said = "no step was done; run the same command again"
    with Waiting(enabled=is_main) as waiting, kept_if_stopped(lambda: said if is_main else ""):
        waiting.what = "importing PyTorch"
        require("rrid_train.loop", "train", "training")
        from rrid_train.config import make_config
        from rrid_train.distributed import OtherProcessError
        from rrid_train.loop import train as run

        changes: dict[str, object] = {}
        if resume is not None:
            own = {"preset": preset, "overwrite": overwrite or None}
            changes = _changes({name: value for name, value in (own | given).items() if value is not None}, config)
            settings = TrainConfig(exp_dir=str(resume))
        else:
            settings = make_config(preset or "paper", config, given)
            if not settings.dataset_path:
                raise UsageError("no dataset: give --dataset-path FOLDER; make a demo with: rrid-edge demo-data FOLDER")
        try:
            best = run(settings, resume=resume is not None, overwrite=overwrite, changes=changes, waiting=waiting)
        except OtherProcessError as error:
            raise typer.Exit(error.exit_code) from error
    if best is not None and is_main:
        say(f"next: rrid-edge export {best}")
        show(str(best))


def _changes(given: Mapping[str, object], file: Path | None) -> dict[str, object]:
    """The settings for a run that goes on: those of ``file``, then those of the command line.

    Raises:
        UsageError: a setting that the run keeps.
    """
    from rrid_train.config import read_settings

    in_file, where = ({}, "") if file is None else (read_settings(file), printable(file))
    kept = [_flags([name]) for name in given if name not in resume_settings()]
    kept += [f"{name} in {where}" for name in in_file if name not in resume_settings()]
    if kept:
        raise UsageError(
            f"--resume takes all other settings from the run, and only {_flags(resume_settings())} anew: leave out "
            f"{kept[0]}, or start a new run"
        )
    return {**in_file, **given}


def _whole_numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace(" ", "").split(",") if part)
    except ValueError as error:
        flag = name.replace("_", "-")
        raise UsageError(
            f"--{flag} {text!r} does not work: expected whole numbers separated by commas, for example 40,60"
        ) from error
