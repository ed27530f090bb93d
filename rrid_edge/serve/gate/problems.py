"""Every error of the service as a problem document (RFC 9457) whose detail is the package's one line."""

from __future__ import annotations

import http
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from rrid_edge.errors import (
    ArtefactError,
    ClosedError,
    FingerprintMismatchError,
    FolderUnavailableError,
    GalleryBusyError,
    GalleryChangedError,
    GalleryUnavailableError,
    GpuFaultError,
    MissingDependencyError,
    OutputError,
    RridEdgeError,
    UnexpectedError,
    UsageError,
    printable,
)
from rrid_edge.json_text import json_text
from rrid_edge.serve.gate.scopes import given, route_path
from rrid_edge.serve.gate.validation import validation_problem

PROBLEM_TYPE = "application/problem+json"
SOON_S, LATER_S = 1, 10
"""Seconds until a client should try again: after a short wait for others, or after a machine was mended."""

_STATUS: tuple[tuple[type[RridEdgeError], int, int | None], ...] = (
    (GalleryBusyError, 503, SOON_S),
    (GalleryChangedError, 503, SOON_S),
    (ClosedError, 503, SOON_S),
    (GalleryUnavailableError, 503, LATER_S),
    (FolderUnavailableError, 503, LATER_S),
    (OutputError, 503, LATER_S),
    (FingerprintMismatchError, 409, None),
    (ArtefactError, 503, LATER_S),
    (MissingDependencyError, 503, LATER_S),
    (GpuFaultError, 503, LATER_S),
    (UnexpectedError, 500, None),
    (UsageError, 422, None),
    (RridEdgeError, 500, None),
)
"""Status and Retry-After by class. The first class that fits counts."""


class RequestError(UsageError):
    """A request that the service refuses.

    Attributes:
        status: of the answer, 400 to 599.
        retry_after_s: seconds after which the same request may succeed; None if it will not.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 422,
        retry_after_s: int | None = None,
        parameter: str | tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, parameter=parameter)
        self.status = status
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Problem:
    """What an answer says of an error."""

    status: int
    detail: str
    """One line without control characters."""
    headers: Mapping[str, str] = field(default_factory=dict)


def problem_of(error: RridEdgeError) -> Problem:
    """The status, line and headers of an error of this package."""
    if isinstance(error, RequestError):
        status, retry_after_s, headers = error.status, error.retry_after_s, error.headers
    else:
        status, retry_after_s = next((code, after) for kind, code, after in _STATUS if isinstance(error, kind))
        headers = {}
    if retry_after_s is not None:
        headers = {**headers, "Retry-After": str(retry_after_s)}
    return Problem(status, error.message, headers)


def problem_response(status: int, detail: str, instance: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that failed.

    Args:
        status: of the answer.
        detail: what is wrong, in one line.
        instance: path of the request.
        headers: further headers of the answer.
    """
    document = {
        "type": "about:blank",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": printable(" ".join(detail.split())),
        "instance": printable(instance),
    }
    return Response(json_text(document), status, dict(headers or {}), media_type=PROBLEM_TYPE)


def response_to(error: RridEdgeError, instance: str) -> Response:
    """The answer to a request that ended with an error of this package."""
    problem = problem_of(error)
    return problem_response(problem.status, problem.detail, instance, problem.headers)


def add_problem_handlers(app: FastAPI) -> None:
    """Answer the errors of this package, of FastAPI and of Starlette with problem documents."""
    app.add_exception_handler(RridEdgeError, _of_package)
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_exception_handler(RequestValidationError, _of_validation)


async def _of_package(request: Request, error: Exception) -> Response:
    assert isinstance(error, RridEdgeError)
    return response_to(error, request.scope["path"])


async def _of_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    problem = _problem_of_framework(request, error)
    return problem_response(problem.status, problem.detail, request.scope["path"], problem.headers)


async def _of_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    status, detail = validation_problem(request.scope, error.errors())
    return problem_response(status, detail, request.scope["path"])


def _problem_of_framework(request: Request, error: HTTPException) -> Problem:
    headers = dict(error.headers or {})
    if error.status_code == 404:
        where = given(route_path(request.scope))
        return Problem(404, f"nothing is served at {where}: expected an address of openapi.json", headers)
    if error.status_code == 405:
        allowed = headers.get("Allow", "another method")
        return Problem(405, f"method {given(request.method)} does not work here: expected {allowed}", headers)
    if error.status_code == 400:  # Starlette's and FastAPI's words for bodies that cannot be parsed
        reason = str(error.detail).rstrip(".")
        return Problem(400, f"the body cannot be read ({reason}): expected what openapi.json describes", headers)
    return Problem(error.status_code, str(error.detail), headers)


_DOCUMENT: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "One line: what is wrong, what was expected, what to do."},
        "instance": {"type": "string"},
    },
}
_MEANINGS = {
    400: "The request cannot be read.",
    401: "A token is missing, or it is wrong.",
    403: "The token's role does not allow this, or the request comes from another site.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "The request contradicts what is stored.",
    413: "The body is too large.",
    415: "The body has another content type than expected.",
    422: "A parameter or a picture cannot be used.",
    429: "Too many requests wait. `Retry-After` tells when to try again.",
    503: "The gallery, its server or the engine cannot answer now. `Retry-After` tells when to try again.",
    504: "The answer took longer than the service allows.",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for status, meaning in _MEANINGS.items()
}
"""``responses`` of routers: the refusals that every route can give, for the OpenAPI document."""


def describe_problems(app: FastAPI) -> None:
    """Add the problem document to the schemas of the OpenAPI document, where :data:`PROBLEMS` refers to it."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        document.setdefault("components", {}).setdefault("schemas", {}).setdefault("Problem", _DOCUMENT)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI documents this way
