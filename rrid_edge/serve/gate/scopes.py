"""Reading of ASGI scopes: headers, the path below the root path, the client's address."""

from __future__ import annotations

from starlette.types import Scope

from rrid_edge.errors import printable

_LONGEST_SHOWN = 60
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing."""


def headers_of(scope: Scope, name: bytes) -> list[str]:
    """The values of all headers of this name, which is in lower case."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def header_of(scope: Scope, name: bytes) -> str | None:
    """The value of the only header of this name; None if there is none, or if there are several."""
    values = headers_of(scope, name)
    return values[0] if len(values) == 1 else None


def route_path(scope: Scope) -> str:
    """The path without the root path, as routes are declared. It begins with a slash."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path if path.startswith("/") else f"/{path}"


def client_address(scope: Scope) -> str:
    """The client's address without its port; empty if the server does not tell."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def media_type_of(scope: Scope) -> str:
    """The content type of the body in lower case, without parameters; empty if it is missing or told twice."""
    return (header_of(scope, b"content-type") or "").partition(";")[0].strip().lower()


def given(value: object) -> str:
    """A value of a request for an error line: one short text without control characters."""
    text = printable(" ".join(str(value).split()))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
