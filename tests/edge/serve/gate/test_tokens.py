"""The token file, roles, and the limit on wrong tokens."""

from __future__ import annotations

import hashlib
import hmac
import os

import pytest

from edge.serve.gate.tiny import ADMIN, LABEL, READ, client, tiny_app, token_file
from edge.serve.support import problem
from rrid_edge.errors import UsageError
from rrid_edge.serve.gate.guesses import MOST_ADDRESSES, Guesses
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.tokens import TokenBook, read_tokens

GOOD = "0123456789abcdef"


def test_a_line_holds_role_token_and_name(tmp_path):
    text = f"\ufeff# a comment\n\nread {READ}  the  guard \r\n  admin\t{ADMIN}\n"
    reader, admin = read_tokens(token_file(tmp_path, text))
    assert (reader.role, reader.name) == ("read", "the guard")
    assert (admin.role, admin.name) == ("admin", hashlib.sha256(ADMIN.encode()).hexdigest()[:8])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "no tokens; expected ROLE TOKEN [NAME]", id="empty"),
        pytest.param("# nothing\n\n", "no tokens", id="comments only"),
        pytest.param("read\n", "line 1: no token after the role", id="no token"),
        pytest.param("\nread short\n", "line 2: a token of 5 characters; expected 16 to 512", id="short"),
        pytest.param(f"read {'x' * 513}\n", "a token of 513 characters", id="long"),
        pytest.param(f"root {GOOD}\n", "unknown role 'root'; expected read, label or admin", id="role"),
        pytest.param(f"{GOOD} read\n", "unknown role; expected", id="token first"),
        pytest.param(f"read {GOOD}é\n", "other characters than", id="accent"),
        pytest.param(f"read {GOOD}=x\n", "other characters than", id="equals inside"),
        pytest.param(f"read {GOOD} a\x07b\n", "a name that is not printable", id="bell"),
        pytest.param(f"read {GOOD} {'n' * 65}\n", "expected at most 64 characters", id="long name"),
        pytest.param(
            f"read {GOOD}\nlabel {GOOD[:-1]}0\nadmin {GOOD}\n", "line 3: the token of line 1 again", id="twice"
        ),
        pytest.param("".join(f"read {i:016}\n" for i in range(1001)), "more than 1000 tokens", id="many"),
        pytest.param("#" * (1 << 20) + "\n", "more than 1 MiB", id="big"),
    ],
)
def test_a_wrong_file_is_refused_without_showing_tokens(tmp_path, text, words):
    with pytest.raises(UsageError) as caught:
        read_tokens(token_file(tmp_path, text))
    assert words in caught.value.message
    assert GOOD not in caught.value.message
    assert caught.value.parameters == ("token_file",)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    token_file(tmp_path).write_bytes(b"read \xff\n")
    with pytest.raises(UsageError, match="no UTF-8 text at byte 5"):
        read_tokens(tmp_path / "tokens")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_may_use_is_refused(tmp_path, mode):
    path = token_file(tmp_path)
    path.chmod(mode)
    with pytest.raises(UsageError, match=rf"mode {mode:04o}\); expected 0600: run chmod 600"):
        read_tokens(path)


