"""The connection to Milvus: where it lies, the token, time limits, and one clear line for whatever goes wrong.

Every call has a time limit, and is repeated inside that limit while the server is away (a query node that dies is replaced
within some 15 s). After it there is a line, and the command ends: nothing waits for ever. ``pymilvus`` logs whole tracebacks
of the errors that it raises; that is silenced here, since the line says it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rrid_edge.errors import (
    GalleryError,
    GalleryMissingError,
    GalleryUnavailableError,
    MissingDependencyError,
    UsageError,
    printable,
)

TOKEN_VARIABLE = "RRID_EDGE_MILVUS_TOKEN"  # noqa: S105 - the name of the variable
TIMEOUT_VARIABLE = "RRID_EDGE_MILVUS_TIMEOUT_S"
TIMEOUT_S = 60.0
"""Of one call, longer than the 15 s that a dying query node stalls a cluster."""
CONNECT_S = 10.0
_PAUSE_S = 1.0
_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_FORMS = "expected milvus+http://HOST:19530/COLLECTION, milvus+https://... or milvus+file:NAME.db/COLLECTION"
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


@dataclass(frozen=True)
class MilvusAddress:
    """Where a gallery lies in Milvus.

    Attributes:
        uri: as ``pymilvus`` takes it: ``http://host:19530``, or the path of a Milvus Lite file.
        collection: that holds the gallery.
        text: the address as the user gave it.
    """

    uri: str
    collection: str
    text: str

    @classmethod
    def parse(cls, text: str) -> MilvusAddress:
        """Read an address.

        Raises:
            UsageError: no address of Milvus, or one that carries a password.
        """
        scheme, _, rest = text.partition(":")
        if scheme == "milvus+file":
            uri, _, collection = rest.rpartition("/")
            sound = uri.endswith(".db") and Path(uri).name != ".db"
        else:
            parts = urlsplit(text)
            if parts.username is not None or parts.password is not None:
                raise UsageError(
                    f"an address must not carry a password: set {TOKEN_VARIABLE} (token, or user:password)"
                )
            uri, collection = f"{scheme.removeprefix('milvus+')}://{parts.netloc}", parts.path.removeprefix("/")
            sound = scheme in ("milvus+http", "milvus+https") and bool(parts.hostname) and not parts.query
            sound = sound and not parts.fragment and _has_sound_port(text)
        if not sound or not collection:
            raise UsageError(f"{printable(text)}: no address of a gallery; {_FORMS}")
        if not _COLLECTION.fullmatch(collection):
            raise UsageError(
                f"{printable(text)}: {printable(collection)!r} is no name of a collection; expected letters, digits and _ "
                "after the last /"
            )
        return cls(uri, collection, text)

    @property
    def is_file(self) -> bool:
        """Whether it is a file of Milvus Lite."""
        return self.text.startswith("milvus+file:")

    def __str__(self) -> str:
        return self.text


class Connection:
    """One client of one collection.

    Args:
        address: where to.

    Attributes:
        address: as given.
        timeout_s: of one call; ``RRID_EDGE_MILVUS_TIMEOUT_S``, else :data:`TIMEOUT_S`.

    Raises:
        MissingDependencyError: ``pymilvus`` (or, for a file, ``milvus-lite``) is not installed.
        GalleryUnavailableError: the server is down or slow.
        GalleryError: it refuses the token.
    """

    def __init__(self, address: MilvusAddress) -> None:
        self.address = address
        self.timeout_s = _timeout_s()
        client_class = _client_class(address)
        token = os.environ.get(TOKEN_VARIABLE, "")
        limit_s = min(CONNECT_S, self.timeout_s)
        begun = time.monotonic()
        try:
            self._client = client_class(address.uri, token=token, timeout=limit_s, dedicated=True)
        except Exception as error:  # pymilvus raises its own, gRPC's and Python's
            slow = time.monotonic() - begun >= 0.9 * limit_s
            raise self._translated(error, "connect", limit_s, slow=slow) from error

    def call(self, method: str, *arguments: Any, wait_s: float | None = None, **options: Any) -> Any:  # noqa: ANN401
        """Call a method of the client with the collection first.

        Args:
            method: of ``pymilvus.MilvusClient``.
            arguments: after the collection's name.
            wait_s: time limit if not :attr:`timeout_s`.
            options: passed on.

        Raises:
            GalleryError: whatever the server or the network says, in one line.
        """
        limit_s = self.timeout_s if wait_s is None else wait_s
        deadline = time.monotonic() + limit_s
        while True:
            left_s = max(0.1, deadline - time.monotonic())
            try:
                return getattr(self._client, method)(self.address.collection, *arguments, timeout=left_s, **options)
            except Exception as error:
                translated = self._translated(error, method.replace("_", " "), limit_s)
                # Every call may be repeated; a dying query node refuses some outright until another takes over.
                if not isinstance(translated, GalleryUnavailableError) or time.monotonic() + _PAUSE_S > deadline:
                    raise translated from error
            time.sleep(_PAUSE_S)

    def compaction_state(self, job: int) -> str:
        """``Executing`` or ``Completed``."""
        try:
            return str(self._client.get_compaction_state(job, timeout=self.timeout_s))
        except Exception as error:
            raise self._translated(error, "compact", self.timeout_s) from error

    def index_parameters(self) -> Any:  # noqa: ANN401
        """An empty description of indexes."""
        return self._client.prepare_index_params()

    def close(self) -> None:
        """Free the connection; safe to call twice."""
        self._client.close()

    def _translated(self, error: Exception, what: str, limit_s: float, *, slow: bool = False) -> GalleryError:
        text = _one_line(error)
        low = text.lower()
        if isinstance(error.__cause__, Exception):  # why a connection failed stands there alone
            low += " " + _one_line(error.__cause__).lower()
        where = printable(self.address.text)
        if any(word in low for word in _REFUSED) or getattr(error, "code", None) in (1400, 1401, 1402):
            return GalleryError(f"{where}: Milvus refuses the token; set {TOKEN_VARIABLE} (a token, or user:password)")
        if slow or (any(word in low for word in _SLOW) and "unavailable" not in low):
            return GalleryUnavailableError(
                f"{where}: Milvus does not answer ({what}, {limit_s:g} s); look at the server, or give it more time with "
                f"{TIMEOUT_VARIABLE}; what was stored is kept: run the command again"
            )
        if any(word in low for word in _AWAY):
            return GalleryUnavailableError(
                f"{where}: Milvus cannot be reached ({what}); start the server or mend the address; what was stored is "
                "kept: run the command again"
            )
        if any(word in low for word in _GONE) or getattr(error, "code", None) == 100:
            return GalleryMissingError(
                f"{where}: there is no such collection, or it was dropped meanwhile; make it with: rrid-edge index FOLDER "
                "--gallery ADDRESS"
            )
        return GalleryError(f"{where}: Milvus refuses to {what} ({text[:300]}); see the server's log")


def _client_class(address: MilvusAddress) -> Any:  # noqa: ANN401
    """``pymilvus.MilvusClient``, imported when it is needed."""
    try:
        from pymilvus import MilvusClient
    except ModuleNotFoundError as error:
        raise MissingDependencyError.for_package(error.name or "pymilvus", "milvus", "a gallery in Milvus") from error
    if address.is_file and importlib.util.find_spec("milvus_lite") is None:
        raise MissingDependencyError(
            "a gallery in a file of Milvus Lite needs the package 'milvus-lite', which is not installed: "
            "pip install milvus-lite"
        )
    for name in ("pymilvus", "milvus_lite"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    if address.is_file:
        Path(address.uri).parent.mkdir(parents=True, exist_ok=True)
    return MilvusClient


def _timeout_s() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        value = float(text or TIMEOUT_S)
    except ValueError:
        value = 0.0
    if not 0 < value < 86_400:
        raise UsageError(f"{TIMEOUT_VARIABLE}={text!r} does not work: expected seconds, for example 60")
    return value


def _has_sound_port(text: str) -> bool:
    try:
        return urlsplit(text).port != 0
    except ValueError:
        return False


def _one_line(error: Exception) -> str:
    """What an error says, without the classes and codes that wrap it."""
    text = str(getattr(error, "message", "") or error)
    code = getattr(error, "code", None)
    if callable(code):  # gRPC's own errors, which pymilvus lets through
        text = f"{code()} {error.details()}"  # type: ignore[attr-defined]
    elif code is not None and not isinstance(code, int):
        text = f"{code} {text}"
    return " ".join(text.split())
