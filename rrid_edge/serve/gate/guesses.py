"""A limit on wrong tokens per address. Nobody who works already is locked out."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from rrid_edge.serve.gate.problems import RequestError

MOST_ADDRESSES = 4096
"""Addresses that are remembered; the one that was quiet longest is dropped first."""
MOST_RIGHT = 64
"""Right tokens that are remembered per address, which may be a proxy's."""
_NETWORK_BITS = 64
"""A site has all addresses of an IPv6 network of this prefix."""


@dataclass
class _Asked:
    tries: float
    at_s: float
    right: OrderedDict[bytes, None]


class Guesses:
    """Counts wrong tokens per address. Tries come back with time.

    All clients of a proxy may share its address. A guesser there must not lock out the others: a token that was right
    from this address before is always looked at.

    Args:
        tries: wrong tokens that an address may send at once.
        back_s: seconds until one try comes back.
        clock: seconds that only grow.
    """

    def __init__(self, tries: int = 20, back_s: float = 3.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._tries, self._back_s, self._clock = tries, back_s, clock
        self._asked: OrderedDict[str, _Asked] = OrderedDict()
        self._lock = threading.Lock()

    def refuse_many(self, address: str, digest: bytes) -> None:
        """Refuse a token if its address has no tries left.

        Raises:
            RequestError: 429.
        """
        with self._lock:
            asked = self._asked.get(_site(address))
            if asked is None or digest in asked.right:
                return
            self._give_back(asked)
            if asked.tries >= 1:
                return
            wait_s = max(1, math.ceil((1 - asked.tries) * self._back_s))
        raise RequestError(
            f"too many wrong tokens came from this address: try again in {wait_s} s", status=429, retry_after_s=wait_s
        )

    def wrong(self, address: str) -> None:
        """Count a wrong token."""
        with self._lock:
            asked = self._of(address)
            self._give_back(asked)
            asked.tries -= 1

    def right(self, address: str, digest: bytes) -> None:
        """Remember a right token."""
        with self._lock:
            asked = self._of(address)
            asked.right[digest] = None
            asked.right.move_to_end(digest)
            if len(asked.right) > MOST_RIGHT:
                asked.right.popitem(last=False)

    def _of(self, address: str) -> _Asked:
        site = _site(address)
        asked = self._asked.setdefault(site, _Asked(self._tries, self._clock(), OrderedDict()))
        self._asked.move_to_end(site)
        if len(self._asked) > MOST_ADDRESSES:
            self._asked.popitem(last=False)
        return asked

    def _give_back(self, asked: _Asked) -> None:
        now_s = self._clock()
        asked.tries = min(float(self._tries), asked.tries + (now_s - asked.at_s) / self._back_s)
        asked.at_s = now_s


def _site(address: str) -> str:
    try:
        network = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if network.ipv4_mapped is not None:
        return str(network.ipv4_mapped)
    return str(ipaddress.IPv6Network((network, _NETWORK_BITS), strict=False))
