"""Clients of a service under load: connections that stay open. One loop serves all, so that they cost little."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_WARM_S = 2.0


@dataclass
class Load:
    """What the clients saw.

    Attributes:
        times_s: of answers with status 200, all of them.
        codes: number of answers by status.
        counted: answers with status 200 within the counted time.
        seconds: the counted time: the first and the last moments, with fewer requests on their way, are left out.
        asked: requests that were answered at all, counted or not.
        client_cpu_s: CPU time of the clients for all of them.
        service_cpu_s: CPU time of the service for all of them.
    """

    times_s: list[float] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)
    counted: int = 0
    seconds: float = 0.0
    asked: int = 0
    client_cpu_s: float = 0.0
    service_cpu_s: float = 0.0

    @property
    def p50_ms(self) -> float:
        """Median time of an answer in milliseconds."""
        return float(np.median(self.times_s)) * 1000

    @property
    def per_s(self) -> float:
        """Answers per second."""
        return self.counted / self.seconds


def search_request(picture: bytes) -> bytes:
    """The bytes of one search over HTTP/1.1."""
    part = b'--x\r\nContent-Disposition: form-data; name="images"; filename="q.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = part + picture + b"\r\n--x--\r\n"
    head = (
        "POST /api/v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def ask(served: tuple[int, int], requests: list[bytes], clients: int, load: Load, seconds: float) -> None:
    """Let some clients ask one search after the other for so long; all send different pictures in turn.

    Args:
        served: port and process id of the service.
        requests: to send.
        clients: connections.
        load: receives what they saw.
        seconds: counted time, after a warm-up.
    """
    port, process = served
    load.seconds += seconds
    before = time.process_time(), cpu_s(process)
    counts_from = time.perf_counter() + _WARM_S
    span = counts_from, counts_from + seconds
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        own = [stack.enter_context(_Client(port, requests[number % len(requests) :])) for number in range(clients)]
        for one in own:
            one.ask(selector)
        running = len(own)
        while running:
            for key, _ in selector.select():
                client: _Client = key.data
                if client.has_answer(load, span):
                    selector.unregister(client.socket)
                    running -= time.perf_counter() >= span[1]
                    if time.perf_counter() < span[1]:
                        client.ask(selector)
    load.client_cpu_s += time.process_time() - before[0]
    load.service_cpu_s += cpu_s(process) - before[1]


class _Client:
    """One connection.

    Args:
        port: of the service.
        requests: to send in turn.
    """

    def __init__(self, port: int, requests: list[bytes]) -> None:
        self._port, self._requests = port, requests
        self._number, self._begun_s = 0, 0.0
        self._got = b""
        self.socket = socket.create_connection(("127.0.0.1", port))

    def ask(self, selector: selectors.BaseSelector) -> None:
        """Send the next request."""
        selector.register(self.socket, selectors.EVENT_READ, self)
        self._got, self._begun_s = b"", time.perf_counter()
        self.socket.sendall(self._requests[self._number % len(self._requests)])
        self._number += 1

    def has_answer(self, load: Load, span: tuple[float, float]) -> bool:
        """Take what has arrived; whether that completes the answer, which is counted then."""
        part = self.socket.recv(1 << 20)
        if not part:
            raise SystemExit("the service closed a connection before it had answered")
        self._got += part
        head, _, body = self._got.partition(b"\r\n\r\n")
        head = head.lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        if not length or len(body) < int(length):
            return False
        ended, code = time.perf_counter(), int(head[9:12])
        load.codes[code] += 1
        load.asked += 1
        if code == 200:
            load.times_s.append(ended - self._begun_s)
            load.counted += span[0] <= ended < span[1]
            if len(load.times_s) == 1:
                json.loads(body)
        if b"connection: close" in head:
            self.socket.close()
            self.socket = socket.create_connection(("127.0.0.1", self._port))
        return True

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def cpu_s(process: int) -> float:
    """CPU time of a process in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
