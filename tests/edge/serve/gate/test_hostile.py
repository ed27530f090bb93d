"""Hostile requests, as raw bytes to a real server: each is refused in one line, and none holds the server up."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from edge.serve.gate.tiny import LABEL, QUICK, READ, Raw, parsed, sent, serving, tiny_app, wait_for

AUTH = f"Authorization: Bearer {LABEL}\r\n"
HOST = "Host: 127.0.0.1\r\n"
CLOSE = "Connection: close\r\n"
JSON = "Content-Type: application/json\r\n"
MULTIPART = "Content-Type: multipart/form-data; boundary=x\r\n"
NAMING = '{"name": "Ann", "crops": [1]}'


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return tiny_app(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def port(app):
    with serving(app) as port:
        yield port


def refused(answer, status, *words):
    code, headers, body = answer
    assert code == status, (code, body)
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "server" not in headers
    found = json.loads(body)
    assert found["status"] == status
    assert found["detail"].isprintable()
    for word in words:
        assert word in found["detail"], found["detail"]


def post(headers: str, body: str = "", path: str = "/api/v1/people") -> str:
    return f"POST {path} HTTP/1.1\r\n{HOST}{AUTH}{headers}\r\n{body}"


def get(path: str, headers: str = AUTH) -> str:
    return f"GET {path} HTTP/1.1\r\n{HOST}{headers}{CLOSE}\r\n"


def test_a_good_request_is_answered(port):
    status, headers, _ = sent(port, post(f"{JSON}{CLOSE}Content-Length: {len(NAMING)}\r\n", NAMING))
    assert status == 201
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_a_body_over_the_limit_is_refused_before_it_is_read(port):
    start = time.monotonic()
    answer = sent(port, post(f"{MULTIPART}Content-Length: 200001\r\n", path="/api/v1/crops"))  # no byte of it is sent
    refused(answer, 413, "200001 bytes", "at most 200000 bytes")
    assert answer[1]["connection"] == "close"
    assert time.monotonic() - start < 5


def test_a_client_that_sends_on_sees_why_its_body_was_refused(port):
    with Raw(port) as raw:
        raw.send(post(f"{MULTIPART}Content-Length: 4000000\r\n", path="/api/v1/crops"))
        for _ in range(40):
            raw.send(b"x" * 100_000)
        refused(parsed(raw.all()), 413)


def test_a_json_body_has_a_smaller_limit(port):
    refused(sent(port, post(f"{JSON}Content-Length: 2001\r\n")), 413, "2000 bytes")


def test_a_chunked_body_is_counted(port):
    part = '--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    with Raw(port) as raw:
        raw.send(post(f"{MULTIPART}Transfer-Encoding: chunked\r\n", f"{len(part):x}\r\n{part}\r\n", "/api/v1/crops"))
        for _ in range(25):
            raw.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        refused(parsed(raw.all()), 413, "the body has more")


def test_a_body_that_pauses_is_refused_and_its_connection_closed(port):
    answer = sent(port, post(f"{JSON}Content-Length: 100\r\n", '{"name":'))
    refused(answer, 408, "0.6 s")
    assert answer[1]["connection"] == "close"


def test_a_body_shorter_than_it_tells_is_no_request(port, app):
    with Raw(port) as raw:
        raw.send(post(f"{JSON}Content-Length: 100\r\n", NAMING.replace("Ann", "Eve")))
        raw.socket.shutdown(1)
        raw.all()
    assert "Eve" not in app.done


def test_what_follows_a_body_is_another_request(port):
    first = post(f"{JSON}Content-Length: {len(NAMING)}\r\n", NAMING)
    with Raw(port) as raw:
        raw.send(first + get("/api/v1/crops", headers=""))  # the token of the first request is not kept
        answers = raw.all().split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"201", b"401"]


def test_slow_writers_hold_a_bounded_share_and_others_are_served(port):
    """Two are let in: half of four, because they have one address."""
    slow = [Raw(port) for _ in range(6)]
    for one in slow:
        one.send(post(f"{JSON}Content-Length: 2000\r\n", "{"))
    answers = [parsed(one.all()) for one in slow]
    for one in slow:
        one.socket.close()
    assert sorted(answer[0] for answer in answers) == [408, 408, 503, 503, 503, 503]
    for answer in answers:
        refused(answer, answer[0], "slowly" if answer[0] == 503 else "0.6 s")
        assert answer[0] == 408 or answer[1]["retry-after"] == "10"
    assert sent(port, get("/api/v1/crops"))[0] == 200


def test_bodies_that_fill_the_memory_for_them_are_refused(port):
    """Memory for all bodies is that of one here; two of 150,000 bytes wait for their last bytes."""
    head = f"{MULTIPART}Content-Length: 150000\r\n"
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    with Raw(port) as first, Raw(port) as second:
        first.send(post(head, path="/api/v1/crops"))
        first.send(part.ljust(149_000, b"x"))
        time.sleep(0.05)
        second.send(post(head, path="/api/v1/crops"))
        second.send(part.ljust(149_000, b"x"))
        answer = parsed(second.all())
        refused(answer, 503, "fill the memory")
        assert answer[1]["retry-after"] == "2"
        first.send(b"\r\n--x--".rjust(1_000, b"x"))
        assert first.socket.recv(4096).startswith(b"HTTP/1.1 200")


def test_places_of_slow_writers_come_back(port):
    for _ in range(3):
        with Raw(port) as raw:
            raw.send(post(f"{JSON}{CLOSE}Content-Length: {len(NAMING)}\r\n", NAMING[:5]))
            time.sleep(0.2)  # slow after 0.1 s, too slow after 0.6 s
            raw.send(NAMING[5:])
            assert parsed(raw.all())[0] == 201


def test_headers_must_arrive_in_time(port):
    start = time.monotonic()
    refused(sent(port, "GET / HTTP/1.1\r\nHost: "), 408, "0.3 s")
    assert time.monotonic() - start < 5


def test_headers_that_drip_get_no_more_time(port):
    start = time.monotonic()
    with Raw(port) as raw, contextlib.suppress(ConnectionError):
        raw.send("GET / HTTP/1.1\r\n")
        while time.monotonic() < start + 10:
            raw.send("X-A: b\r\n")
            time.sleep(0.01)
    assert time.monotonic() - start < 5  # it was cut off


def test_a_connection_that_says_nothing_is_closed(port):
    refused(sent(port, ""), 408)


def test_a_second_request_has_the_same_time_for_its_headers(port):
    with Raw(port) as raw:
        raw.send(f"GET /healthz HTTP/1.1\r\n{HOST}\r\n")
        assert raw.socket.recv(4096).startswith(b"HTTP/1.1 200")
        raw.send("GET / HTT")
        refused(parsed(raw.all()), 408)


def test_huge_headers_are_refused(port):
    refused(sent(port, f"GET / HTTP/1.1\r\n{HOST}X-Big: {'x' * 5000}"), 431)


def test_many_headers_are_refused(port):
    refused(sent(port, f"GET / HTTP/1.1\r\n{HOST}" + "X: y\r\n" * 800), 431)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("nonsense\r\n\r\n", id="no http"),
        pytest.param("GET / HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two hosts"),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", id="two lengths"),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}Content-Length: -1\r\n\r\n", id="negative length"),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}Content-Length: +1\r\n\r\na", id="signed length"),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}Content-Length: 1_0\r\n\r\na", id="length of Python"),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}Content-Length: {'9' * 30}\r\n\r\n", id="endless length"),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}Bad Name: x\r\n\r\n", id="space in a name"),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}X : y\r\n\r\n", id="space before the colon"),
        pytest.param("GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n", id="zero byte"),
        pytest.param("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", id="control character in the path"),
        pytest.param(
            f"POST / HTTP/1.1\r\n{HOST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="length and chunks",
        ),
        pytest.param("GET / HTTP/1.0\r\n\r\n", id="old and without host"),
        pytest.param("GET / HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n", id="path in the host"),
        pytest.param("GET / HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n", id="empty host"),
    ],
)
def test_malformed_requests_are_refused(port, text):
    refused(sent(port, text), 400)


@pytest.mark.parametrize("transfer", ["gzip, chunked", "identity", "chunked\r\nTransfer-Encoding: chunked"])
def test_other_transfer_encodings_are_refused(port, transfer):
    refused(sent(port, f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: {transfer}\r\n\r\n0\r\n\r\n"), 501)


def test_a_malformed_chunk_ends_the_request(port):
    refused(sent(port, post(f"{JSON}Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n")), 400)
    assert sent(port, get("/healthz"))[0] == 200


def test_old_clients_are_answered(port):
    status, headers, _ = sent(port, f"GET /api/v1/crops HTTP/1.0\r\n{HOST}{AUTH}\r\n")
    assert status == 200
    assert headers["connection"] == "close"


def test_two_tokens_in_one_request_are_refused(port):
    refused(sent(port, get("/api/v1/crops", AUTH * 2)), 401, "expected it once")


def test_an_upgrade_is_ignored(port):
    asked = f"GET /healthz HTTP/1.1\r\n{HOST}Connection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    assert sent(port, asked)[0] == 200


def test_a_foreign_address_in_the_request_line_leads_nowhere(port):
    refused(sent(port, get("http://evil.example/healthz")), 404)


def test_a_client_that_does_not_read_is_cut_off(port, app):
    with Raw(port) as raw:
        raw.send(get("/api/v1/stream?parts=1000&bytes_each=100000&pause_s=0"))
        wait_for(lambda: app.given_up)
    assert app.given_up == ["stream"]
    app.given_up.clear()


def test_too_many_connections_are_refused(port):
    held = [Raw(port) for _ in range(QUICK.most_connections)]
    answer = sent(port, "")
    for one in held:
        one.socket.close()
    refused(answer, 503, "30 connections")
    assert answer[1]["retry-after"] == "5"
    wait_for(lambda: sent(port, get("/healthz"))[0] == 200)


def test_work_for_a_client_that_went_away_is_given_up(port, app):
    with Raw(port) as raw:
        raw.send(get("/api/v1/slow?seconds=2.5"))
        time.sleep(0.1)
    wait_for(lambda: app.given_up)
    assert app.given_up == ["read"]
    assert "read" not in app.done
    app.given_up.clear()


def test_a_write_is_finished_when_its_client_goes_away(port, app):
    with Raw(port) as raw:
        raw.send(post("", path="/api/v1/slow?seconds=0.3"))
        time.sleep(0.1)
    wait_for(lambda: "write" in app.done)
    assert not app.given_up


@pytest.mark.parametrize("path", ["/api/v1/crops", "/openapi.json", "/metrics", "/nowhere", "/api/v1/session"])
def test_nothing_but_health_is_answered_without_a_token(port, path):
    answer = sent(port, get(path, headers=""))
    refused(answer, 401)
    assert answer[1]["www-authenticate"].startswith("bearer")
    assert sent(port, get("/healthz", headers=""))[0] == 200


def test_a_body_without_a_token_is_not_read(port):
    start = time.monotonic()
    refused(sent(port, f"POST /api/v1/crops HTTP/1.1\r\n{HOST}{MULTIPART}Content-Length: 1000\r\n\r\n"), 401)
    assert time.monotonic() - start < 5


def test_roles_are_checked(port):
    asked = f"DELETE /api/v1/crops/1 HTTP/1.1\r\n{HOST}Authorization: Bearer {READ}\r\n{CLOSE}\r\n"
    refused(sent(port, asked), 403, "role read", "role admin")
