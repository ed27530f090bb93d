"""The application: routes, the gate, the page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from rrid_edge import __version__
from rrid_edge.serve.direct_search import DirectSearch
from rrid_edge.serve.gate import add_gate
from rrid_edge.serve.gate.problems import PROBLEMS, add_problem_handlers, describe_problems
from rrid_edge.serve.routes import ROUTERS
from rrid_edge.serve.service import Service
from rrid_edge.serve.traces import Traces

PAGE: Final = Path(__file__).with_name("page")


def create_app(service: Service) -> FastAPI:
    """The application of a service. The caller closes the service."""
    app = FastAPI(
        title="rrid-edge",
        version=__version__,
        docs_url=None,  # its scripts come from elsewhere, which the page's policy forbids
        redoc_url=None,
    )
    app.state.service = service
    add_problem_handlers(app)
    for router in ROUTERS:
        app.include_router(router, responses=PROBLEMS)
    app.add_middleware(DirectSearch, service=service)  # the innermost: behind the gate
    add_gate(app, service)
    routes = [route for router in ROUTERS for route in router.routes]
    app.add_middleware(Traces, metrics=service.metrics, routes=routes)  # the outermost: it sees what the gate refuses
    describe_problems(app)
    app.mount("/", _Page(directory=PAGE, html=True), name="page")
    return app


class _Page(StaticFiles):
    """The files of the page."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """A file of the page. Starlette before 1.0 has no answer to a zero byte in a name."""
        return ("", None) if "\0" in path else super().lookup_path(path)
