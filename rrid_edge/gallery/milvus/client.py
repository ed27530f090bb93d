"""The connection to Milvus: address, token, time limits and one-line errors.

Every call has a time limit. While the server is away, the call is repeated within that limit; then it raises a one-line
error.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
import os
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import Self

from rrid_edge.errors import (
    ClosedError,
    GalleryError,
    GalleryMissingError,
    GalleryUnavailableError,
    MissingDependencyError,
    UsageError,
    printable,
)
from rrid_edge.gallery.milvus.address import TOKEN_VARIABLE, MilvusAddress, without_token
from rrid_edge.machine.advice import missing_package

TIMEOUT_VARIABLE = "RRID_EDGE_MILVUS_TIMEOUT_S"
TIMEOUT_S = 60.0
"""Seconds per call. A dying query node stalls a cluster for about 15 s, so the limit is longer."""
CONNECT_S = 10.0
"""Seconds for the first connection."""
_PAUSE_S = 1.0
_NO_PINGS = {"grpc.keepalive_time_ms": 2**31 - 1, "grpc.keepalive_permit_without_calls": 0}
"""pymilvus pings every 10 s. After two idle minutes the server of a Milvus Lite file closes a connection that does."""
_GONE = (
    "collection not found",
    "does not exist",
    "can't find collection",
    "not found[collection",
)
_REFUSED = ("auth check failure", "unauthenticated", "permission deny", "permissiondenied", "privilege")
_AWAY = (
    "unavailable",
    "fail connecting",
    "connection refused",
    "shard",
    "offline",
    "leader not avail",
    "lacks[",
    "lasthb",
    "delegator",
    "not healthy",
    "not ready",
    "not loaded",
    "not fully loaded",
)
_SLOW = ("deadline", "timeout", "timed out")


class Connection:
    """A client of one collection.

    Args:
        address: the collection.
        creates: a file of Milvus Lite is made if it is missing.

    Attributes:
        address: as given.
        timeout_s: seconds per call: ``RRID_EDGE_MILVUS_TIMEOUT_S``, else :data:`TIMEOUT_S`.

    Raises:
        MissingDependencyError: ``pymilvus`` is not installed, or ``milvus-lite`` for a file.
        GalleryMissingError: the file of Milvus Lite does not exist.
        GalleryUnavailableError: the server is down or slow.
        GalleryError: the server refuses the token.
    """

    def __init__(self, address: MilvusAddress, *, creates: bool = False) -> None:
        self.address = address
        self.timeout_s = _timeout_s()
        self._closed = threading.Event()
        self._token = os.environ.get(TOKEN_VARIABLE, "")
        client_class = _client_class(address)
        if address.is_file:
            _prepare_file(address, creates=creates)
        self._client = self._connected(client_class)

    def sibling(self, collection: str) -> Self:
        """This connection for another collection of the server; closing one closes both."""
        other = copy.copy(self)
        other.address = replace(self.address, collection=collection)
        return other

    def refuse_closed(self) -> None:
        """Refuse a closed connection.

        Raises:
            ClosedError: :meth:`close` was called.
        """
        if self._closed.is_set():
            raise ClosedError(f"the gallery {printable(self.address.text)}")

    def call(self, method: str, *arguments: Any, wait_s: float | None = None, **options: Any) -> Any:  # noqa: ANN401
        """Call a method of the client, with the collection's name as first argument.

        Args:
            method: name of a method of ``pymilvus.MilvusClient``.
            arguments: arguments after the collection's name.
            wait_s: time limit in seconds; None means :attr:`timeout_s`.
            options: keyword arguments of the method.

        Raises:
            ClosedError: the connection was closed.
            GalleryUnavailableError: the server is down or slow.
            GalleryMissingError: the collection does not exist.
            GalleryError: the server refused the call.
        """
        limit_s = self.timeout_s if wait_s is None else wait_s
        deadline = time.monotonic() + limit_s
        while True:
            self.refuse_closed()
            remaining_s = max(0.1, deadline - time.monotonic())
            try:
                call = getattr(self._client, method)
                return call(self.address.collection, *arguments, timeout=remaining_s, **options)
            except Exception as error:
                self.refuse_closed()  # another thread closed it meanwhile
                translated = self._translated(error, method.replace("_", " "), limit_s)
                # All calls are idempotent. A dying query node refuses some calls until another node replaces it.
                if not isinstance(translated, GalleryUnavailableError) or time.monotonic() + _PAUSE_S > deadline:
                    raise translated from self._cause(error)
            time.sleep(_PAUSE_S)

    def compaction_state(self, job: int) -> str:
        """State of a compaction job: ``Executing`` or ``Completed``."""
        try:
            return str(self._client.get_compaction_state(job, timeout=self.timeout_s))
        except Exception as error:
            raise self._translated(error, "compact", self.timeout_s) from self._cause(error)

    def index_parameters(self) -> Any:  # noqa: ANN401
        """Empty index parameters, as ``pymilvus`` takes them."""
        return self._client.prepare_index_params()

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._closed.set()
        self._client.close()

    def _connected(self, client_class: Any) -> Any:  # noqa: ANN401
        """A client. A server that is away is asked again within the limit, for it may be starting."""
        limit_s = min(CONNECT_S, self.timeout_s)
        start_s = time.monotonic()
        options = {"grpc_options": _NO_PINGS} if self.address.is_file else {}
        while True:
            begun_s = time.monotonic()
            left_s = limit_s - (begun_s - start_s)
            try:
                return client_class(self.address.uri, token=self._token, timeout=left_s, dedicated=True, **options)
            except Exception as error:  # pymilvus raises its own exceptions, gRPC's and Python's
                now_s = time.monotonic()
                waited_s, was_slow = now_s - start_s, now_s - begun_s >= 0.9 * left_s
                translated = self._translated(error, "connect", limit_s, timed_out=was_slow)
                is_last = waited_s + _PAUSE_S >= 0.9 * limit_s
                if is_last or not isinstance(translated, GalleryUnavailableError):
                    raise translated from self._cause(error)
            time.sleep(_PAUSE_S)

    def _cause(self, error: Exception) -> Exception | None:
        """The cause of a translated error, or None where its text repeats the token: tracebacks show causes."""
        texts = "".join(traceback.format_exception(error))
        return error if without_token(texts, self._token) == texts else None

    def _translated(self, error: Exception, action: str, limit_s: float, *, timed_out: bool = False) -> GalleryError:
        """The error of this package for an exception of ``pymilvus``."""
        text = _one_line(error)
        lower = text.lower()
        if isinstance(error.__cause__, Exception):  # only the cause says why a connection failed
            lower += " " + _one_line(error.__cause__).lower()
        where = printable(self.address.text)
        if any(word in lower for word in _REFUSED) or getattr(error, "code", None) in (1400, 1401, 1402):
            return GalleryError(f"{where}: Milvus refuses the token; set {TOKEN_VARIABLE} to a token or user:password")
        if timed_out or (any(word in lower for word in _SLOW) and "unavailable" not in lower):
            kept = "" if action == "connect" else "; stored rows are kept: run the command again"
            return GalleryUnavailableError(
                f"{where}: Milvus does not answer ({action}, {limit_s:g} s); check the server, or raise "
                f"{TIMEOUT_VARIABLE}{kept}"
            )
        if any(word in lower for word in _AWAY):
            remedy = f"{where}: Milvus cannot be reached; start the server or correct the address"
            kept = "" if action == "connect" else f"; stored rows are kept ({action}): run the command again"
            return GalleryUnavailableError(remedy + kept)
        if any(word in lower for word in _GONE) or getattr(error, "code", None) == 100:
            return GalleryMissingError(
                f"{where}: no such collection, or it was dropped meanwhile; create it with: rrid-edge index FOLDER "
                "--gallery ADDRESS"
            )
        return GalleryError(
            f"{where}: Milvus refuses to {action} ({without_token(text, self._token)[:300]}); see the server's log"
        )


def _client_class(address: MilvusAddress) -> Any:  # noqa: ANN401
    """``pymilvus.MilvusClient``, imported on first use.

    Its loggers are silenced: they print tracebacks of raised errors.
    """
    try:
        from pymilvus import MilvusClient
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "pymilvus", "milvus", "a gallery in Milvus") from error
    if address.is_file and importlib.util.find_spec("milvus_lite") is None:
        raise MissingDependencyError(
            "a gallery in a Milvus Lite file needs the package 'milvus-lite', which is not installed: "
            "pip install milvus-lite"
        )
    for name in ("pymilvus", "milvus_lite"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return MilvusClient


def _prepare_file(address: MilvusAddress, *, creates: bool) -> None:
    """See that a client of Milvus Lite makes no file that nobody asked for."""
    file = Path(address.uri)
    if creates:
        file.parent.mkdir(parents=True, exist_ok=True)
    elif not file.exists():
        raise GalleryMissingError(
            f"{printable(address.text)}: no such file of Milvus Lite; create it with: rrid-edge index FOLDER "
            "--gallery ADDRESS"
        )


def _timeout_s() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        value = float(text or TIMEOUT_S)
    except ValueError:
        value = 0.0
    if not 0 < value < 86_400:
        raise UsageError(
            f"{TIMEOUT_VARIABLE}={text!r} does not work: expected seconds above 0 and below 86,400, such as 60"
        )
    return value


def _one_line(error: Exception) -> str:
    """Code and message of an error on one line."""
    text = str(getattr(error, "message", "") or error)
    code = getattr(error, "code", None)
    if callable(code):  # a gRPC error that pymilvus did not wrap
        text = f"{code()} {error.details()}"  # type: ignore[attr-defined]
    elif code is not None and not isinstance(code, int):
        text = f"{code} {text}"
    return " ".join(text.split())