def test_a_credential_of_systemd_may_show_its_access_list_as_a_group(tmp_path, monkeypatch):
    path = token_file(tmp_path)
    path.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_tokens(path)
    path.chmod(0o444)
    with pytest.raises(UsageError, match="mode 0444"):
        read_tokens(path)
    path.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path.parent))  # a folder above is none
    with pytest.raises(UsageError, match="mode 0440"):
        read_tokens(path)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="No such file or directory"):
        read_tokens(tmp_path / "none")
    with pytest.raises(UsageError, match=r"[Ii]s a directory|no regular file"):
        read_tokens(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(UsageError, match="no regular file"):
        read_tokens(tmp_path / "pipe")


def test_all_tokens_are_compared_whatever_matches(tmp_path, monkeypatch):
    book = TokenBook.read(token_file(tmp_path))
    compared = []
    real = hmac.compare_digest

    def comparing(held, digest):
        compared.append(held)
        return real(held, digest)

    monkeypatch.setattr(hmac, "compare_digest", comparing)
    for token in (READ, ADMIN, "wrong"):
        book.held(hashlib.sha256(token.encode()).digest())
    assert len(compared) == 9
    assert compared[:3] == compared[3:6] == compared[6:]


def test_a_file_is_read_again_and_a_wrong_one_changes_nothing(tmp_path):
    book = TokenBook.read(token_file(tmp_path))
    token_file(tmp_path, f"admin {GOOD}\n")
    assert book.reread() == 1
    assert book.check(GOOD, "a").role == "admin"
    with pytest.raises(RequestError):
        book.check(READ, "a")
    token_file(tmp_path, "nonsense")
    with pytest.raises(UsageError):
        book.reread()
    assert book.check(GOOD, "a").role == "admin"


def test_each_role_may_do_what_weaker_ones_may(tmp_path):
    app = tiny_app(tmp_path)
    body = {"name": "Ann", "crops": [1]}
    for token, codes in ((READ, (200, 403, 403)), (LABEL, (200, 201, 403)), (ADMIN, (200, 201, 200))):
        asked = client(app, token)
        found = asked.get("/api/v1/crops"), asked.post("/api/v1/people", json=body), asked.delete("/api/v1/crops/1")
        assert tuple(answer.status_code for answer in found) == codes


def test_an_actor_has_the_name_of_its_token(tmp_path):
    app = tiny_app(tmp_path)
    assert client(app, READ).get("/api/v1/crops").json()[0] == "reader"
    assert client(app, ADMIN).get("/api/v1/crops").json()[0] == "the boss"


def test_without_tokens_everybody_is_the_administrator(tmp_path):
    asked = client(tiny_app(tmp_path, tokens=False))
    assert asked.delete("/api/v1/crops/1").json() == "local"
    assert asked.get("/api/v1/session").json() == {"name": "local", "role": "admin", "csrf": None}
    problem(asked.post("/api/v1/login", json={"token": READ}), 409, "has no tokens")


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer  ", READ, "Bearer wrong", "Bearer \xff"])
def test_a_wrong_authorization_is_refused(tmp_path, header):
    answer = client(tiny_app(tmp_path)).get("/api/v1/crops", headers={"Authorization": header.encode("latin-1")})
    problem(answer, 401, "expected")
    assert answer.headers["www-authenticate"] == 'Bearer realm="rrid-edge"'


def test_the_scheme_is_read_in_any_case(tmp_path):
    asked = client(tiny_app(tmp_path))
    assert asked.get("/api/v1/crops", headers={"Authorization": f"bEARER {READ}"}).status_code == 200


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_wrong_tokens_are_limited_per_address(tmp_path):
    clock = Clock()
    book = TokenBook(token_file(tmp_path), Guesses(tries=3, back_s=10, clock=clock))
    assert book.check(READ, "10.0.0.1").name == "reader"
    for _ in range(3):
        with pytest.raises(RequestError, match="wrong"):
            book.check("x" * 16, "10.0.0.1")
    with pytest.raises(RequestError, match="try again in 10 s") as caught:
        book.check(LABEL, "10.0.0.1")  # not looked at
    assert (caught.value.status, caught.value.retry_after_s) == (429, 10)
    assert book.check(READ, "10.0.0.1").name == "reader"  # it was right from here before
    assert book.check(LABEL, "10.0.0.2").role == "label"  # others are not locked out
    clock.now_s += 10
    assert book.check(LABEL, "10.0.0.1").role == "label"


def test_a_network_of_ipv6_addresses_counts_as_one(tmp_path):
    guesses = Guesses(tries=1, back_s=10, clock=Clock())
    guesses.wrong("2001:db8::1")
    with pytest.raises(RequestError):
        guesses.refuse_many("2001:db8::2", b"")
    guesses.refuse_many("2001:db8:0:1::1", b"")
    guesses.wrong("::ffff:10.0.0.1")
    with pytest.raises(RequestError):
        guesses.refuse_many("::ffff:10.0.0.1", b"")
    guesses.refuse_many("::ffff:10.0.0.2", b"")


def test_a_bounded_number_of_addresses_is_remembered():
    guesses = Guesses(tries=1, clock=Clock())
    for number in range(MOST_ADDRESSES + 1):
        guesses.wrong(f"a{number}")
    guesses.refuse_many("a0", b"")  # forgotten
    with pytest.raises(RequestError):
        guesses.refuse_many("a1", b"")


def test_wrong_tokens_are_answered_by_429_in_time(tmp_path):
    app = tiny_app(tmp_path)
    codes = [client(app, f"{number:016}").get("/api/v1/crops").status_code for number in range(21)]
    assert codes == [401] * 20 + [429]
    answer = client(app, LABEL).get("/api/v1/crops")
    problem(answer, 429, "too many wrong tokens")
    assert int(answer.headers["retry-after"]) in (2, 3)


def test_requests_without_a_token_are_no_guesses(tmp_path):
    app = tiny_app(tmp_path)
    assert {client(app).get("/api/v1/crops").status_code for _ in range(25)} == {401}
    assert client(app, READ).get("/api/v1/crops").status_code == 200
