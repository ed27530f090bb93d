"""Uvicorn's HTTP/1.1 protocol, with limits on connections, headers and readers that stall, and one-line errors."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from rrid_edge.serve.gate.headers import with_default_headers
from rrid_edge.serve.gate.limits import GateLimits
from rrid_edge.serve.gate.problems import problem_response
from rrid_edge.serve.gate.scopes import given

_LOG = logging.getLogger("rrid_edge.serve")
_NO_ANSWER_YET: Final = (h11.IDLE, h11.SEND_RESPONSE)


def gate_protocol(limits: GateLimits) -> type[asyncio.Protocol]:
    """The class for Uvicorn's option ``http``."""
    return type("GateProtocol", (GateProtocol,), {"limits": limits})


class GateProtocol(H11Protocol):
    """One connection.

    Attributes:
        limits: of this connection.
    """

    limits = GateLimits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as Uvicorn calls it
        super().__init__(*args, **kwargs)
        self._headers_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.most_connections:
            self._refuse(503, f"{self.limits.most_connections} connections are open: try again later", retry_after_s=5)
            return
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._stop(self._headers_timer)
        self._stop(self._stall_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes. Uvicorn itself would wait for the end of the headers without a limit."""
        super().data_received(data)
        if self._is_between_requests():
            self._expect_headers()
        else:
            self._stop(self._headers_timer)
            self._headers_timer = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP. Uvicorn calls this while it handles h11's error."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self._refuse(status, f"the request is no HTTP/1.1 ({given(error or msg)}): expected a request of one")

    def pause_writing(self) -> None:
        """Give a client that does not read a limited time."""
        super().pause_writing()
        self._stop(self._stall_timer)
        self._stall_timer = self.loop.call_later(self.limits.stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on after a client has read."""
        self._stop(self._stall_timer)
        self._stall_timer = None
        super().resume_writing()

    def _should_upgrade(self) -> bool:
        return False  # Uvicorn would log two warnings per request

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _expect_headers(self) -> None:
        if self._headers_timer is None and not self.transport.is_closing():
            self._headers_timer = self.loop.call_later(self.limits.headers_s, self._refuse_slow_headers)

    def _refuse_slow_headers(self) -> None:
        self._headers_timer = None
        if self._is_between_requests():
            self._refuse(408, f"no whole request arrived within {self.limits.headers_s:g} s: expected one at once")

    def _refuse(self, status: int, detail: str, retry_after_s: int | None = None) -> None:
        """Answer without an application, if no answer has begun, and close the connection."""
        if self.transport.is_closing():
            return
        if self.conn.our_state in _NO_ANSWER_YET:
            headers = (
                {"Connection": "close"}
                if retry_after_s is None
                else {"Connection": "close", "Retry-After": str(retry_after_s)}
            )
            response = problem_response(status, detail, "/", headers)
            lines = with_default_headers(response.raw_headers, b"no-store")
            head = h11.Response(status_code=status, headers=lines, reason=b"")
            for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    @staticmethod
    def _stop(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
