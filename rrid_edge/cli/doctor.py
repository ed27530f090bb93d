"""``rrid-edge doctor``: a check of this machine and of the models on it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json, show
from rrid_edge.cli.wrapping import show_facts
from rrid_edge.errors import RridEdgeError, printable

if TYPE_CHECKING:
    from rrid_edge.machine.gpu_findings import Finding

_COLUMNS = 80
_NAMES = 21
_ARROW = f"{'':<9}-> "


@app.command(
    epilog="Example: rrid-edge doctor",
    help="Check what this machine has and print a fix for each gap. It looks at hardware, drivers, packages, models, "
    "variables, cache, disk, limits and the clock. It installs and runs nothing. It exits with code 3 if it found a "
    "problem.",
)
def doctor(
    models: Annotated[
        list[Path] | None,
        typer.Argument(metavar="MODEL", help="Models to look at; default: RRID_EDGE_MODEL and those in models/."),
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="Say what training and export lack here, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    import os

    from rrid_edge.crops.fast_jpeg import decoding_finding
    from rrid_edge.engines.cache_standing import cache_finding
    from rrid_edge.engines.compiled_cache import cache_folder
    from rrid_edge.machine import doctor as machine
    from rrid_edge.parity.standing import model_findings

    looked_at = model_findings(models or _models_here())
    cache = cache_folder()
    findings = [
        *(machine.examine(trains=True) if train else machine.examine()),
        decoding_finding(),
        *looked_at,
        *_auto_findings(),
        cache_finding(cache),
        *machine.examine_surroundings(os.environ, cache),
    ]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            show_facts([(f"{finding.state:<8} {finding.name}", finding.detail)], name_width=_NAMES)
            for line in _remedy_lines(finding.remedy):
                show(line)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(3)


def _remedy_lines(remedy: str) -> list[str]:
    """A command, in lines of 80 columns where a shell goes on with the next line: after ``&&``."""
    if not remedy:
        return []
    if len(_ARROW) + len(remedy) > _COLUMNS:
        first, *others = remedy.split(" && ")
        lines = [f"{_ARROW}{first}", *(f"{'':<{len(_ARROW)}}{other}" for other in others)]
        return [f"{line} &&" for line in lines[:-1]] + lines[-1:]
    return [f"{_ARROW}{remedy}"]


def _models_here() -> list[Path]:
    """The model that RRID_EDGE_MODEL names, and those in the folder where commands look for models."""
    import os

    from rrid_edge.model.choice import ENVIRONMENT_VARIABLE, MODELS_FOLDER
    from rrid_edge.model.names import is_model
    from rrid_edge.parity.standing import models_in

    named = Path(os.environ.get(ENVIRONMENT_VARIABLE, ""))
    # A name that leads nowhere has a finding of its own, among those of variables.
    return list(dict.fromkeys([*([named] if named.is_file() and is_model(named) else []), *models_in(MODELS_FOLDER)]))


def _auto_findings() -> list[Finding]:
    """Which runtime ``auto`` takes for the model that commands would take here, or else for ONNX files."""
    from rrid_edge.engines import choose_runtime
    from rrid_edge.engines.available import runtimes_for
    from rrid_edge.engines.opening import runtime_of_onnx_files
    from rrid_edge.machine.gpu_findings import Finding
    from rrid_edge.model.choice import choose_model

    try:
        path, _ = choose_model(None)
        choice, runtimes = choose_runtime(path), runtimes_for(path)
    except RridEdgeError:  # commands that need a model say what is wrong with it
        usual = runtime_of_onnx_files()
        return [] if usual is None else [Finding("auto", "ok", f"ONNX files: {usual.describe()}")]
    if not runtimes:
        return []  # the finding on the model says it
    remedy = f"rrid-edge bench --quick --model {printable(path)}" if choice.is_unmeasured else ""
    return [Finding("auto", "note" if remedy else "ok", f"{printable(path)}: {choice.describe()}", remedy)]
