"""Addresses of galleries in Milvus, and texts without their secrets."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rrid_edge.errors import UsageError, printable

TOKEN_VARIABLE = "RRID_EDGE_MILVUS_TOKEN"  # noqa: S105 - the name of the variable
_HIDDEN = "***"
_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_FORMS = "expected milvus+http://HOST:19530/COLLECTION, milvus+https://... or milvus+file:NAME.db/COLLECTION"


@dataclass(frozen=True)
class MilvusAddress:
    """The location of a gallery in Milvus.

    Attributes:
        uri: for ``pymilvus``: ``http://host:19530``, or the path of a Milvus Lite file.
        collection: name of the gallery's collection.
        text: the address in its usual form.
    """

    uri: str
    collection: str
    text: str

    @classmethod
    def parse(cls, text: str) -> MilvusAddress:
        """Parse an address. ``milvus+http:/host/name`` is accepted: ``pathlib`` takes one slash of two away.

        Raises:
            UsageError: the text is not an address of a Milvus gallery, or it contains a password. The message hides
                passwords and tokens.
        """
        text = re.sub(r"\A(milvus\+https?):/+", r"\1://", text)
        scheme, _, rest = text.partition(":")
        if scheme == "milvus+file":
            uri, _, collection = rest.rpartition("/")
            is_valid = uri.endswith(".db") and Path(uri).name != ".db"
        else:
            if "@" in text:
                raise UsageError(
                    f"{printable(without_secrets(text))}: this address contains a user or password, which is not "
                    f"allowed: set {TOKEN_VARIABLE} to a token or user:password"
                )
            scheme, netloc, path, is_valid = _parts(text)
            uri, collection = f"{scheme.removeprefix('milvus+')}://{netloc}", path.removeprefix("/")
        if not is_valid or not collection:
            raise UsageError(f"{printable(without_secrets(text))}: this is not an address of a gallery; {_FORMS}")
        if not _COLLECTION.fullmatch(collection):
            raise UsageError(
                f"{printable(without_secrets(text))}: this address does not end in a valid collection name; expected "
                "letters, digits and _ after the last /"
            )
        return cls(uri, collection, text)

    @property
    def is_file(self) -> bool:
        """Whether the address names a Milvus Lite file."""
        return self.text.startswith("milvus+file:")

    def __str__(self) -> str:
        return self.text


def _parts(text: str) -> tuple[str, str, str, bool]:
    """Scheme, host with port, and path of an address, and whether they can be right."""
    try:
        parts = urlsplit(text)
        is_valid = parts.scheme in ("milvus+http", "milvus+https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or a bracket too many
        return "", "", "", False
    return parts.scheme, parts.netloc, parts.path, is_valid and not parts.query and not parts.fragment


def without_secrets(text: str) -> str:
    """A location as messages may show it, however it is mistyped: ``***`` replaces all that could be a secret.

    Hidden are: all between the scheme and the last ``@``, what follows ``?`` or ``#``, and a port that is not a number.
    Texts that do not begin like an address are returned as they are, unless they contain ``@`` after ``:``.
    """
    start = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:?/*(?=.*@)|[A-Za-z][A-Za-z0-9+.-]*:/*", text, re.DOTALL)
    is_address = text.startswith("milvus") or "://" in text or re.search(r":.*@", text, re.DOTALL)
    if start is None or not is_address or (text.startswith("milvus+file:") and "@" not in text):
        return text
    scheme, rest = start.group(), text[start.end() :]
    if "@" in rest:
        rest = f"{_HIDDEN}@{rest.rpartition('@')[2]}"
    rest = re.sub(r"[?#].*", f"?{_HIDDEN}", rest, flags=re.DOTALL)
    host, slash, path = rest.partition("/")
    host = re.sub(r"(?<!:):(?![0-9]*$)(?!.*\]).*", f":{_HIDDEN}", host, flags=re.DOTALL)
    return scheme + host + slash + path


def without_token(text: str, token: str) -> str:
    """A message without a token, its password and their base64 form, which servers and clients may repeat."""
    password = token.partition(":")[2]
    secrets = {token, password, base64.b64encode(token.encode("utf-8", "surrogateescape")).decode()}
    for secret in sorted((one for one in secrets if one), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text
