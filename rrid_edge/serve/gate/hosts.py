"""Requests that a browser sends because another site told it to are refused."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from rrid_edge.serve.gate.bodies import body_of
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.scopes import SAFE_METHODS, given, header_of, headers_of

if TYPE_CHECKING:
    from rrid_edge.serve.service import Service

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_OWN_SITE = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site of the service's own pages, and of addresses that the user typed."""
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class Hosts:
    """Checks ``Host``, ``Origin`` and ``Sec-Fetch-Site``.

    A service without tokens trusts this machine. Without these checks each site that its user visits could use it:
    directly, or by a name of its own that it lets point to this machine (DNS rebinding). A service with tokens checks
    requests that come with a cookie in :mod:`rrid_edge.serve.gate.identity`.

    Args:
        app: what answers.
        service: with or without tokens.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            RequestError: 400 or 403.
        """
        if scope["type"] == "http":
            body_of(scope)  # headers that contradict each other are refused before anybody is trusted
            host = own_host(scope)
            if self._service.tokens is None:
                refuse_foreign_name(host)
                refuse_other_sites(scope, host)
        await self._app(scope, receive, send)


def own_host(scope: Scope) -> str:
    """The value of ``Host``, which is the service as the client sees it.

    Raises:
        RequestError: 400 if it is missing, told twice or malformed.
    """
    hosts = headers_of(scope, b"host")
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        shown = given(hosts[0]) if len(hosts) == 1 else f"{len(hosts)} times"
        raise RequestError(f"header Host is {shown or 'empty'}: expected one name and its port", status=400)
    return hosts[0]


def refuse_foreign_name(host: str) -> None:
    """Refuse a name that is not this machine's own.

    Raises:
        RequestError: 403.
    """
    match = _HOST.fullmatch(host)
    name = match[1].strip("[]").rstrip(".").lower() if match else ""
    if name == "localhost" or _is_loopback(name):
        return
    raise RequestError(
        f"host {given(host)} is not this machine: expected localhost or 127.0.0.1; "
        "under another name the service needs a token file",
        status=403,
    )


def refuse_other_sites(scope: Scope, host: str) -> None:
    """Refuse what another site made a browser send. Opening a page of the service by a link is allowed.

    Raises:
        RequestError: 403.
    """
    safe = scope["method"] in SAFE_METHODS
    site = header_of(scope, b"sec-fetch-site")
    opened = (
        safe and header_of(scope, b"sec-fetch-mode") == "navigate" and header_of(scope, b"sec-fetch-dest") == "document"
    )
    origins = headers_of(scope, b"origin")
    if site is not None and site not in _OWN_SITE and not opened:
        raise RequestError(f"the request comes from another site ({given(site)}): expected this one", status=403)
    if origins and not (len(origins) == 1 and _is_own(origins[0], host)):
        raise RequestError(
            f"the request comes from {given(' and '.join(origins))}: expected {given(host)}; a proxy must pass Host on",
            status=403,
        )


def _is_own(origin: str, host: str) -> bool:
    """Whether an origin is the service. Schemes are not compared: a proxy may add TLS."""
    scheme, _, other_host = origin.partition("://")
    own, other = _HOST.fullmatch(host), _HOST.fullmatch(other_host)
    if own is None or other is None or scheme not in _DEFAULT_PORTS:
        return False
    default = _DEFAULT_PORTS[scheme]  # browsers leave it out of both headers
    return own[1].lower() == other[1].lower() and (own[2] or default) == (other[2] or default)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
