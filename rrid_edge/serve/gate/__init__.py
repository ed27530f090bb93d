"""The gate: who may ask for what, and how much of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

if TYPE_CHECKING:
    from rrid_edge.serve.service import Service


def add_gate(app: FastAPI, service: Service) -> None:
    """Add the middlewares that every request passes, in their order."""
