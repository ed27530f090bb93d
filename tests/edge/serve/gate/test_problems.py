"""Errors as problem documents: status, one line, headers."""

from __future__ import annotations

import json
import logging

import pytest

from edge.serve.gate.tiny import LABEL, READ, client, tiny_app
from edge.serve.support import problem
from rrid_edge.errors import (
    CheckFailedError,
    ClosedError,
    DatasetError,
    FingerprintMismatchError,
    FolderUnavailableError,
    GalleryBusyError,
    GalleryChangedError,
    GalleryError,
    GalleryMissingError,
    GalleryUnavailableError,
    GpuFaultError,
    ImageError,
    MissingDependencyError,
    ModelFileError,
    OutputError,
    RridEdgeError,
    UnexpectedError,
    UsageError,
)
from rrid_edge.files import user_state_folder
from rrid_edge.serve.gate.problems import RequestError, problem_of, problem_response
from rrid_edge.serve.gate.unforeseen import Reports

LONG = f"/api/v1/crops?limit={'9' * 500}"
POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return tiny_app(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def asked(app):
    return client(app, LABEL)


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (RequestError("no", status=418, retry_after_s=7), 418, "7"),
        (RequestError("no"), 422, None),
        (UsageError("no"), 422, None),
        (ImageError("a.jpg", "no"), 422, None),
        (DatasetError("no"), 422, None),
        (ClosedError("no"), 503, "1"),
        (GalleryBusyError("no"), 503, "1"),
        (GalleryChangedError("no"), 503, "1"),
        (GalleryUnavailableError("no"), 503, "10"),
        (FolderUnavailableError("no"), 503, "10"),
        (OutputError("no"), 503, "10"),
        (GalleryMissingError("no"), 503, "10"),
        (GalleryError("no"), 503, "10"),
        (ModelFileError("no"), 503, "10"),
        (MissingDependencyError("no"), 503, "10"),
        (GpuFaultError("no"), 503, "10"),
        (FingerprintMismatchError("no"), 409, None),
        (UnexpectedError("no"), 500, None),
        (CheckFailedError("no"), 500, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, RridEdgeError) else None,
)
def test_errors_of_the_package_have_a_status(error, status, retry):
    found = problem_of(error)
    assert (found.status, found.headers.get("Retry-After")) == (status, retry)
    assert found.detail == error.message


def test_a_problem_is_one_line_of_json():
    answer = problem_response(422, "two\nlines, a bell\x07 and \ud800", "/a\nb\udcff")
    assert answer.headers["content-type"] == "application/problem+json"
    found = json.loads(bytes(answer.body))
    assert found["detail"] == r"two lines, a bell\x07 and \ud800"
    assert found["instance"] == r"/a\nb\udcff"
    assert (found["type"], found["title"], found["status"]) == ("about:blank", "Unprocessable Entity", 422)


def test_errors_of_routes_are_answered(asked):
    answer = asked.get("/api/v1/fails/busy")
    problem(answer, 503, "being written")
    assert answer.headers["retry-after"] == "1"
    problem(asked.get("/api/v1/fails/usage"), 422, r"odd\x07 name in two lines")


def test_an_error_that_nobody_foresaw_leaves_a_report_and_one_line(asked, caplog):
    folder = user_state_folder() / "errors"
    before = set(folder.glob("*")) if folder.exists() else set()
    with caplog.at_level(logging.ERROR, "rrid_edge.serve"):
        answer = asked.get("/api/v1/fails/secret")
    problem(answer, 500, "unexpected RuntimeError in the service")
    (report,) = set(folder.glob("*")) - before
    assert report.name in answer.json()["detail"]
    assert "Ann" not in answer.text
    assert str(folder) not in answer.text
    assert "person Ann was not found" in report.read_text()
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("unexpected RuntimeError in GET /api/v1/fails/{kind}: person Ann")
    assert str(report) in line
    asked.get("/api/v1/fails/secret")
    assert set(folder.glob("*")) - before == {report}  # the same error within a minute


def test_the_same_error_gets_a_second_report_after_a_minute():
    now = [0.0]
    reports = Reports(clock=lambda: now[0])
    error = ValueError("x")
    first, again = reports.line(error, "GET"), reports.line(error, "GET")
    now[0] = 61
    assert first == again != reports.line(error, "GET")


