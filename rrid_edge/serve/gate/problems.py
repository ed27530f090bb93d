"""Errors of requests, answered as ``application/problem+json`` (RFC 9457) with one line."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from rrid_edge.errors import (
    ArtefactError,
    FingerprintMismatchError,
    GalleryBusyError,
    GalleryChangedError,
    GalleryUnavailableError,
    RridEdgeError,
    UsageError,
)

_RETRY_S: Final = 1


class RequestError(UsageError):
    """A request that is refused.

    Attributes:
        status: of the answer.
        retry_after_s: seconds after which the same request may succeed, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 422,
        retry_after_s: int | None = None,
        parameter: str | tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, parameter=parameter)
        self.status = status
        self.retry_after_s = retry_after_s


def problem_response(status: int, detail: str, instance: str, retry_after_s: int | None = None) -> JSONResponse:
    """The answer to a request that failed.

    Args:
        status: of the answer.
        detail: what is wrong, in one line.
        instance: path of the request.
        retry_after_s: seconds after which the same request may succeed, or None.
    """
    content = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": instance,
    }
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return JSONResponse(content, status, headers, "application/problem+json")


def status_of(error: RridEdgeError) -> int:
    """The status that an error of the package is answered with."""
    if isinstance(error, RequestError):
        return error.status
    if isinstance(error, UsageError):
        return 422
    if isinstance(error, FingerprintMismatchError):
        return 409
    return 503 if isinstance(error, ArtefactError) else 500


def add_problem_handlers(app: FastAPI) -> None:
    """Let the application answer errors of the package as problems."""

    @app.exception_handler(RridEdgeError)
    async def answer(request: Request, error: RridEdgeError) -> JSONResponse:
        retry = getattr(error, "retry_after_s", None)
        if isinstance(error, GalleryBusyError | GalleryChangedError | GalleryUnavailableError):
            retry = _RETRY_S
        return problem_response(status_of(error), error.message, request.url.path, retry)
