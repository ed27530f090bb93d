"""What is known of a model file here: whether it is sound, which installed runtimes run it, whether it was proven."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.artefacts import Artefact
from rrid_edge.engines.available import advice_for, runtimes_for
from rrid_edge.errors import ArtefactError, ModelFileError, RridEdgeError, UsageError, printable
from rrid_edge.file_kinds import kind_of_file, why_no_file
from rrid_edge.machine.gpu_findings import Finding
from rrid_edge.model.engine_sidecar import EngineSidecar
from rrid_edge.model.ir_sidecar import IrSidecar
from rrid_edge.model.names import Kind, goldens_path, is_engine, is_model, kind_of, parity_report_path, sidecar_path
from rrid_edge.model.onnx_header import read_model_header
from rrid_edge.model.spec import RRID, ModelSpec
from rrid_edge.model.weights import read_checked_spec

_MOST_MODELS = 20
_METADATA = "rrid."


@dataclass(frozen=True)
class _Report:
    verdict: str
    fingerprint: str
    engine: str = ""


_REPORT = Artefact("parity report", _Report, "write it again with: rrid-edge parity MODEL")


def models_in(folder: Path) -> list[Path]:
    """The model files of a folder, by name. Files of other programs are left out."""
    try:
        found = sorted(path for path in folder.iterdir() if is_model(path) and path.is_file())
    except OSError:
        return []
    return [path for path in found if _is_ours(path)]


def model_findings(models: list[Path]) -> list[Finding]:
    """A finding for each model file. Files are read whole and compared with their sums; none is run.

    A file that is damaged, or that no installed runtime runs, is a problem, as is a failed parity report. A file that
    nothing has proven yet is a note.

    Args:
        models: model files.

    Raises:
        UsageError: a file does not exist, or its name is not that of a model file.
    """
    findings = [_finding(path) for path in models[:_MOST_MODELS]]
    if len(models) > _MOST_MODELS:
        left = len(models) - _MOST_MODELS
        findings.append(Finding("models", "note", f"{left} more were not looked at: give doctor the files to look at"))
    return findings


def _is_ours(path: Path) -> bool:
    """Whether a file was written by this package, damaged or not: it has metadata of it, or a sidecar."""
    if kind_of(path) is not Kind.ONNX:
        return sidecar_path(path).is_file()
    try:
        return any(key.startswith(_METADATA) for key in read_model_header(path).metadata)
    except RridEdgeError:
        return True  # damaged


def _finding(path: Path) -> Finding:
    if path.is_dir():
        raise UsageError(f"{printable(path)}: this is a folder; expected a model file", parameter="models")
    if not is_model(path):
        raise UsageError(
            f"{printable(path)}: {kind_of_file(path) or kind_of(path).value} is no model: expected an ONNX file, an "
            "engine or an OpenVINO IR",
            parameter="models",
        )
    if not path.is_file():
        raise UsageError(f"{printable(path)}: {why_no_file(path, 'model file')}; give another one", parameter="models")
    try:
        spec, runtimes = _checked_spec(path), runtimes_for(path)
    except ModelFileError as error:
        return Finding("model", "problem", error.message)
    name = "RRID" if spec.family == RRID else f"adopted {spec.backbone}"
    facts = f"{path}: {name}, {spec.precision}, fingerprint {spec.fingerprint[:12]}"
    if not runtimes:
        return Finding("model", "problem", f"{facts}; nothing installed here runs it", advice_for(path))
    state, told, remedy = _proof(path, spec, runtimes)
    return Finding("model", state, f"{facts}; runs on {', '.join(runtimes)}; {told}", remedy)


def _checked_spec(path: Path) -> ModelSpec:
    if is_engine(path):
        sidecar = EngineSidecar.read(path)
        sidecar.read_plan(path)
        return sidecar.spec
    if kind_of(path) is Kind.IR:
        files = IrSidecar.read(path)
        files.check_files(path)
        return files.spec
    return read_checked_spec(path)


def _proof(path: Path, spec: ModelSpec, runtimes: Sequence[str]) -> tuple[str, str, str]:
    """State, words and remedy: what the goldens and the parity report beside a model say.

    A report of a runtime that is not installed here proves nothing about those that are.
    """
    goldens, report, check = goldens_path(path), parity_report_path(path), f"rrid-edge parity {shlex.quote(str(path))}"
    if not report.is_file():
        if not goldens.is_file():
            return "note", f"no goldens and no parity report beside it: copy {goldens.name} too, then prove it", check
        return "note", "goldens, but no parity report beside it", check
    try:
        stored = _REPORT.read(report)
    except (ArtefactError, OSError) as error:
        return "note", getattr(error, "message", f"{report}: {error}"), check
    if stored.fingerprint != spec.fingerprint:
        return "note", f"{report.name} is of another network", check
    proven = stored.engine.split(" ")[0].split("-")[0] in {runtime.split("-")[0] for runtime in runtimes}
    state = {"passed": "ok", "failed": "problem"}.get(stored.verdict, "note") if proven else "note"
    beside = "goldens" if goldens.is_file() else "no goldens"
    told = f"{beside}, parity {stored.verdict}{stored.engine and f' on {stored.engine}'}"
    return state, told, "" if state == "ok" else check
