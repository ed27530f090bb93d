"""Which extras are whole and which are installed in part, and that the table of extras is that of pyproject.toml."""

from __future__ import annotations

import sys

import pytest
from packaging.utils import canonicalize_name

import record_extras
from rrid_edge.machine.extras import EXTRAS, extra_findings
from rrid_edge.machine.facts import MachineFacts
from rrid_edge.machine.gpu import Gpu

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SERVE = {
    "fastapi": "0.165.0",
    "prometheus-client": "0.26.0",
    "python-multipart": "0.0.34",
    "sse-starlette": "3.7.0",
    "starlette": "1.10.0",
    "uvicorn": "0.54.0",
}


def _notes(packages, sign=""):
    facts = MachineFacts(Gpu("none", "x86_64"), packages=packages, training_sign=sign)
    whole, *notes = extra_findings(facts)
    assert (whole.name, whole.state, whole.remedy) == ("extras", "ok", "")
    return whole.detail, {note.name: (note.detail, note.remedy) for note in notes}


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_table_says_what_the_project_file_says(extra):
    declared = {(canonicalize_name(line.name), str(line.specifier)) for line in record_extras.requirements_of(extra)}
    table = [line.partition(">=") for line in EXTRAS[extra]]
    assert {(canonicalize_name(name), f">={least}") for name, _, least in table} == declared


def test_an_empty_machine_has_none():
    assert _notes({}) == ("none is installed", {})


def test_whole_extras_are_named():
    assert _notes({"openvino": "2026.4.1", "watchfiles": "1.3.0", **SERVE}) == ("openvino, serve, watch", {})


def test_pyarrow_alone_is_an_extra():
    assert _notes({"pyarrow": "26.0.1"}) == ("parquet", {})


def test_every_extra_of_the_project_file_is_in_the_table_or_examined_elsewhere():
    project = tomllib.loads((record_extras.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["optional-dependencies"].keys()
    combined, examined_with_the_driver = {"cpu", "dev", "docs"}, {name for name in declared if name.startswith("gpu-")}
    assert declared - combined - examined_with_the_driver == EXTRAS.keys()


def test_a_missing_package_is_named_with_the_command():
    packages = {name: version for name, version in SERVE.items() if name != "sse-starlette"}
    assert _notes(packages)[1] == {
        "serve": ("in part: sse-starlette is missing", "pip install 'rrid-edge[serve]'"),
    }


def test_a_package_that_is_too_old_is_named():
    notes = _notes({**SERVE, "starlette": "0.49.1", "watchfiles": "0.20"})[1]
    assert notes["serve"][0] == "in part: starlette 0.49.1 is older than 0.50"
    assert notes["watch"][0] == "in part: watchfiles 0.20 is older than 0.21"


@pytest.mark.parametrize(
    "packages",
    [
        {"onnxruntime": "1.32.0"},  # half of [adopt] and [calib], and an extra of its own
        {"pyarrow": "20.0"},  # half of [ray], which many programs bring
        {"uvicorn": "0.54.0", "fastapi": "0.165.0"},  # a service of another program
        {"torch": "2.15.0", "torchvision": "0.29.2", "scipy": "1.17", "matplotlib": "3.11"},
    ],
)
def test_packages_of_other_programs_are_no_sign_of_an_extra(packages):
    assert _notes(packages)[1] == {}


def test_the_extras_of_the_workshop_count_where_somebody_trains():
    packages = {"torch": "2.15.0", "torchvision": "0.29.2", "safetensors": "0.8", "onnx": "1.23"}
    assert _notes(packages)[1].keys() == {"adopt", "calib"}  # onnx without a runtime for it
    assert _notes(packages, "a run is here")[1]["export"] == (
        "in part: onnxscript is missing",
        "pip install 'rrid-edge[export]'",
    )
