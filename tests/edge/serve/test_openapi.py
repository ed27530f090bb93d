"""The OpenAPI document: it is stable, valid, and says what clients must know."""

from __future__ import annotations

import difflib

import pytest

from edge.serve.documents import as_text, current_document, recorded_document
from edge.serve.support import client, service_on
from rrid_edge import __version__
from rrid_edge.serve.gate.problems import PROBLEMS


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    return current_document(tmp_path_factory.mktemp("galleries"))


def operations(document):
    return {f"{method} {path}": one for path, item in document["paths"].items() for method, one in item.items()}


def test_the_document_is_the_recorded_one(document):
    lines = difflib.unified_diff(as_text(recorded_document()).split("\n"), as_text(document).split("\n"), n=0)
    changes = [line for line in lines if line[:1] in "+-"][2:]
    assert not changes, f"{changes[:10]}: if this is meant, run python tools/record_openapi.py"


def test_every_operation_tells_its_refusals(document):
    for name, one in operations(document).items():
        assert {str(status) for status in PROBLEMS} <= set(one["responses"]), name
        for status in map(str, PROBLEMS):
            told = one["responses"][status]["content"]["application/problem+json"]
            assert told == {"schema": {"$ref": "#/components/schemas/Problem"}}, name
    assert document["components"]["schemas"]["Problem"]["required"] == ["type", "title", "status", "detail", "instance"]


def test_every_operation_but_health_and_login_needs_a_token(document):
    free = {name for name, one in operations(document).items() if "security" not in one}
    assert free == {"get /healthz", "post /api/v1/login"}
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


def test_every_operation_has_a_summary_and_its_own_id(document):
    found = operations(document)
    assert all(one.get("summary") and one.get("description", "").endswith(".") for one in found.values())
    ids = [one["operationId"] for one in found.values()]
    assert len(set(ids)) == len(ids)


def test_the_document_names_the_version_and_the_root_path(tmp_path):
    with service_on(tmp_path, {"g": 1}, root_path="/reid") as service, client(service) as asked:
        for path in ("/openapi.json", "/reid/openapi.json"):
            found = asked.get(path).json()
            assert found["info"]["version"] == __version__
            assert found["servers"] == [{"url": "/reid"}]
            assert "/api/v1/search" in found["paths"]
