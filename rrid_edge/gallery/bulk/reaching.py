"""Reaching a Ray cluster: whether anybody answers at its address, and what Ray must leave alone in this process."""

from __future__ import annotations

import functools
import re
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from rrid_edge.errors import UsageError, printable, unforeseen

_WAIT_S = 10.0
_ADDRESS = re.compile(r"(?:ray://)?(?P<host>[^/:\[\]]+|\[[^\]]+\]):(?P<port>[0-9]{1,5})")


def refuse_unreachable(address: str | None) -> None:
    """Refuse an address at which no server listens. Ray itself tries for minutes, then ends the process.

    Args:
        address: ``HOST:PORT``, ``ray://HOST:PORT``, ``auto``, ``local``, or None for Ray's own choice.

    Raises:
        UsageError: it has another form, or nobody answers within ten seconds.
    """
    if address is None or address in ("auto", "local"):
        return
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 65_536:
        raise UsageError(
            f"{printable(address)}: no address of a Ray cluster; expected ray://HOST:10001, HOST:6379, auto or local",
            parameter="address",
        )
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), _WAIT_S).close()
    except OSError as error:
        raise UsageError(
            f"{printable(address)}: no Ray cluster answers ({unforeseen(error)}); start one, or leave the address out",
            parameter="address",
        ) from error


def keeping_signals(call: Callable[..., object]) -> Callable[..., None]:
    """``call``, after which SIGINT and SIGTERM do what they did before. Ray's own handler aborts the process."""

    @functools.wraps(call)
    def kept(*arguments: Any, **named: Any) -> None:  # noqa: ANN401 - those of any call
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            call(*arguments, **named)
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in handlers.items():
                    signal.signal(number, handler)

    return kept
