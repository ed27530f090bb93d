"""Roles: who asks, and what it may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Scope

from rrid_edge.serve.gate.parameters import refuse_unknown_parameters
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.sessions import Session
from rrid_edge.serve.gate.tokens import CHALLENGE, ROLES, Role

_STATE, _ACTOR = "state", "actor"
_SCHEME = HTTPBearer(auto_error=False, description="A token of the token file. Browsers send a session's cookie.")


@dataclass(frozen=True)
class Actor:
    """Who sent a request.

    Attributes:
        name: for audit lines; ``local`` without tokens.
        role: what it may do.
        session: of a browser; None for a token in the header.
    """

    name: str
    role: Role
    session: Session | None = None


LOCAL = Actor("local", "admin")
"""Everybody, in a service without tokens: only this machine reaches it."""


def set_actor(scope: Scope, actor: Actor) -> None:
    """Remember who sends a request."""
    scope.setdefault(_STATE, {})[_ACTOR] = actor


def actor_of(scope: Scope) -> Actor | None:
    """Who sends a request; None if that is unknown, which only ``/healthz`` and the login allow."""
    actor = scope.get(_STATE, {}).get(_ACTOR)
    return actor if isinstance(actor, Actor) else None


def need(role: Role) -> Callable[..., Awaitable[Actor]]:
    """A dependency of routes that gives the actor.

    It refuses an actor that may not act in ``role``, and query parameters that the route does not know.
    """

    async def actor(  # async, because FastAPI runs other dependencies in a thread
        request: Request, _token: Annotated[HTTPAuthorizationCredentials | None, Security(_SCHEME)] = None
    ) -> Actor:
        found = actor_of(request.scope)
        if found is None:
            raise RequestError("no token came with the request: expected one", status=401, headers=CHALLENGE)
        if ROLES.index(found.role) < ROLES.index(role):
            raise RequestError(f"role {found.role} does not allow this: expected a token of role {role}", status=403)
        refuse_unknown_parameters(request)
        return found

    return actor
