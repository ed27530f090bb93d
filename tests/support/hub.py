"""A stand-in of the Hugging Face hub: the HTTP interface that ``huggingface_hub`` uses, with repositories in memory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

_LARGE_BYTES = 1024


@dataclass
class Repository:
    """One repository of models.

    Attributes:
        commits: files of each commit, by its 40 hex digits.
        revisions: branches and tags, and the commits that they name.
        token: the token that it asks for; None lets everybody read it.
        gated: whether the owner must grant access; ``token`` has it.
    """

    commits: dict[str, dict[str, bytes]]
    revisions: dict[str, str]
    token: str | None = None
    gated: bool = False


@dataclass
class StandInHub:
    """What the server knows, and what it was asked.

    Attributes:
        repositories: the repositories by ``owner/name``.
        asked: method, path and token of each request, in order.
        broken: HTTP status of all answers; None to answer well.
        hides_commits: whether answers lack the commit, as those of other servers do.
        endpoint: its address.
        large: contents by sha256 that lie on another host, to which the hub sends readers.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    broken: int | None = None
    hides_commits: bool = False
    endpoint: str = ""
    large: dict[str, bytes] = field(default_factory=dict)

    def names(self) -> set[str]:
        """Names of the files that were sent."""
        sent = [path for method, path, _ in self.asked if method == "GET" and ("/resolve/" in path or "/cdn/" in path)]
        return {path.rpartition("/")[2] for path in sent}

    def answer(self, path: str, token: str | None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content for one path, as the hub gives them."""
        if self.broken is not None:
            return self.broken, {}, b""
        owner, name, *rest = unquote(path).lstrip("/").split("/")
        if owner == "cdn":
            return 200, {"ETag": f'"{name}"'}, self.large[name]
        if rest[:1] != ["resolve"]:
            return 404, {}, b"Not Found"
        found = self.repositories.get(f"{owner}/{name}")
        if found is None or (found.token not in (None, token) and not found.gated):
            return 401, {"X-Error-Message": "Invalid username or password."}, b""
        if found.gated and token != found.token:
            return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."}, b""
        encoded = path.split("/resolve/")[1].split("/")
        revision, file = unquote(encoded[0]), unquote("/".join(encoded[1:]))
        commit = found.revisions.get(revision, revision)
        if commit not in found.commits:
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"}, b""
        content = found.commits[commit].get(file)
        if content is None:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b"Entry not found"
        digest = hashlib.sha256(content).hexdigest()
        headers = {} if self.hides_commits else {"X-Repo-Commit": commit}
        if len(content) < _LARGE_BYTES:
            return 200, headers | {"ETag": f'"{digest}"'}, content
        self.large[digest] = content
        headers |= {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content)), "ETag": '"pointer"'}
        place = f"{self.endpoint.replace('127.0.0.1', 'localhost')}/cdn/{digest}/{file.rpartition('/')[2]}"
        return 302, headers | {"Location": place}, b""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: StandInHub

    def do_GET(self) -> None:
        self._reply(body=True)

    def do_HEAD(self) -> None:
        self._reply(body=False)

    def _reply(self, *, body: bool) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.asked.append((self.command, self.path, token))
        status, headers, content = self.hub.answer(self.path, token)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""


@contextmanager
def serving() -> Iterator[StandInHub]:
    """Run a stand-in of the hub on a free port of this machine."""
    hub = StandInHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_to(endpoint: str, home: Path, monkeypatch) -> None:
    """Let ``huggingface_hub`` of this process use another hub and another cache, as its environment variables do.

    It reads them only when it is imported.
    """
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
