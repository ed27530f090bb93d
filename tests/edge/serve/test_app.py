"""Tests of the application: health, galleries, and which gallery is asked."""

from __future__ import annotations

import httpx

from edge.serve.support import client, running, service_on


def test_a_service_answers_that_it_is_alive_and_ready(tmp_path):
    with service_on(tmp_path) as service, client(service) as asked:
        assert asked.get("/healthz").json() == {"status": "ok"}
        assert asked.get("/readyz").json() == {"status": "ready"}


def test_galleries_are_listed_in_the_order_given(tmp_path):
    with service_on(tmp_path, {"b": 6, "a": 4}) as service, client(service) as asked:
        found = asked.get("/api/v1/galleries").json()
        assert [(one["name"], one["rows"]) for one in found] == [("b", 6), ("a", 4)]


def test_a_server_runs_on_a_port_of_its_own(tmp_path):
    with service_on(tmp_path, {"g": 2}) as service, running(service) as address:
        assert httpx.get(f"{address}/healthz").json() == {"status": "ok"}
