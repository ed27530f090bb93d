"""The settings of the service."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rrid_edge.errors import UsageError, printable

_ROOT_PATH: Final = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
LOG_FORMS: Final = ("text", "json")


@dataclass(frozen=True)
class ServeSettings:
    """How the service runs.

    Attributes:
        galleries: folders or Milvus addresses, as the user gave them; at least one.
        model: the model file of all galleries; None takes the one that each gallery was indexed with.
        host: address to listen at. Without a token file it must be of the loopback.
        port: TCP port; 0 takes a free one.
        token_file: file of tokens and roles, or None: everybody on this machine is an administrator.
        root_path: path under which a proxy serves the service, for example ``/reid``; empty for the root.
        watch: follow the folders of the galleries, and add new crops.
        read_only: refuse every request that changes a gallery.
        max_upload_bytes: largest accepted body.
        queue: images that may wait for one engine, or be decoded for it.
        log: form of the log lines, one of :data:`LOG_FORMS`.
        deadline_s: seconds after which a request is answered with 504.
        most_pixels: largest width x height of an uploaded image.
        most_images: images per request.
        runtime: of the engines; see :func:`rrid_edge.open_engine`.
        precision: arithmetic of the engines; see :func:`rrid_edge.open_engine`.
        threads: CPU threads per engine; 0 lets the runtime choose.

    Raises:
        UsageError: a value is out of range.
    """

    galleries: tuple[str, ...]
    model: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8760
    token_file: Path | None = None
    root_path: str = ""
    watch: bool = False
    read_only: bool = False
    max_upload_bytes: int = 20 << 20
    queue: int = 64
    log: str = "text"
    deadline_s: float = 30.0
    most_pixels: int = 32_000_000
    most_images: int = 8
    runtime: str = "auto"
    precision: str | None = None
    threads: int = 0

    def __post_init__(self) -> None:
        if not self.galleries:
            raise UsageError("no gallery is given: expected at least one folder or Milvus address")
        for name, lowest in (("max_upload_bytes", 1), ("queue", 1), ("most_images", 1), ("most_pixels", 1)):
            if getattr(self, name) < lowest:
                raise UsageError(
                    f"{name} {getattr(self, name)} does not work: expected at least {lowest}", parameter=name
                )
        if not 0 <= self.port <= 65535:
            raise UsageError(f"port {self.port} does not work: expected 0 to 65535", parameter="port")
        if self.log not in LOG_FORMS:
            raise UsageError(f"log {self.log!r} is unknown: expected one of {', '.join(LOG_FORMS)}", parameter="log")
        if self.root_path and not _ROOT_PATH.fullmatch(self.root_path):
            raise UsageError(
                f"root path {self.root_path!r} does not work: expected a path such as /reid", parameter="root_path"
            )
        if self.token_file is None and not is_loopback(self.host):
            raise UsageError(
                f"host {printable(self.host)!r} without a token file: other machines could search for people; expected "
                "127.0.0.1, or a token file",
                parameter=("host", "token_file"),
            )
        if self.read_only and self.watch:
            raise UsageError(
                "read_only and watch exclude each other: following a folder writes its gallery; leave one out",
                parameter=("read_only", "watch"),
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address: ``localhost``, 127.0.0.0/8 or ::1. Other names may change."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
