"""A service without tokens: only this machine's own names and pages may use it. Deadlines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.serve.gate.tiny import QUICK, READ, client, tiny_app
from edge.serve.support import problem


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return tiny_app(tmp_path_factory.mktemp("tokens"), tokens=False)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:8760", "LOCALHOST:1", "localhost.", "127.9.9.9", "[::1]:8760"]
)
def test_names_of_this_machine_are_served(app, host):
    assert client(app).get("/api/v1/crops", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]", "0.0.0.0", "2130706433"],
)
def test_other_names_are_refused(app, host):
    problem(client(app).get("/api/v1/crops", headers={"Host": host}), 403, f"host {host}", "token file")
    problem(client(app).get("/healthz", headers={"Host": host}), 403)


@pytest.mark.parametrize("host", ["", "a b", "user@localhost", "localhost:x", "localhost:123456", "[::1"])
def test_malformed_names_are_refused(app, host):
    problem(client(app).get("/api/v1/crops", headers={"Host": host}), 400, "header Host")


def test_other_sites_are_refused(app):
    asked = client(app)
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        problem(asked.get("/api/v1/crops", headers=headers), 403)
        problem(asked.post("/api/v1/people", json={"name": "a", "crops": [1]}, headers=headers), 403)
    own = {"Origin": "http://127.0.0.1:8760", "Sec-Fetch-Site": "same-origin"}
    assert asked.post("/api/v1/people", json={"name": "a", "crops": [1]}, headers=own).status_code == 201
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert asked.get("/", headers=link).status_code == 200
    problem(asked.post("/api/v1/people", json={"name": "a", "crops": [1]}, headers=link), 403)


def test_with_tokens_any_name_is_served(tmp_path):
    asked = client(tiny_app(tmp_path), READ)
    assert asked.get("/api/v1/crops", headers={"Host": "cams.example"}).status_code == 200


def test_an_answer_that_does_not_begin_in_time_is_504(tmp_path):
    app = tiny_app(tmp_path, tokens=False, limits=replace(QUICK, deadline_s=0.1))
    problem(client(app).get("/api/v1/slow?seconds=5"), 504, "no answer within 0.1 s")
    assert app.given_up == ["read"]
    problem(client(app).post("/api/v1/slow?seconds=0.2"), 504)
    assert app.done == ["write"]  # what writes goes on to its end


def test_an_answer_that_has_begun_is_never_cut(tmp_path):
    app = tiny_app(tmp_path, tokens=False, limits=replace(QUICK, deadline_s=0.1))
    answer = client(app).get("/api/v1/stream?parts=5&bytes_each=10&pause_s=0.06")
    assert answer.status_code == 200
    assert len(answer.content) == 50
