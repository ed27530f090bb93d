"""The log lines of the service."""

from __future__ import annotations

import io
import json
import logging
import re

import pytest

from edge.serve.support import client, service_on
from rrid_edge.serve.logs import LOGGER, log_event, logging_to

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def lines(request):
    """What the log holds, line by line, in the form that the test asks for."""
    stream = io.StringIO()
    with logging_to(getattr(request, "param", "text"), stream):
        yield lambda: stream.getvalue().splitlines()


def test_a_request_is_one_line(tmp_path, lines):
    with service_on(tmp_path) as service, client(service) as http:
        http.get("/healthz?token=0123456789abcdef", headers={"X-Request-Id": "r-1", "Authorization": "Bearer secret"})
        http.get("/nothing/0123456789abcdef")
    first, second = lines()
    assert re.fullmatch(rf"{TIME} info GET /healthz 200 \d+\.\d ms local r-1", first)
    assert re.fullmatch(rf"{TIME} info GET unknown 404 \d+\.\d ms local [0-9a-f]{{16}}", second)


@pytest.mark.parametrize("lines", ["json"], indirect=True)
def test_a_request_is_one_object(tmp_path, lines):
    with service_on(tmp_path) as service, client(service) as http:
        http.get("/healthz?token=secret", headers={"X-Request-Id": "r-1"})
    (line,) = [json.loads(line) for line in lines()]
    assert re.fullmatch(TIME, line.pop("time"))
    assert line.pop("ms") >= 0
    assert line == {
        "level": "info", "event": "request", "method": "GET", "route": "/healthz", "status": 200, "actor": "local",
        "request_id": "r-1",
    }  # fmt: skip


@pytest.mark.parametrize("lines", ["text", "json"], indirect=True)
def test_control_characters_and_new_lines_are_escaped(lines):
    log_event("start", "gallery a\x1b[31m\nb\x00 is served", gallery="a\x1b\nb")
    LOGGER.warning("a\r\nfaked line")
    logging.getLogger("uvicorn.error").warning("b\x07")
    found = lines()
    assert len(found) == 3
    assert all(line.isprintable() for line in found)
    assert "gallery a\\x1b[31m b\\x00 is served" in found[0].replace("\\\\", "\\")
    if found[0].startswith("{"):
        first, second, third = map(json.loads, found)
        assert (first["event"], first["gallery"], first["level"]) == ("start", "a\\x1b\\nb", "info")
        assert (second["message"], second["level"], second["event"]) == ("a faked line", "warning", "message")
        assert third["message"] == "b\\x07"


def test_an_error_is_one_line_with_its_reason(lines):
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        LOGGER.exception("the work failed")
    (line,) = lines()
    assert line.endswith("error the work failed (ValueError: first second)")


def test_the_log_is_given_back(capsys):
    before = [
        (logger.level, logger.propagate, list(logger.handlers)) for logger in (LOGGER, logging.getLogger("asyncio"))
    ]
    with logging_to("text"):
        log_event("start", "up")
    after = [
        (logger.level, logger.propagate, list(logger.handlers)) for logger in (LOGGER, logging.getLogger("asyncio"))
    ]
    assert after == before
    assert capsys.readouterr().err.endswith("info up\n")


def test_other_programs_info_lines_are_left_out(lines):
    logging.getLogger("uvicorn.error").info("Started server process")
    assert lines() == []
