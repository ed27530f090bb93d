"""A tiny application behind the real gate, for tests that need no gallery."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, File, Query, UploadFile
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field

from rrid_edge.errors import GalleryBusyError, UsageError
from rrid_edge.serve.asking import service_of
from rrid_edge.serve.audit_lines import AuditLines
from rrid_edge.serve.gate import add_gate
from rrid_edge.serve.gate.connections import gate_protocol
from rrid_edge.serve.gate.limits import GateLimits
from rrid_edge.serve.gate.problems import add_problem_handlers
from rrid_edge.serve.gate.roles import Actor, need
from rrid_edge.serve.gate.sessions import SessionBook
from rrid_edge.serve.gate.tokens import TokenBook
from rrid_edge.serve.metrics import Metrics
from rrid_edge.serve.routes import session
from rrid_edge.serve.settings import ServeSettings

READ, LABEL, ADMIN = "r" * 16, "l" * 20, "a1._~+/-" * 2 + "=="
QUICK = GateLimits(
    body_bytes=200_000,
    json_bytes=2_000,
    held_bytes=1,
    deadline_s=3,
    headers_s=0.3,
    silence_s=0.6,
    slow_after_s=0.1,
    most_slow=4,
    linger_s=0.2,
    stall_s=0.3,
    most_connections=30,
    header_bytes=4_000,
)


class Naming(BaseModel):
    name: str = Field(max_length=8)
    crops: list[int] = Field(min_length=1)


class Tiny(FastAPI):
    """The application. ``done`` and ``given_up`` say what became of the work of requests."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.done: list[str] = []
        self.given_up: list[str] = []


def token_file(folder: Path, text: str = f"read {READ} reader\nlabel {LABEL}\nadmin {ADMIN} the boss\n") -> Path:
    path = folder / "tokens"
    path.write_text(text)
    path.chmod(0o600)
    return path


def tiny_app(folder: Path, *, tokens: bool = True, limits: GateLimits = QUICK, root_path: str = "") -> Tiny:
    settings = ServeSettings(("g",), root_path=root_path)
    book = TokenBook.read(token_file(folder)) if tokens else None
    app = Tiny(docs_url=None, redoc_url=None)
    parts = {"threads": NoThreads(), "audit": AuditLines(Metrics())}
    app.state.service = SimpleNamespace(settings=settings, tokens=book, sessions=SessionBook(), **parts)
    app.dependency_overrides[service_of] = lambda: app.state.service
    add_problem_handlers(app)
    app.include_router(session.router)
    _add_routes(app)
    _add_slow_routes(app)
    add_gate(app, app.state.service, limits)
    return app


class NoThreads:
    """Does the work at once."""

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


def _add_routes(app: Tiny) -> None:
    @app.get("/")
    async def page() -> str:
        return "the page"

    @app.get("/healthz")
    async def healthz() -> str:
        return "ok"

    @app.get("/api/v1/crops")
    async def crops(
        actor: Annotated[Actor, Depends(need("read"))],
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        camera: Annotated[list[str] | None, Query()] = None,
    ) -> list[str]:
        return [actor.name, str(limit), *(camera or ())]

    @app.post("/api/v1/people", status_code=201)
    async def people(naming: Naming, actor: Annotated[Actor, Depends(need("label"))]) -> str:
        app.done.append(naming.name)
        return actor.name

    @app.delete("/api/v1/crops/{crop}")
    async def forget(crop: int, actor: Annotated[Actor, Depends(need("admin"))]) -> str:
        return actor.name

    @app.post("/api/v1/crops")
    async def push(image: Annotated[UploadFile, File()], _actor: Annotated[Actor, Depends(need("label"))]) -> int:
        return len(await image.read())

    @app.get("/api/v1/fails/{kind}")
    async def fails(kind: str) -> None:
        errors: dict[str, Exception] = {
            "busy": GalleryBusyError("the gallery is being written"),
            "usage": UsageError("odd\x07 name\nin two lines"),
            "secret": RuntimeError("person Ann was not found"),
        }
        raise errors[kind]


def _add_slow_routes(app: Tiny) -> None:
    async def work(name: str, seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            app.given_up.append(name)
            raise
        app.done.append(name)
        return name

    @app.get("/api/v1/slow")
    async def slow(seconds: float) -> str:
        return await work("read", seconds)

    @app.post("/api/v1/slow")
    async def slow_write(seconds: float) -> str:
        return await work("write", seconds)

    @app.get("/api/v1/stream")
    async def stream(parts: int, bytes_each: int, pause_s: float) -> StreamingResponse:
        async def parts_of_it() -> AsyncIterator[bytes]:
            try:
                for _ in range(parts):
                    yield b"x" * bytes_each
                    await asyncio.sleep(pause_s)
                app.done.append("stream")
            except BaseException:
                app.given_up.append("stream")
                raise

        return StreamingResponse(parts_of_it())


def client(app: FastAPI, token: str | None = None, *, base_url: str = "http://127.0.0.1:8760") -> TestClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return TestClient(app, base_url=base_url, headers=headers, follow_redirects=False)


@contextlib.contextmanager
def serving(app: FastAPI, limits: GateLimits = QUICK) -> Iterator[int]:
    """Serve ``app`` on a free port of the loopback, as ``rrid-edge serve`` configures Uvicorn; gives the port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        http=gate_protocol(limits),
        ws="none",
        lifespan="off",
        log_level="critical",
        server_header=False,
        access_log=False,
        timeout_keep_alive=1,
        h11_max_incomplete_event_size=limits.header_bytes,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="server")
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def wait_for(reached, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.005)


class Raw:
    """A connection that sends bytes as they are."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()

    def send(self, text: str | bytes) -> None:
        self.socket.sendall(text.encode("latin-1") if isinstance(text, str) else text)

    def all(self) -> bytes:
        """Everything until the server closes the connection."""
        parts = []
        with contextlib.suppress(ConnectionResetError):
            while part := self.socket.recv(1 << 16):
                parts.append(part)
        return b"".join(parts)


def sent(port: int, text: str | bytes) -> tuple[int, dict[str, str], bytes]:
    """The answer to raw bytes on a connection of their own: status, headers, body."""
    with Raw(port) as raw:
        raw.send(text)
        return parsed(raw.all())


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body
