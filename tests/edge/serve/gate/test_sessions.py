"""Sessions of browsers: login, cookie, CSRF, other sites."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from edge.serve.gate.tiny import ADMIN, LABEL, READ, client, tiny_app, token_file
from edge.serve.support import problem
from rrid_edge.serve.gate.sessions import MOST_SESSIONS, SESSION_S, SessionBook
from rrid_edge.serve.gate.tokens import TokenBook

COOKIE = "rrid_edge_8760"
BODY = {"name": "Ann", "crops": [1]}
OWN = "http://127.0.0.1:8760"


@pytest.fixture
def app(tmp_path):
    return tiny_app(tmp_path)


def logged_in(app, token=LABEL):
    browser = client(app)
    answer = browser.post("/api/v1/login", data={"token": token})
    assert answer.status_code == 303
    return browser


def test_the_page_asks_for_a_token(app):
    answer = client(app).get("/?query=q_1&x=%22%3E")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["referrer-policy"] == "same-origin"  # no-referrer would make the form's Origin null
    text = answer.text
    assert '<form method="post" action="/api/v1/login">' in text
    assert 'name="next" value="/?query=q_1&amp;x=%22%3E"' in text
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize("kind", ["style", "script"])
def test_the_policy_allows_exactly_the_page_s_style_and_script(app, kind):
    answer = client(app).get("/")
    (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"{kind}-src 'sha256-{digest}';" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "style=" not in answer.text


def test_other_pages_ask_for_a_token_too_and_programs_get_one_line(app):
    asked = client(app)
    assert "<form" in asked.get("/people/p3", headers={"Accept": "text/html,*/*"}).text
    problem(asked.get("/people/p3"), 401, "Authorization: Bearer TOKEN")
    problem(asked.get("/api/v1/crops", headers={"Accept": "text/html"}), 401)
    problem(asked.post("/", headers={"Accept": "text/html"}), 401)


def test_a_login_has_an_audit_line_and_a_wrong_token_none(app, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    browser = client(app)
    assert browser.post("/api/v1/login", json={"token": "wrong" * 8}).status_code == 401
    assert browser.post("/api/v1/login", json={"token": LABEL}).status_code == 200
    (line,) = (tmp_path / "rrid-edge" / "audit.jsonl").read_text("utf-8").splitlines()
    assert ('"command": "login"' in line, LABEL in line) == (True, False)


def test_a_form_begins_a_session(app):
    browser = client(app)
    answer = browser.post("/api/v1/login", data={"token": f" {LABEL} ", "next": "/?query=q_1"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/?query=q_1"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
        "httponly",
        "max-age=43200",
        "path=/",
        "samesite=strict",
    }
    assert browser.get("/").text == '"the page"'
    assert browser.get("/api/v1/session").json()["role"] == "label"


def test_a_cookie_is_for_https_only_behind_https(app):
    browser = client(app, base_url="https://cams.example")
    assert "; Secure" in browser.post("/api/v1/login", data={"token": READ}).headers["set-cookie"]


def test_json_begins_a_session(app):
    browser = client(app)
    answer = browser.post("/api/v1/login", json={"token": ADMIN})
    assert answer.status_code == 200
    assert answer.json() == browser.get("/api/v1/session").json()
    assert answer.json()["name"] == "the boss"
    assert browser.post("/api/v1/people", json=BODY, headers={"X-CSRF-Token": answer.json()["csrf"]}).status_code == 201


@pytest.mark.parametrize(
    ("after", "place"),
    [
        ("/people/p3?x=1", "/people/p3?x=1"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("/é", "/"),
        ("/" + "a" * 3000, "/"),
    ],
    ids=range(8),
)
def test_a_login_leads_to_this_service_only(app, after, place):
    answer = client(app).post("/api/v1/login", data={"token": READ, "next": after})
    assert answer.headers["location"] == place
    assert "x" not in answer.cookies


def test_under_a_root_path_the_form_and_the_cookie_have_it(tmp_path):
    app = tiny_app(tmp_path, root_path="/reid")
    for prefix in ("", "/reid"):  # a proxy may strip it
        assert 'action="/reid/api/v1/login"' in client(app).get(f"{prefix}/").text
        assert 'name="next" value="/"' in client(app).get(f"{prefix}/").text
        answer = client(app).post(f"{prefix}/api/v1/login", data={"token": READ})
        assert answer.headers["location"] == "/reid/"
        assert "Path=/reid;" in answer.headers["set-cookie"]
        assert client(app).get(f"{prefix}/healthz").status_code == 200


def test_a_wrong_token_is_told_on_the_page_and_in_json(app):
    answer = client(app).post("/api/v1/login", data={"token": "<b>", "next": "/?q=1"})
    assert answer.status_code == 401
    assert 'role="alert">the token is wrong' in answer.text
    assert "<b>" not in answer.text
    assert 'name="next" value="/?q=1"' in answer.text
    assert "set-cookie" not in answer.headers
    problem(client(app).post("/api/v1/login", json={"token": "x"}), 401, "the token is wrong")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"token": 3}', b"[" * 5000, b'{"token": "\\ud800"}'])
def test_a_malformed_login_is_refused(app, content):
    answer = client(app).post("/api/v1/login", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 401, 415, 422)
    problem(answer, answer.status_code)


def test_logins_are_limited_too(app):
    asked = client(app)
    codes = [asked.post("/api/v1/login", data={"token": str(number)}).status_code for number in range(21)]
    assert codes == [401] * 20 + [429]
    answer = asked.post("/api/v1/login", data={"token": LABEL})
    assert "too many wrong tokens" in answer.text
    assert int(answer.headers["retry-after"]) >= 1


def test_changes_need_the_csrf_value(app):
    browser = logged_in(app)
    problem(browser.post("/api/v1/people", json=BODY), 403, "X-CSRF-Token")
    problem(browser.post("/api/v1/people", json=BODY, headers={"X-CSRF-Token": "x"}), 403)
    csrf = browser.get("/api/v1/session").json()["csrf"]
    assert browser.post("/api/v1/people", json=BODY, headers={"X-CSRF-Token": csrf}).status_code == 201
    assert client(app, LABEL).post("/api/v1/people", json=BODY).status_code == 201  # a token in the header needs none


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Origin": f"{OWN}.evil.example"},
        {"Origin": "http://evil.example@127.0.0.1:8760"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ],
    ids=range(8),
)
def test_other_sites_cannot_use_a_session_or_begin_one(app, headers):
    browser = logged_in(app)
    csrf = browser.get("/api/v1/session").json()["csrf"]
    problem(browser.post("/api/v1/people", json=BODY, headers={"X-CSRF-Token": csrf, **headers}), 403, "expected")
    problem(browser.get("/api/v1/crops", headers=headers), 403)
    problem(client(app).post("/api/v1/login", data={"token": READ}, headers=headers), 403)
    assert client(app, READ).get("/api/v1/crops", headers=headers).status_code == 200  # no browser adds it


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": OWN},
        {"Origin": OWN, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
    ids=range(3),
)
def test_the_page_itself_can_use_a_session(app, headers):
    browser = logged_in(app)
    csrf = browser.get("/api/v1/session").json()["csrf"]
    assert browser.post("/api/v1/people", json=BODY, headers={"X-CSRF-Token": csrf, **headers}).status_code == 201
    assert client(app).post("/api/v1/login", data={"token": READ}, headers=headers).status_code == 303


def test_a_proxy_may_add_tls(app):
    browser = client(app, base_url="http://cams.example")
    headers = {"Origin": "https://cams.example"}
    assert browser.post("/api/v1/login", data={"token": READ}, headers=headers).status_code == 303


def test_a_link_from_another_site_opens_the_page(app):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert logged_in(app).get("/", headers=headers).status_code == 200


def test_a_logout_ends_the_session(app):
    browser = logged_in(app)
    csrf = browser.get("/api/v1/session").json()["csrf"]
    value = browser.cookies[COOKIE]
    problem(browser.post("/api/v1/logout"), 403)
    answer = browser.post("/api/v1/logout", headers={"X-CSRF-Token": csrf})
    assert answer.status_code == 204
    assert not browser.cookies
    problem(client(app).get("/api/v1/crops", headers={"Cookie": f"{COOKIE}={value}"}), 401)


def test_two_cookies_are_none(app):
    value = logged_in(app).cookies[COOKIE]
    assert client(app).get("/api/v1/crops", headers={"Cookie": f"a=b; {COOKIE}={value}"}).status_code == 200
    problem(client(app).get("/api/v1/crops", headers={"Cookie": f"{COOKIE}={value}; {COOKIE}=x"}), 401)


def test_a_session_has_the_role_that_the_file_has_now(app, tmp_path):
    browser = logged_in(app)
    token_file(tmp_path, f"read {LABEL} demoted\nadmin {ADMIN}\n")
    app.state.service.tokens.reread()
    assert browser.get("/api/v1/session").json()["role"] == "read"
    token_file(tmp_path, f"admin {ADMIN}\n")
    app.state.service.tokens.reread()
    problem(browser.get("/api/v1/session"), 401)
    token_file(tmp_path)
    app.state.service.tokens.reread()
    problem(browser.get("/api/v1/session"), 401)  # it does not come back


def test_sessions_end_and_their_number_is_bounded(tmp_path):
    now = [0.0]
    tokens = TokenBook.read(token_file(tmp_path))
    book = SessionBook(clock=lambda: now[0])
    reader, label = tokens.check(READ, "a"), tokens.check(LABEL, "a")
    other, _ = book.open(label)
    cookies = []
    for _ in range(MOST_SESSIONS + 1):
        cookies.append(book.open(reader)[0])
        now[0] += 1
    assert book.find(cookies[0], tokens) is None
    assert book.find(cookies[1], tokens) is not None
    assert book.find(other, tokens) is not None  # logins with one token do not end sessions of another
    now[0] = SESSION_S + 1
    assert book.find(other, tokens) is None
    assert book.find(cookies[1], tokens) is None
    assert book.find(cookies[2], tokens) is not None
    now[0] = 10 * SESSION_S
    book.open(reader)
    assert len(book) == 1
