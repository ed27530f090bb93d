"""The server: a socket, uvicorn with the service's limits, signals, and an orderly end."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

import uvicorn

from rrid_edge.errors import RridEdgeError, UsageError, printable
from rrid_edge.serve.app import create_app
from rrid_edge.serve.gate import limits_of
from rrid_edge.serve.gate.connections import gate_protocol
from rrid_edge.serve.logs import LOGGER, log_event
from rrid_edge.serve.service import Service
from rrid_edge.serve.settings import ServeSettings, is_loopback

GRACE_S: Final = 8
"""Seconds for requests that run when the service is stopped. Closing galleries and engines takes two more at most."""
_KEEP_ALIVE_S: Final = 20
_BACKLOG: Final = 1024
_PROXIES: Final = "127.0.0.1,::1"
"""Whose headers X-Forwarded-For and X-Forwarded-Proto are believed: proxies on this machine."""


def listen(settings: ServeSettings) -> socket.socket:
    """Bind the service's socket, so that a taken port is known before anything is loaded.

    Raises:
        UsageError: the host is unknown, the port is taken, or this user may not use it.
    """
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"host {printable(host)!r} is unknown ({printable(str(error))}): expected an address of this machine, such "
            "as 127.0.0.1",
            parameter="host",
        ) from error
    if settings.token_file is None and not is_loopback(str(address[0])):
        raise UsageError(
            f"host {printable(host)!r} is {address[0]}, which other machines reach: expected 127.0.0.1, or a token "
            "file",
            parameter=("host", "token_file"),
        )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _cannot_listen(settings, error) from error
    return listener


def _cannot_listen(settings: ServeSettings, error: OSError) -> UsageError:
    host, port = printable(settings.host), settings.port
    if error.errno == errno.EADDRINUSE:
        problem = f"port {port} of {host} is taken by another program: stop it, or choose another port"
        return UsageError(problem, parameter="port")
    if error.errno == errno.EACCES:
        return UsageError(f"port {port} is kept for the system: choose one from 1024 on", parameter="port")
    problem = f"{host} is no address of this machine ({error.strerror}): expected one, such as 127.0.0.1"
    return UsageError(problem, parameter="host")


def address_of(listener: socket.socket, settings: ServeSettings) -> str:
    """The address of the page, such as ``http://127.0.0.1:8760/reid/``."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{settings.root_path}/"


class ServiceServer(uvicorn.Server):
    """Serves a service until it is told to stop.

    SIGINT and SIGTERM stop it: it takes no more connections, gives running requests :data:`GRACE_S` seconds, and
    returns. A second signal ends them at once. SIGHUP reads the token file again.

    Args:
        service: to serve; the caller closes it.
        started: called when requests are taken.
    """

    def __init__(self, service: Service, started: Callable[[], None] = lambda: None) -> None:
        limits = limits_of(service)
        config = uvicorn.Config(
            create_app(service),
            loop="asyncio",
            http=gate_protocol(limits),
            h11_max_incomplete_event_size=limits.header_bytes,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=True,
            forwarded_allow_ips=_PROXIES,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        super().__init__(config)
        self._service, self._told_started = service, started
        self.failure: RridEdgeError | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take requests."""
        await super().startup(sockets)
        self._told_started()

    async def on_tick(self, counter: int) -> bool:
        """Look ten times per second whether to stop: also if an engine cannot be opened."""
        failures = (worker.failure for worker in self._service.workers.values())
        self.failure = next((failure for failure in failures if failure is not None), None)
        return await super().on_tick(counter) or self.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what runs. Streams of events end first: they would never end by themselves."""
        self._service.events.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the block runs. Uvicorn's own way would end the process by the signal afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {signal.SIGINT: self._stop, signal.SIGTERM: self._stop, signal.SIGHUP: self._reread}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True

    def _reread(self, _number: int, _frame: FrameType | None) -> None:
        tokens = self._service.tokens
        if tokens is None:
            return
        try:
            tokens.reread()
        except RridEdgeError as error:  # the old tokens stay
            LOGGER.error("the token file was not read again: %s", error.message)
        else:
            log_event("tokens", "the token file was read again")


def serve(service: Service, listener: socket.socket, started: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM, or until an engine cannot be opened.

    Args:
        service: to serve; the caller closes it.
        listener: a bound socket; it is closed.
        started: called when requests are taken.

    Raises:
        RridEdgeError: an engine cannot be opened.
    """
    server = ServiceServer(service, started)
    with listener:
        server.run([listener])
    if server.failure is not None:
        raise server.failure
