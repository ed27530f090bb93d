"""The direct way to a search: the route's own function, without the layers of the framework above it.

FastAPI takes 0.9 ms of a core to find a route and to solve its dependencies, which is more than most searches take. A
request that this way cannot read goes on to FastAPI, which answers it or says what is wrong with it.
"""

from __future__ import annotations

import inspect
from typing import Any, Final, get_type_hints

from fastapi import Request
from pydantic import ConfigDict, ValidationError, create_model
from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from rrid_edge.serve.addresses import API
from rrid_edge.serve.gate.parameters import is_list
from rrid_edge.serve.gate.roles import actor_of
from rrid_edge.serve.gate.scopes import route_path
from rrid_edge.serve.routes import search
from rrid_edge.serve.service import Service

_PATH: Final = f"{API}/search"


class DirectSearch:
    """Answers searches; everything else goes on. It must be the innermost middleware: the gate lies around it.

    Args:
        app: what answers everything else.
        service: that is asked.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._parameters = _Parameters()
        self._route = next(route for route in search.router.routes if getattr(route, "path", "") == _PATH)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            RridEdgeError: as the route.
        """
        if scope["type"] != "http" or scope["method"] != "POST" or route_path(scope) != _PATH:
            return await self._app(scope, receive, send)
        actor, found = actor_of(scope), self._parameters.read(scope["query_string"])
        if actor is None or found is None:
            return await self._app(scope, receive, send)
        scope["route"] = self._route  # logs and metrics name it
        gallery = self._service.gallery(found.pop("gallery"))
        choices = await search.choices_of(**found)
        response = await search.search_gallery(Request(scope, receive, send), self._service, gallery, choices, actor)
        await response(scope, receive, send)
        return None


class _Parameters:
    """The query parameters of a search, checked by the types that the route declares."""

    def __init__(self) -> None:
        hints = get_type_hints(search.choices_of, include_extras=True)
        declared = inspect.signature(search.choices_of).parameters
        fields: dict[str, Any] = {name: (hints[name], one.default) for name, one in declared.items()}
        fields["gallery"] = (str | None, None)
        self._lists = {name for name, (annotation, _) in fields.items() if is_list(annotation)}
        self._model = create_model("_Given", __config__=ConfigDict(extra="forbid"), **fields)
        self._defaults = dict(self._model())

    def read(self, query: bytes) -> dict[str, Any] | None:
        """The values of a query string; None if one is unknown, came twice or does not fit."""
        if not query:
            return dict(self._defaults)
        params = QueryParams(query)
        if len(params.multi_items()) != len(params) and any(
            len(params.getlist(name)) > 1 for name in params if name not in self._lists
        ):
            return None
        given = {name: params.getlist(name) if name in self._lists else params[name] for name in params}
        try:
            return dict(self._model.model_validate(given))
        except ValidationError:
            return None