def test_a_report_that_cannot_be_written_is_told(monkeypatch, tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    assert "see its log" in Reports().line(ValueError("x"), "GET")
    assert "no report could be written" in caplog.text


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/api/v1/crops?limit=500", "query parameter limit is '500': expected less than or equal to 100"),
        ("/api/v1/crops?limit=x", "query parameter limit is 'x': expected a valid integer"),
        ("/api/v1/crops?limit=", "query parameter limit is '': expected a valid integer"),
        (LONG, f"query parameter limit is '{'9' * 58}…: expected less than or equal to 100"),
        ("/api/v1/crops?limit=%0Aa%1b", r"query parameter limit is '\na\x1b': expected a valid integer"),
        ("/api/v1/slow", "query parameter seconds is missing: expected a value"),
        ("/api/v1/crops?limits=5", "query parameter limits is unknown: expected one of camera, limit"),
        ("/api/v1/session?x=1", "query parameter x is unknown: expected none"),
        ("/api/v1/crops?limit=1&limit=2", "query parameter limit came twice: expected it once"),
    ],
    ids=range(9),
)
def test_a_wrong_parameter_is_named(asked, path, line):
    answer = asked.get(path)
    problem(answer, 422)
    assert answer.json()["detail"] == line


def test_a_list_may_come_several_times(asked):
    assert asked.get("/api/v1/crops?camera=1&camera=2").json()[2:] == ["1", "2"]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"crops": [1]}, "body field name is missing: expected a value"),
        ({"name": "Ann", "crops": []}, "body field crops is a list of 0: expected at least 1 item after validation"),
        ({"name": "a" * 9, "crops": [1]}, "body field name is 'aaaaaaaaa': expected at most 8 characters"),
        ({"name": 3, "crops": ["x", 2]}, "body field name is 3: expected a valid string (1 more is wrong)"),
        ({"name": "Ann", "crops": [1, "x"]}, "body field crops.1 is 'x': expected a valid integer"),
        ([], "the body is a list of 0: expected a valid dictionary or object to extract fields from"),
    ],
    ids=range(6),
)
def test_a_wrong_body_is_named(asked, body, line):
    answer = asked.post("/api/v1/people", json=body)
    problem(answer, 422)
    assert answer.json()["detail"] == line


def posted(asked, content, media_type):
    return asked.post("/api/v1/people", content=content, headers={"Content-Type": media_type})


def test_a_body_that_is_no_json_is_refused(asked):
    problem(posted(asked, b"{'a'", "application/json"), 422, "the body is no JSON", "character 1")
    problem(posted(asked, b"[" * 1900, "application/json"), 400, "the body cannot be read")
    problem(posted(asked, b'{"name": "\xff"}', "application/json"), 400, "the body cannot be read")
    problem(posted(asked, b'{"name": "\\ud800", "crops": [1]}', "application/json"), 422, r"'\ud800'")


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/xml", "image/svg+xml", "application/x-www-form-urlencoded"]
)
def test_another_content_type_is_refused(asked, media_type):
    problem(posted(asked, b"a=b", media_type), 415, f"is {media_type}: expected application/json")


def test_a_route_refuses_the_content_type_of_another(asked):
    files = {"image": ("a.jpg", b"x", "image/jpeg")}
    problem(asked.post("/api/v1/people", files=files), 415, "is multipart/form-data: expected application/json")
    problem(asked.post("/api/v1/crops", json={}), 415, "is application/json: expected multipart/form-data")
    assert asked.post("/api/v1/crops", files=files).json() == 1


def test_a_body_without_a_content_type_is_refused(asked):
    problem(asked.post("/api/v1/people", content=b"{}"), 415, "is missing")


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "deflate"])
def test_a_compressed_body_is_refused(asked, encoding):
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    problem(asked.post("/api/v1/people", content=b"{}", headers=headers), 415, "without Content-Encoding")


def test_unknown_addresses_and_methods_are_refused(asked):
    problem(asked.get("/api/v1/nothing%07"), 404, r"nothing is served at /api/v1/nothing\x07", "openapi.json")
    answer = asked.put("/api/v1/people")
    problem(answer, 405, "method PUT", "expected POST")
    assert answer.headers["allow"] == "POST"


def test_malformed_multipart_bodies_are_refused(asked):
    def post(content, media_type="multipart/form-data; boundary=x"):
        return asked.post("/api/v1/crops", content=content, headers={"Content-Type": media_type})

    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    assert post(head + b"abc\r\n--x--").json() == 3
    assert post(head + b"abc\r\n--x--\r\n").json() == 3
    problem(post(head, "multipart/form-data"), 400, "boundary")
    problem(post(head, f"multipart/form-data; boundary={'x' * 71}"), 400, "boundary")
    problem(post(b"--y\r\nno\r\n--x--"), 400, "the body cannot be read")
    problem(post(b"--x\r\n\r\nno name\r\n--x--\r\n"), 400, "the body cannot be read")
    problem(post(head + b"cut off"), 400, "ends early")
    problem(post(head + b"--x-- inside and cut off"), 400, "ends early")
    problem(post(b""), 422, "image is missing")


def test_every_answer_has_the_headers_of_the_page_s_policy(app):
    for answer in (client(app, READ).get("/"), client(app).get("/api/v1/crops"), client(app).get("/healthz")):
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "geolocation=()" in answer.headers["permissions-policy"]
    assert client(app, READ).get("/api/v1/crops").headers["cache-control"] == "no-store"
    assert client(app, READ).get("/").headers["cache-control"] == "no-cache"
