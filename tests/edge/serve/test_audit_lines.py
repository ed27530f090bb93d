"""The audit lines of the service."""

from __future__ import annotations

import io
import json
from datetime import datetime, timedelta

import pytest

from edge.serve.support import service_on
from rrid_edge.gallery.indexing import audit as audit_module
from rrid_edge.serve.audit_lines import NEEDED
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.roles import Actor
from rrid_edge.serve.logs import logging_to
from rrid_edge.serve.traces import _CURRENT, RequestFacts

ANN = Actor("desk", "label")


def _lines(file):
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "rrid-edge" / "audit.jsonl"


def test_a_line_says_who_did_what_when_and_from_where(tmp_path, state):
    with service_on(tmp_path, {"a": 4, "b": 4}) as service:
        token = _CURRENT.set(RequestFacts("r-1", "192.0.2.7"))
        service.audit.line("search", ANN, "b", ids=[3, 1], matches=2)
        _CURRENT.reset(token)
        service.audit.line("forget", Actor("boss", "admin"), "a", [2])
    (line,) = _lines(tmp_path / "b" / ".rrid-edge" / "audit.jsonl")
    assert datetime.fromisoformat(line.pop("time")).utcoffset() == timedelta(0)
    assert line == {
        "command": "search", "gallery": str((tmp_path / "b" / ".rrid-edge").resolve()), "actor": "desk",
        "role": "label", "client": "192.0.2.7", "request": "r-1", "matches": 2, "ids": [3, 1],
    }  # fmt: skip
    (line,) = _lines(tmp_path / "a" / ".rrid-edge" / "audit.jsonl")
    assert (line["command"], line["actor"], line["role"], line["ids"]) == ("forget", "boss", "admin", [2])
    assert not state.exists()


def test_a_login_has_a_line_in_the_log_of_the_user(tmp_path, state):
    with service_on(tmp_path) as service:
        service.audit.line("login", ANN, None)
    (line,) = _lines(state)
    assert (line["command"], line["gallery"], line["actor"], line["ids"]) == ("login", None, "desk", [])
    assert state.stat().st_mode & 0o777 == 0o600


def test_only_what_must_not_be_lost_waits_for_the_disk(tmp_path, state, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr("rrid_edge.gallery.indexing.audit_file.os.fsync", synced.append)
    with service_on(tmp_path) as service:
        synced.clear()
        service.audit.line("search", ANN, "gallery")
        assert synced == []
        service.audit.line("label", ANN, "gallery", [1])
        assert len(synced) == 1


@pytest.fixture
def full_disk(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit_module, "append_line", refuse)


@pytest.mark.parametrize("action", sorted(NEEDED))
def test_an_action_that_needs_a_line_is_refused_without_one(tmp_path, state, full_disk, action):
    with service_on(tmp_path) as service, pytest.raises(RequestError, match="nothing was done") as caught:
        service.audit.line(action, ANN, "gallery", [1])
    assert (caught.value.status, caught.value.retry_after_s) == (503, 10)
    assert "No space left" in caught.value.message


def test_forget_export_and_label_need_a_line():
    assert {"forget", "export", "label", "feedback"} <= NEEDED
    assert "search" not in NEEDED


def test_a_search_without_a_line_is_counted_and_logged(tmp_path, state, full_disk):
    stream = io.StringIO()
    with service_on(tmp_path) as service, logging_to("text", stream):
        service.audit.line("search", ANN, "gallery")
        text = service.metrics.text()[0].decode()
    assert 'rrid_edge_audit_failures_total{command="search"} 1.0' in text
    assert "error no audit line for search: " in stream.getvalue()
    assert stream.getvalue().count("\n") == 1
