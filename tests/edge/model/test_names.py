"""Names and kinds of artefacts. Only ``rrid_edge.model.names`` makes them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from rrid_edge.model import names
from rrid_edge.model.names import Kind, kind_of, stem_of
from rrid_edge.model.spec import FLOAT32_NCHW

ROOT = Path(__file__).parents[3]
M = Path("models")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("rrid.onnx", "rrid"),
        ("rrid.fp16.onnx", "rrid"),
        ("rrid.int8.engine", "rrid"),
        ("rrid.fp32.plan", "rrid"),
        ("rrid.plan", "rrid"),
        ("person.v2.onnx", "person.v2"),
        ("person.v2.int8.onnx", "person.v2"),
        ("person.v2.fp32.onnx", "person.v2"),
        ("rrid.nchw.onnx", "rrid"),  # takes float32 planes
        ("person.v2.nchw.int8.engine", "person.v2"),
        ("nchw.onnx", "nchw"),  # a stem only
        ("a.fp16.nchw.onnx", "a.fp16"),
        ("best.nchw.pth", "best.nchw"),  # only model names have a form
        ("fp16.onnx", "fp16"),  # a stem only
        ("a.fp16.fp16.onnx", "a.fp16"),
        ("a.fp8.onnx", "a.fp8"),  # not a known precision
        ("best.safetensors", "best"),
        ("best.int8.pth", "best.int8"),  # only model names have a precision
    ],
)
def test_the_stem_is_the_name_without_precision_and_suffix(name, stem):
    assert stem_of(M / name) == stem


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("person.v2.onnx", Kind.ONNX),
        ("RRID.ONNX", Kind.ONNX),
        ("rrid.fp16.engine", Kind.ENGINE),
        ("rrid.plan", Kind.ENGINE),
        ("rrid.fp16.rtx", Kind.RTX_ENGINE),
        ("rrid.fp16.rtx.json", Kind.SIDECAR),
        ("best.safetensors", Kind.CHECKPOINT),
        ("net.pth.tar", Kind.CHECKPOINT),
        ("rrid.goldens.npz", Kind.GOLDENS),
        ("rrid.fp16.thresholds.json", Kind.THRESHOLDS),
        ("rrid.calibration.json", Kind.CALIBRATION),
        ("parity.json", Kind.PARITY),
        ("rrid.fp16.engine.parity.json", Kind.PARITY),
        ("rrid.fp16.engine.json", Kind.SIDECAR),
        ("a.plan.json", Kind.SIDECAR),
        ("a.json", Kind.OTHER),
        ("engine", Kind.OTHER),
    ],
)
def test_the_name_decides_the_kind(name, kind):
    assert kind_of(M / name) is kind


def test_names_equal_the_table_in_the_docstring():
    engine = M / "person.v2.fp16.engine"
    rows = [
        names.goldens_path(engine),
        names.calibration_path(engine),
        names.onnx_beside(engine),
        names.cpu_onnx_path(names.onnx_beside(engine)),
        names.engine_path(names.onnx_beside(engine), "fp16"),
        names.engine_path(names.onnx_beside(engine), "fp16", rtx=True),
        names.adopted_path(M, "person.v2", "fp32", is_ir=True),
        names.thresholds_path(engine),
        names.sidecar_path(engine),
        names.parity_report_path(engine),
        names.chart_path(names.parity_report_path(engine)),
        M / names.timing_cache_name("10.3.0", "8.7"),
    ]
    table = (names.__doc__ or "").split("=\n")[2]
    assert [str(row.name) for row in rows] == re.findall(r"``([^`<]+)``$", table, re.MULTILINE)
    assert all(row.parent == M for row in rows)


def test_default_names_are_those_of_the_documentation():
    assert [names.onnx_path(M, precision).name for precision in ("fp32", "fp16", "int8")] == [
        "rrid.onnx",
        "rrid.fp16.onnx",
        "rrid.int8.onnx",
    ]
    assert names.engine_path(M / "rrid.onnx", "fp32") == M / "rrid.fp32.engine"
    assert names.engine_path(M / "rrid.int8.onnx", "int8") == M / "rrid.int8.engine"
    assert names.engine_path(M / "rrid.onnx", "fp32", rtx=True) == M / "rrid.fp32.rtx"
    assert names.onnx_beside(M / "rrid.fp16.rtx") == M / "rrid.fp16.onnx"
    assert names.parity_report_path(M / "rrid.onnx") == M / "parity.json"
    assert names.chart_path(M / "parity.json") == M / "parity.png"
    assert names.thresholds_path(M / "rrid.fp32.engine") == M / "rrid.thresholds.json"
    assert names.onnx_beside(M / "rrid.fp32.engine") == M / "rrid.onnx"


def test_both_forms_of_input_lie_in_one_folder():
    """Goldens and thresholds are of the network. Engines, reports and the calibration are of one file."""
    planes = [names.onnx_path(M, precision, FLOAT32_NCHW) for precision in ("fp32", "fp16", "int8")]
    assert [path.name for path in planes] == ["rrid.nchw.onnx", "rrid.nchw.fp16.onnx", "rrid.nchw.int8.onnx"]
    for path in planes:
        assert names.goldens_path(path) == M / "rrid.goldens.npz"
        assert names.calibration_path(path) == M / "rrid.nchw.calibration.json"
        assert names.onnx_beside(path, "int8") == planes[2]
    engine = names.engine_path(planes[1], "fp16")
    assert engine == M / "rrid.nchw.fp16.engine"
    assert names.onnx_beside(engine) == planes[1]
    assert names.thresholds_path(engine) == names.thresholds_path(M / "rrid.fp16.engine")
    assert names.parity_report_path(planes[0]) == M / "rrid.nchw.onnx.parity.json"


@pytest.mark.parametrize("form", ["", ".nchw"])
def test_the_int8_file_for_cpus_shares_goldens_thresholds_and_calibration(form):
    every = M / f"rrid{form}.int8.onnx"
    cpu = names.cpu_onnx_path(every)
    assert cpu == M / f"rrid{form}.cpu.int8.onnx"
    assert names.portable_onnx_path(cpu) == names.portable_onnx_path(every) == every
    assert names.stem_of(cpu) == "rrid"
    assert names.calibration_path(cpu) == names.calibration_path(every) == M / f"rrid{form}.calibration.json"
    assert names.goldens_path(cpu) == M / "rrid.goldens.npz"
    assert names.thresholds_path(cpu) == M / "rrid.int8.thresholds.json"
    assert names.onnx_beside(cpu, "fp32") == M / f"rrid{form}.onnx"
    assert names.parity_report_path(cpu) == M / f"rrid{form}.cpu.int8.onnx.parity.json"
    known = names.preferred_names()
    assert known.index(cpu.name) == known.index(every.name) - 1


def test_cpu_is_part_of_the_stem_of_other_files():
    assert names.stem_of(M / "my.cpu.onnx") == "my.cpu"
    assert names.stem_of(M / "my.cpu.fp16.onnx") == "my.cpu"
    assert names.cpu_onnx_path(M / "my.onnx") == M / "my.cpu.int8.onnx"


def test_every_model_file_has_its_own_report_and_sidecar():
    stems = ("rrid", "person", "person.v2", "person.v3")
    files = [
        M / f"{stem}{form}{precision}{suffix}"
        for stem in stems
        for form in ("", ".nchw")
        for precision in ("", ".fp32", ".fp16", ".int8")
        for suffix in (".onnx", ".engine", ".plan", ".rtx")
    ]
    made = [names.parity_report_path(path) for path in files]
    made += [names.chart_path(path) for path in made] + [names.sidecar_path(path) for path in files]
    assert len(set(made) | set(files)) == len(made) + len(files)
    assert len({names.goldens_path(path) for path in files}) == len(stems)
    assert len({names.calibration_path(path) for path in files}) == 2 * len(stems)


def test_a_chart_never_replaces_its_report():
    assert names.chart_path(M / "report.png") == M / "report.png.png"
    assert names.chart_path(M / "report.v2") == M / "report.v2.png"


def test_no_other_module_makes_names():
    """No other module contains an ending of a name, except for Triton's fixed names."""
    ending = re.compile(r"\.(onnx|engine|plan|rtx|timing)$|(goldens|thresholds|calibration|parity)\.(json|npz|png)$")
    module = re.compile(r"(torch|rrid_export|ai)\.onnx")  # modules, and ai.onnx, the domain of ONNX's operators
    tritons = {("triton.py", "model.onnx"), ("triton.py", "model.plan")}
    found = set()
    for folder in ("rrid_edge", "export", "calib", "train"):
        for path in (ROOT / folder).rglob("*.py"):
            if path != Path(names.__file__):
                found |= {(path.name, text) for text in _strings(path) if ending.search(text)}
    assert {item for item in found if " " not in item[1] and not module.fullmatch(item[1])} == tritons


def _strings(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
