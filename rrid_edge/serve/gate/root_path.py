"""The path under which a proxy serves the service."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """Tells the root path to what is inside. A proxy may strip it from the paths that it passes on, or keep it.

    Args:
        app: what answers.
        root_path: such as ``/reid``; empty for the root.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app, self._root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._root_path and scope["type"] == "http":
            scope["root_path"] = self._root_path
        await self._app(scope, receive, send)
