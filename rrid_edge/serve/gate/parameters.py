"""Query parameters that a route does not know. FastAPI would ignore them, and answer another question than asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args, get_origin

from fastapi import FastAPI, Request

from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.scopes import given

_CACHE: Final = "parameters_of_routes"
_LISTS: Final = (list, set, tuple, Sequence)


def refuse_unknown_parameters(request: Request) -> None:
    """Refuse query parameters that the route of a request does not declare, and single ones that came twice.

    Raises:
        RequestError: 422.
    """
    if not request.scope["query_string"]:
        return
    dependant = getattr(request.scope.get("route"), "dependant", None)
    if dependant is None:
        return
    known = _known(request.app, dependant)
    for name in request.query_params:
        if name not in known:
            expected = f"one of {', '.join(sorted(known))}" if known else "none"
            raise RequestError(f"query parameter {given(name)} is unknown: expected {expected}")
        if not known[name] and len(request.query_params.getlist(name)) > 1:
            raise RequestError(f"query parameter {given(name)} came twice: expected it once")


def _known(app: FastAPI, dependant: Any) -> Mapping[str, bool]:  # noqa: ANN401 - FastAPI keeps its class to itself
    """The parameters of a route, and whether each may come several times."""
    if not hasattr(app.state, _CACHE):
        setattr(app.state, _CACHE, {})
    cache: dict[int, Mapping[str, bool]] = getattr(app.state, _CACHE)
    found = cache.get(id(dependant))  # routes live as long as their application
    if found is None:
        found = cache[id(dependant)] = dict(_declared(dependant))
    return found


def _declared(dependant: Any) -> list[tuple[str, bool]]:  # noqa: ANN401 - as above
    own = [(parameter.alias, is_list(parameter.field_info.annotation)) for parameter in dependant.query_params]
    return [*own, *(pair for one in dependant.dependencies for pair in _declared(one))]


def is_list(annotation: object) -> bool:
    """Whether a parameter of this type may come several times."""
    origin = get_origin(annotation)
    return annotation in _LISTS or origin in _LISTS or any(is_list(one) for one in get_args(annotation))
