"""Generated requests: what is likely to be right, what the document allows, and what it does not."""

from __future__ import annotations

import copy
import io
import json
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from edge.serve.documents import recorded_document
from edge.serve.support import SPEC
from rrid_edge.serve.gate.limits import FORM
from support.pictures import noise

TOKENS = {"read": "read-token-0123456", "label": "label-token-0123456", "admin": "admin-token-0123456"}
GALLERIES = {"a": 10, "b": 6}
KEPT_QUERY = "q_kept"
"""Stands for the id of a query that the service keeps, which is random."""
_CROP: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 12}
_CROPS: dict[str, Any] = {"type": "array", "items": _CROP, "minItems": 1, "maxItems": 2, "uniqueItems": True}
_NAME: dict[str, Any] = {"enum": ["Ann", "Dan", "Zoe", "Ida", "", "a\nb"]}
_PERSON: dict[str, Any] = {"enum": ["p1", "p2", "p3", "p4", "s7"]}
_QUERY: dict[str, Any] = {"enum": [KEPT_QUERY, KEPT_QUERY, "q_unknown"]}
_MERGE: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 9}
LIKELY: dict[str, dict[str, Any]] = {
    "gallery": {"enum": [*GALLERIES]},
    "crop": _CROP,
    "person": _PERSON,
    "query": _QUERY,
    "since": {"enum": ["2h", "2026-11-26", "2026-11-26T10:00:00Z", "7", "now", ""]},
    "until": {"enum": ["30m", "2026-11-27", "2026-11-27T10:00:00+02:00", "9"]},
    "cursor": {"enum": ["", "x", "MTI"]},
}
"""Schemas of parameters of these names: values that reach a crop, a person or a time."""


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


_DIMENSION = len(SPEC.blocks) * 4
_DESCRIPTOR: dict[str, Any] = {
    "type": "array", "items": {"type": "number"}, "minItems": _DIMENSION, "maxItems": _DIMENSION
}  # fmt: skip
_SIDE = {"anyOf": [_object(crop=_CROP), _object(query=_QUERY)]}
_VERDICT = {"enum": ["same", "different", "unsure"]}
BODIES: dict[str, list[dict[str, Any]]] = {
    "POST /api/v1/login": [_object(token={"enum": list(TOKENS.values())})],
    "POST /api/v1/search": [
        _object(crop=_CROP),
        _object(query=_QUERY),
        _object(descriptor=_DESCRIPTOR, fingerprint={"enum": [SPEC.fingerprint, "0" * 64]}),
    ],
    "POST /api/v1/people": [_object(name=_NAME, crops=_CROPS)],
    "PATCH /api/v1/people/{person}": [_object(name=_NAME), _object(name=_NAME, crops=_CROPS)],
    "POST /api/v1/people/{person}/merge": [_object(other=_PERSON)],
    "POST /api/v1/people/{person}/split": [
        _object(merge=_MERGE),
        _object(crops={"enum": [[1], [2], [3, 4], [5], [7]]}),
        _object(crops=_CROPS, name=_NAME),
    ],
    "POST /api/v1/feedback": [_object(query=_SIDE, crop=_CROP, verdict=_VERDICT)],
}
"""Schemas of JSON bodies, in the same sense."""


def pictures() -> list[bytes]:
    """Some that can be read, and what people send instead."""
    found: list[bytes] = []
    for form, size in (("JPEG", (64, 32)), ("PNG", (16, 16)), ("WEBP", (40, 20)), ("GIF", (8, 8)), ("BMP", (1, 1))):
        stream = io.BytesIO()
        noise(len(found), *size).save(stream, form)
        found.append(stream.getvalue())
    return [*found, found[0][:200], b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"PK\x03\x04", b"", b"%PDF-1.4"]


schemathesis.openapi.format("binary", st.sampled_from(pictures()))


def _steered(document: dict[str, Any]) -> dict[str, Any]:
    """The document with likely values, so that few requests are refused for an unknown name or id."""
    found = copy.deepcopy(document)
    for path, item in found["paths"].items():
        for method, one in item.items():
            for parameter in one.get("parameters", ()):
                if parameter["name"] in LIKELY and parameter["in"] != "header":
                    parameter["schema"] = LIKELY[parameter["name"]]
                    parameter["required"] = parameter["in"] == "path" or parameter["name"] == "gallery"
            if ways := BODIES.get(f"{method.upper()} {path}"):
                for media_type in {"application/json", FORM} & one["requestBody"]["content"].keys():
                    one["requestBody"]["content"][media_type]["schema"] = {"anyOf": ways}
    return found


DOCUMENT = recorded_document()
_PLAIN, _LIKELY = (schemathesis.openapi.from_dict(one) for one in (DOCUMENT, _steered(DOCUMENT)))
OPERATIONS = sorted(
    (f"{method.upper()} {path}" for path, item in DOCUMENT["paths"].items() for method in item),
    # The others need what these remove or end.
    key=lambda operation: (operation.startswith("DELETE"), operation.endswith("/merge"), operation),
)


def cases(operation: str) -> st.SearchStrategy[Case]:
    """Requests: most of them likely, some as the document allows, some as it does not."""
    method, _, path = operation.partition(" ")
    plain, likely = _PLAIN[path][method], _LIKELY[path][method].as_strategy()
    described = DOCUMENT["paths"][path][method.lower()]
    if not described.get("parameters") and "requestBody" not in described:
        return plain.as_strategy()  # nothing can be wrong
    rest = plain.as_strategy(), plain.as_strategy(GenerationMode("negative"))
    return st.sampled_from([likely, likely, likely, *rest]).flatmap(lambda chosen: chosen)


def send(asked: Any, case: Case, token: str, kept_query: str) -> Any:
    """The answer to a request; None if no client can send it."""
    wanted = case.as_transport_kwargs(base_url="http://127.0.0.1:8760")
    headers = {name: value for name, value in dict(wanted.get("headers") or {}).items() if _is_header(name, value)}
    headers["Authorization"] = f"Bearer {token}"
    body = {name: wanted[name] for name in ("files", "data") if wanted.get(name) is not None}
    if isinstance(body.get("data"), (bytes, str)):
        body["content"] = body.pop("data")
    if "json" in wanted:
        text = json.dumps(wanted["json"]).replace(KEPT_QUERY, kept_query)
        body = {"content": text.encode("utf-8", "surrogatepass")}
        headers.setdefault("Content-Type", "application/json")
    address = wanted["url"].replace(KEPT_QUERY, kept_query)
    parameters = {
        name: kept_query if value == KEPT_QUERY else value for name, value in dict(wanted.get("params") or {}).items()
    }
    try:
        request = asked.build_request(wanted["method"], address, params=parameters, headers=headers, **body)
        request.read()
    except (TypeError, AttributeError, ValueError):
        return None
    return asked.send(request)


def _is_header(name: str, value: object) -> bool:
    good = isinstance(value, str) and value.isascii() and value.isprintable()
    return good and name.lower() not in ("host", "user-agent")
