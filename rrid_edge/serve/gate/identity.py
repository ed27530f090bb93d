"""Who sends a request: a token in the header, or a browser's session. Without either, only ``/healthz`` answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from rrid_edge.serve.addresses import API
from rrid_edge.serve.gate.hosts import own_host, refuse_other_sites
from rrid_edge.serve.gate.login_page import login_page
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.roles import LOCAL, Actor, set_actor
from rrid_edge.serve.gate.scopes import SAFE_METHODS, client_address, header_of, headers_of, route_path
from rrid_edge.serve.gate.sessions import is_csrf
from rrid_edge.serve.gate.tokens import CHALLENGE, TokenBook

if TYPE_CHECKING:
    from rrid_edge.serve.service import Service

HEALTH: Final = "/healthz"
LOGIN: Final = f"{API}/login"
CSRF_HEADER: Final = "X-CSRF-Token"
_MISSING: Final = "no token came with the request: expected the header Authorization: Bearer TOKEN"


class Identity:
    """Finds out who sends a request, and refuses unknown senders before anything is read.

    Args:
        app: what answers.
        service: its tokens and sessions.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            RequestError: 401, 403 or 429.
        """
        tokens = self._service.tokens
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = route_path(scope)
        if tokens is None:
            set_actor(scope, LOCAL)
        elif path == LOGIN:
            refuse_other_sites(scope, own_host(scope))
        elif path != HEALTH:
            actor = self._actor(scope, tokens)
            if actor is None and _is_for_people(scope, path):
                await login_page(scope)(scope, receive, send)
                return
            if actor is None:
                raise RequestError(_MISSING, status=401, headers=CHALLENGE)
            set_actor(scope, actor)
        await self._app(scope, receive, send)

    def _actor(self, scope: Scope, tokens: TokenBook) -> Actor | None:
        """The sender; None if neither a token nor an open session came with the request."""
        authorizations = headers_of(scope, b"authorization")
        if authorizations:
            token = tokens.check(bearer_of(authorizations), client_address(scope))
            return Actor(token.name, token.role)
        found = self._service.sessions.find(session_cookie(scope, self._service.settings.port), tokens)
        if found is None:
            return None
        session, token = found
        refuse_other_sites(scope, own_host(scope))
        if scope["method"] not in SAFE_METHODS and not is_csrf(session, header_of(scope, CSRF_HEADER.lower().encode())):
            raise RequestError(
                f"header {CSRF_HEADER} is missing or wrong: expected the value that {API}/session tells", status=403
            )
        return Actor(token.name, token.role, session)


def bearer_of(authorizations: list[str]) -> str:
    """The token of the only ``Authorization`` header.

    Raises:
        RequestError: 401.
    """
    scheme, _, token = authorizations[0].partition(" ")
    if len(authorizations) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise RequestError("header Authorization is not Bearer TOKEN: expected it once", status=401, headers=CHALLENGE)
    return token.strip()


def cookie_name(port: int) -> str:
    """The name of the session's cookie. Browsers share cookies between the ports of a machine."""
    return f"rrid_edge_{port}"


def session_cookie(scope: Scope, port: int) -> str:
    """The value of the session's cookie; empty if it is missing or came twice."""
    name = cookie_name(port)
    pairs = [pair.strip().partition("=") for header in headers_of(scope, b"cookie") for pair in header.split(";")]
    values = [value for key, _, value in pairs if key == name]
    return values[0] if len(values) == 1 else ""


def _is_for_people(scope: Scope, path: str) -> bool:
    """Whether a browser wants a page to show."""
    if scope["method"] not in ("GET", "HEAD") or path.startswith("/api/"):
        return False
    return path in ("/", "/index.html") or "text/html" in (header_of(scope, b"accept") or "")
