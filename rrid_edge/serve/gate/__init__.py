"""The gate: who may ask for what, and how much of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fastapi import FastAPI

from rrid_edge.serve.gate.deadlines import Deadlines
from rrid_edge.serve.gate.endings import Endings
from rrid_edge.serve.gate.headers import Headers
from rrid_edge.serve.gate.hosts import Hosts
from rrid_edge.serve.gate.identity import Identity
from rrid_edge.serve.gate.limits import GateLimits, Limits
from rrid_edge.serve.gate.root_path import RootPath
from rrid_edge.serve.gate.unforeseen import LastNet

if TYPE_CHECKING:
    from rrid_edge.serve.service import Service


def add_gate(app: FastAPI, service: Service, limits: GateLimits | None = None) -> None:
    """Add the middlewares that every request passes.

    From the outside to the inside:

    1. ``RootPath`` tells the others where a proxy serves the service.
    2. ``Headers`` sets the headers of every answer, refusals among them.
    3. ``Endings`` closes connections after answers that came before the whole body.
    4. ``LastNet`` turns what the middlewares below it raise into answers, and unforeseen errors into a report.
    5. ``Hosts`` refuses what other sites make a browser send to a service without tokens.
    6. ``Identity`` finds the sender; without one, nothing of the body is read.
    7. ``Deadlines`` counts from here.
    8. ``Limits`` checks the body's headers, then counts what arrives.

    Args:
        app: the application, before its first request.
        service: its tokens, sessions and settings.
        limits: other limits than those of the settings, for tests.
    """
    limits = limits or limits_of(service)
    app.add_middleware(Limits, limits=limits)
    app.add_middleware(Deadlines, limits=limits)
    app.add_middleware(Identity, service=service)
    app.add_middleware(Hosts, service=service)
    app.add_middleware(LastNet)
    app.add_middleware(Endings, limits=limits)
    app.add_middleware(Headers)
    app.add_middleware(RootPath, root_path=service.settings.root_path)


def limits_of(service: Service) -> GateLimits:
    """The limits of a service's settings."""
    settings = service.settings
    return replace(GateLimits(), body_bytes=settings.max_upload_bytes, deadline_s=settings.deadline_s)
