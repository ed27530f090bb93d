"""``/api/v1/login``, ``/logout`` and ``/session``: the session of a browser."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from rrid_edge.json_text import json_text
from rrid_edge.serve.addresses import API
from rrid_edge.serve.asking import ServiceOf
from rrid_edge.serve.gate.bodies import json_body
from rrid_edge.serve.gate.identity import cookie_name, session_cookie
from rrid_edge.serve.gate.limits import FORM
from rrid_edge.serve.gate.login_page import local_path, login_page
from rrid_edge.serve.gate.problems import PROBLEMS, RequestError
from rrid_edge.serve.gate.roles import Actor, need
from rrid_edge.serve.gate.scopes import client_address, media_type_of
from rrid_edge.serve.gate.sessions import SESSION_S
from rrid_edge.serve.gate.tokens import Role

router = APIRouter(prefix=API, tags=["session"])


class SessionAnswer(BaseModel):
    """Who asks."""

    name: str
    role: Role
    csrf: str | None
    """What requests of a browser that change something send as ``X-CSRF-Token``; None if none is needed."""


_LOGIN_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            media_type: {
                "schema": {"type": "object", "required": ["token"], "properties": {"token": {"type": "string"}}}
            }
            for media_type in ("application/json", FORM)
        },
    }
}
_PAGE: dict[str, Any] = {"text/html": {"schema": {"type": "string", "description": "To a form: the page that asks."}}}
_LOGIN_ANSWERS: dict[int | str, dict[str, Any]] = {
    303: {"description": "A form logged in; the page follows."},
    **{status: {**PROBLEMS[status], "content": {**PROBLEMS[status]["content"], **_PAGE}} for status in (401, 429)},
}


@router.get("/session")
async def session(actor: Annotated[Actor, Depends(need("read"))]) -> SessionAnswer:
    """Tell who asks, and the value that a browser's changes need."""
    return _answer(actor)


@router.post("/login", response_model=SessionAnswer, responses=_LOGIN_ANSWERS, openapi_extra=_LOGIN_BODY)
async def login(request: Request, service: ServiceOf) -> Response:
    """Begin a session with a token. A form is led to the page; JSON is answered as ``/session`` answers."""
    is_form = media_type_of(request.scope) == FORM
    token, after = await (_of_form(request) if is_form else _of_json(request))
    if service.tokens is None:
        raise RequestError("this service has no tokens: everybody on its machine may ask without one", status=409)
    try:
        found = service.tokens.check(token, client_address(request.scope))
    except RequestError as error:
        if not is_form:
            raise
        page = login_page(request.scope, error.message, after=after, status=error.status)
        if error.retry_after_s is not None:
            page.headers["Retry-After"] = str(error.retry_after_s)
        return page
    cookie, opened = service.sessions.open(found)
    await service.threads.run(service.audit.line, "login", Actor(found.name, found.role), None)
    answer = _led_to(request, after) if is_form else _as_json(_answer(Actor(found.name, found.role, opened)))
    answer.set_cookie(
        cookie_name(service.settings.port),
        cookie,
        max_age=SESSION_S,
        path=service.settings.root_path or "/",
        secure=request.scope["scheme"] == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/logout", status_code=204)
async def logout(request: Request, service: ServiceOf, _actor: Annotated[Actor, Depends(need("read"))]) -> Response:
    """End the session of the cookie that came with the request."""
    port = service.settings.port
    service.sessions.close(session_cookie(request.scope, port))
    answer = Response(status_code=204)
    answer.delete_cookie(cookie_name(port), path=service.settings.root_path or "/", httponly=True, samesite="strict")
    return answer


def _answer(actor: Actor) -> SessionAnswer:
    return SessionAnswer(name=actor.name, role=actor.role, csrf=actor.session.csrf if actor.session else None)


def _as_json(answer: SessionAnswer) -> Response:
    return Response(json_text(answer.model_dump()), media_type="application/json")


def _led_to(request: Request, after: str) -> Response:
    root = str(request.scope.get("root_path", "")).rstrip("/")
    return Response(status_code=303, headers={"Location": root + local_path(after)})


async def _of_form(request: Request) -> tuple[str, str]:
    form = await request.form(max_files=0, max_fields=4)
    token, after = form.get("token", ""), form.get("next", "/")
    return str(token).strip(), str(after)


async def _of_json(request: Request) -> tuple[str, str]:
    question = await json_body(request)
    token = question.get("token") if isinstance(question, dict) else None
    if not isinstance(token, str):
        raise RequestError('the body has no text "token": expected {"token": "..."}', status=422)
    return token.strip(), "/"
