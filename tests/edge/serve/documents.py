"""The OpenAPI document of the service, and its recorded copy.

Record it: ``python tools/record_openapi.py``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge.serve.support import client, service_on

RECORDED = Path(__file__).parents[2] / "data" / "serve" / "openapi.json"


def current_document(folder: Path) -> dict[str, Any]:
    """The document that a service answers with. The version of the package is left out."""
    with service_on(folder, {"g": 1}) as service, client(service) as asked:
        document: dict[str, Any] = asked.get("/openapi.json").json()
    del document["info"]["version"]
    return document


def as_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def recorded_document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(RECORDED.read_text("utf-8"))
    return document
