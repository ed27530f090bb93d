"""One line about parameters and bodies that do not fit the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import params
from starlette.types import Scope

from rrid_edge.serve.gate.scopes import given, media_type_of

_PLACES = {
    "query": "query parameter",
    "path": "part of the path",
    "header": "header",
    "cookie": "cookie",
    "body": "body field",
}
_OPENING = re.compile(
    r"(?:Input|Value|String|List|Number|URL|Data|Dictionary|Tuple|Set|Decimal) should (?:be |have |match )?"
)
_AFTERTHOUGHT = re.compile(r", (?:unable to|got |not |input is|error).*", re.DOTALL)


def validation_problem(scope: Scope, errors: Sequence[Mapping[str, Any]]) -> tuple[int, str]:
    """The status and the line about what FastAPI found.

    Args:
        scope: the request.
        errors: Pydantic's errors; the line is about the first one and counts the others.

    Returns:
        415 if the body has another content type than the route reads, 422 otherwise.
    """
    first = errors[0]
    wanted = _wanted_type(scope)
    if first["loc"][:1] == ("body",) and wanted and media_type_of(scope) != wanted:
        shown = given(media_type_of(scope)) or "none"
        return 415, f"the content type of the body is {shown}: expected {wanted}"
    more = {1: "", 2: " (1 more is wrong)"}.get(len(errors), f" ({len(errors) - 1} more are wrong)")
    return 422, _line(first) + more


def _wanted_type(scope: Scope) -> str | None:
    """The content type of the body that the route reads; None if it reads none, or by itself."""
    field = getattr(scope.get("route"), "body_field", None)
    info = getattr(field, "field_info", None)
    if isinstance(info, params.File):
        return "multipart/form-data"
    if isinstance(info, params.Form):
        return info.media_type
    return "application/json" if info is not None else None


def _line(error: Mapping[str, Any]) -> str:
    kind, location = str(error["type"]), [str(part) for part in error["loc"]]
    place = _PLACES.get(location[0], "value")
    name = ".".join(part for part in location[1:] if part not in _BRANCHES)
    if kind == "json_invalid":
        reason = error.get("ctx", {}).get("error", "malformed")
        return f"the body is no JSON ({given(reason)}, character {location[-1]}): expected what openapi.json describes"
    subject = f"{place} {given(name)}" if name else f"the {place.split()[0]}"
    if kind == "missing":
        return f"{subject} is missing: expected a value"
    if kind == "extra_forbidden":
        return f"{subject} is unknown: expected only what openapi.json describes"
    return f"{subject} is {_shown(error.get('input'))}: expected {_expectation(str(error['msg']))}"


_BRANCHES = frozenset({"str", "int", "float", "bool", "function-after", "function-before", "function-wrap"})
"""Parts of Pydantic's locations that name a branch of a union, not a field."""


def _shown(value: object) -> str:
    if isinstance(value, (dict, list)):
        return f"a {'list' if isinstance(value, list) else 'JSON object'} of {len(value)}"
    return given(repr(value) if isinstance(value, str) else value)


def _expectation(message: str) -> str:
    """What was expected, by Pydantic: ``Input should be a valid integer, unable`` becomes ``a valid integer``."""
    text = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = _AFTERTHOUGHT.sub("", _OPENING.sub("", text, count=1))
    return given_long(text[:1].lower() + text[1:])


def given_long(text: str) -> str:
    """An expectation as one line; it may be longer than a value."""
    return " ".join(text.split())[:200]
