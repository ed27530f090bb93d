"""Whether anybody answers at the address of a Ray cluster. Ray itself tries for minutes, then ends the process."""

from __future__ import annotations

import re
import socket

from rrid_edge.errors import UsageError, printable, unforeseen

_WAIT_S = 10.0
_ADDRESS = re.compile(r"(?:ray://)?(?P<host>[^/:\[\]]+|\[[^\]]+\]):(?P<port>[0-9]{1,5})")


def refuse_unreachable(address: str | None) -> None:
    """Refuse an address at which no server listens.

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
