"""Tokens: who may ask, and in which role. They come from a file that only its owner can read."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from typing_extensions import Self

from rrid_edge.errors import UsageError, printable
from rrid_edge.serve.gate.guesses import Guesses
from rrid_edge.serve.gate.problems import RequestError

Role = Literal["read", "label", "admin"]
ROLES: tuple[str, ...] = get_args(Role)
"""From the weakest to the strongest; each may do what the weaker ones may."""
SHORTEST_TOKEN, LONGEST_TOKEN = 16, 512
LONGEST_NAME = 64
MOST_TOKENS = 1000
_MOST_BYTES = 1 << 20
_CHARACTERS = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""Of a bearer token (RFC 6750, section 2.1)."""
_EXPECTED = "expected ROLE TOKEN [NAME] per line"


@dataclass(frozen=True)
class Token:
    """One line of the token file.

    Attributes:
        role: what its holder may do.
        digest: SHA-256 of the token.
        name: for audit lines: the given one, or the first eight digits of the digest.
    """

    role: Role
    digest: bytes
    name: str


class TokenBook:
    """The tokens of a file.

    Args:
        path: the file. A line holds ``ROLE TOKEN [NAME]``. Empty lines and lines that begin with ``#`` are skipped.
        guesses: how many wrong tokens an address may send.

    Raises:
        UsageError: the file cannot be read, others may read it, or a line is wrong. Tokens are not shown.
    """

    def __init__(self, path: Path, guesses: Guesses | None = None) -> None:
        self._path = path
        self._guesses = guesses or Guesses()
        self._tokens = read_tokens(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a token file."""
        return cls(path)

    def reread(self) -> int:
        """Read the file again; returns the number of tokens.

        Raises:
            UsageError: as for the constructor. The tokens stay as they were.
        """
        self._tokens = read_tokens(self._path)
        return len(self._tokens)

    def check(self, token: str, address: str) -> Token:
        """The entry of a token that a client sent.

        Args:
            token: as sent.
            address: of the client.

        Raises:
            RequestError: 401 if it is wrong. 429 if this address sent too many wrong ones: then only a token that
                was right from this address before is looked at.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        self._guesses.refuse_many(address, digest)
        found = self.held(digest)
        if found is None:
            self._guesses.wrong(address)
            raise RequestError("the token is wrong: expected one of the token file", status=401, headers=CHALLENGE)
        self._guesses.right(address, digest)
        return found

    def held(self, digest: bytes) -> Token | None:
        """The entry whose token has this digest; None if the file holds none, or not any more."""
        found = None
        for token in self._tokens:  # all of them, so that the time tells nothing
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found


CHALLENGE = {"WWW-Authenticate": 'Bearer realm="rrid-edge"'}
"""Header of every answer with status 401."""


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Read a token file; see :class:`TokenBook`."""
    shown = printable(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hold up the start
        with os.fdopen(descriptor, "rb") as stream:
            _refuse_readable_by_others(os.fstat(stream.fileno()), shown, is_credential=_is_credential(path))
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise _refusal(f"{shown}: {error.strerror or error}; expected a file of tokens") from error
    if len(content) > _MOST_BYTES:
        raise _refusal(f"{shown}: more than {_MOST_BYTES >> 20} MiB; {_EXPECTED}")
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise _refusal(f"{shown}: no UTF-8 text at byte {error.start}; {_EXPECTED}") from error
    return _tokens_of(lines, shown)


def _tokens_of(lines: Sequence[str], shown: str) -> tuple[Token, ...]:
    tokens: dict[bytes, Token] = {}
    numbers: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            token = _token_of(line)
        except ValueError as error:
            raise _refusal(f"{shown}, line {number}: {error}") from None
        if token.digest in tokens:
            raise _refusal(f"{shown}, line {number}: the token of line {numbers[token.digest]} again; give each once")
        tokens[token.digest], numbers[token.digest] = token, number
        if len(tokens) > MOST_TOKENS:
            raise _refusal(f"{shown}, line {number}: more than {MOST_TOKENS} tokens; remove those that nobody uses")
    if not tokens:
        raise _refusal(f"{shown}: no tokens; {_EXPECTED}, for example admin and the output of openssl rand -hex 32")
    return tuple(tokens.values())


def _token_of(line: str) -> Token:
    """One line; a ValueError says what is wrong without showing the token."""
    role, *rest = line.split(None, 2)
    if role not in ROLES:
        # The token may come first by mistake, so a long word is not shown.
        word = f" {printable(role)!r}" if len(role) < SHORTEST_TOKEN // 2 else ""
        raise ValueError(f"unknown role{word}; expected {', '.join(ROLES[:-1])} or {ROLES[-1]} first")
    if not rest:
        raise ValueError(f"no token after the role; {_EXPECTED}")
    token, name = rest[0], " ".join(rest[1].split()) if len(rest) > 1 else ""
    if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN:
        raise ValueError(f"a token of {len(token)} characters; expected {SHORTEST_TOKEN} to {LONGEST_TOKEN}")
    if not _CHARACTERS.fullmatch(token):
        raise ValueError("a token with other characters than A-Z a-z 0-9 . _ ~ + / - and = at its end; make another")
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise ValueError(f"a name that is not printable or too long; expected at most {LONGEST_NAME} characters")
    digest = hashlib.sha256(token.encode()).digest()
    return Token(role, digest, name or digest.hex()[:8])  # type: ignore[arg-type]  # it is one of ROLES


def _is_credential(path: Path) -> bool:
    """Whether systemd put the file where only the service can enter. It gives access by a list, which shows as 0440."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.absolute().parent == Path(str(folder))


def _refuse_readable_by_others(status: os.stat_result, shown: str, *, is_credential: bool = False) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _refusal(f"{shown}: no regular file; {_EXPECTED}")
    allowed = stat.S_IRGRP if is_credential else 0
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) & ~allowed:
        mode = stat.S_IMODE(status.st_mode)
        raise _refusal(f"{shown}: others may read or change it (mode {mode:04o}); expected 0600: run chmod 600 on it")
    if status.st_uid not in (0, os.geteuid()):
        raise _refusal(f"{shown}: it belongs to another user; expected a file of this user")


def _refusal(message: str) -> UsageError:
    return UsageError(message, parameter="token_file")
