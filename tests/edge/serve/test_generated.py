"""2,000 generated requests over the OpenAPI document: nothing unforeseen happens, and answers are as it says."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis import Case
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from edge.serve.generating import GALLERIES, OPERATIONS, TOKENS, cases, send
from edge.serve.support import client, crop_files, service_on
from rrid_edge.serve.gate.guesses import Guesses
from rrid_edge.serve.gate.tokens import TokenBook

pytestmark = pytest.mark.slow
REQUESTS = 2_000
ENDLESS = "/api/v1/events"
CHECKS: list[CheckFunction] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A client of a service of two galleries. In the first, three people have names, and a query is kept."""
    folder = tmp_path_factory.mktemp("generated")
    tokens = folder / "tokens"
    tokens.write_text("".join(f"{role} {token}\n" for role, token in TOKENS.items()))
    tokens.chmod(0o600)
    with service_on(folder, GALLERIES, token_file=tokens, deadline_s=600.0) as service:
        service.tokens = TokenBook(tokens, Guesses(tries=10**6))
        headers = {"Authorization": f"Bearer {TOKENS['admin']}"}
        with client(service, headers=headers, follow_redirects=False) as asked:
            for name, crops in (("Ann", [1, 2, 3, 4, 5, 6]), ("Bob", [7]), ("Eve", [8])):
                body = {"name": name, "crops": crops}
                assert asked.post("/api/v1/people?gallery=a", json=body).status_code == 201
            searched = asked.post("/api/v1/search?gallery=a", files=crop_files(folder / "a"))
            yield asked, searched.json()["query"]["id"]


def check(case: Case, answer: Any) -> None:
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    if answer.headers.get("content-type") == "application/problem+json":
        found = answer.json()
        assert found["status"] == answer.status_code
        assert found["detail"].isprintable()
        assert len(found["detail"]) < 500, found
        assert (answer.status_code in (429, 503)) <= ("retry-after" in answer.headers)
    else:
        assert answer.status_code < 400 or case.path.endswith("/login")
    case.validate_response(answer, checks=CHECKS)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_generated_requests_are_answered_as_the_document_says(asked, operation):
    chooser = random.Random(0)
    codes = Counter[int]()

    @settings(
        max_examples=math.ceil(REQUESTS / len(OPERATIONS)),
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases(operation))
    def run(case: Case) -> None:
        if case.path == ENDLESS:  # what is right there has no end
            case.query = {**(case.query or {}), "gallery": "zz"}
        token = chooser.choices([*TOKENS.values(), "wrong"], weights=[1, 2, 6, 1])[0]
        answer = send(asked[0], case, token, asked[1])
        assume(answer is not None)
        codes[answer.status_code] += 1
        check(case, answer)

    run()
    reached = any(200 <= code < 400 for code in codes)
    assert reached or operation.endswith(ENDLESS), codes  # otherwise the requests have asked for little
