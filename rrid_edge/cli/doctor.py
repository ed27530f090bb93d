"""``rrid-edge doctor``: a check of this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json, show
from rrid_edge.cli.wrapping import show_facts
from rrid_edge.errors import RridEdgeError, printable

if TYPE_CHECKING:
    from rrid_edge.machine.gpu_findings import Finding


@app.command(
    epilog="Example: rrid-edge doctor",
    help="Check what this machine has and print a fix for each gap. It installs nothing. It exits with code 3 if it "
    "found a problem.",
)
def doctor(as_json: JsonOption = False) -> None:
    from rrid_edge.crops.fast_jpeg import decoding_finding
    from rrid_edge.machine.doctor import examine

    findings = [*examine(), decoding_finding(), *_auto_findings()]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            show_facts([(f"{finding.state:<8} {finding.name}", finding.detail)], name_width=21)
            if finding.remedy:
                show(f"{'':<21} -> {finding.remedy}")
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(3)


def _auto_findings() -> list[Finding]:
    """Which runtime ``auto`` takes for the model that commands would take here, or else for ONNX files."""
    from rrid_edge.engines import choose_runtime
    from rrid_edge.engines.opening import runtime_of_onnx_files
    from rrid_edge.machine.gpu_findings import Finding
    from rrid_edge.model.choice import choose_model

    try:
        path, _ = choose_model(None)
        choice = choose_runtime(path)
    except RridEdgeError:  # commands that need a model say what is wrong with it
        usual = runtime_of_onnx_files()
        return [] if usual is None else [Finding("auto", "ok", f"ONNX files: {usual.describe()}")]
    remedy = f"rrid-edge bench --quick --model {printable(path)}" if choice.is_unmeasured else ""
    return [Finding("auto", "note" if remedy else "ok", f"{printable(path)}: {choice.describe()}", remedy)]
