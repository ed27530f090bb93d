"""What outlives a rebuild: the forgotten contents, and the facts that users chose.

While a gallery is rebuilt they lie in a file beside it, so that a kill between its removal and its new beginning does
not bring forgotten people back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from rrid_edge.artefacts import LARGE_BYTES, Artefact
from rrid_edge.crops.naming import name_reader
from rrid_edge.crops.times import check_time_source
from rrid_edge.errors import GalleryError, UsageError, printable
from rrid_edge.files import PRIVATE_MODE, atomic_output, user_state_folder
from rrid_edge.gallery.contract import GalleryStore


@dataclass(frozen=True)
class _Facts:
    """The facts that users chose; empty where they did not."""

    pattern: str = ""
    time_from: str = ""
    retention_s: Annotated[str, Meta(pattern=r"\A[0-9]{0,18}\Z")] = ""
    model: str = ""


@dataclass(frozen=True)
class _Stored:
    """The content of the file."""

    facts: _Facts
    forgotten: str


_NAMES = tuple(field.name for field in fields(_Facts))
_KEPT = Artefact(
    "record of what the rebuilt gallery keeps",
    _Stored,
    "restore the file, or delete it to let forgotten people be indexed again",
    GalleryError,
    most_bytes=LARGE_BYTES,  # a digest per forgotten content
)


@dataclass(frozen=True)
class Kept:
    """What a gallery keeps.

    Attributes:
        facts: pattern, source of times, retention and model, as stores remember them.
        forgotten: see :meth:`rrid_edge.gallery.contract.GalleryStore.kept_out_state`.
    """

    facts: dict[str, str]
    forgotten: str

    @classmethod
    def of(cls, store: GalleryStore) -> Kept:
        """What a store keeps."""
        info = store.info()
        retention = "" if info.retention_s is None else str(info.retention_s)
        return cls(
            dict(zip(_NAMES, (info.pattern, info.time_from, retention, info.model), strict=True)),
            store.kept_out_state(),
        )


def kept_file(location: object) -> Path:
    """The file of what a gallery keeps while it is rebuilt.

    Args:
        location: folder of the index, or an address.
    """
    if isinstance(location, Path):
        return location / "kept.json"
    return user_state_folder() / f"kept-{hashlib.sha256(str(location).encode()).hexdigest()[:16]}.json"


def save(location: object, kept: Kept) -> None:
    """Write what a gallery keeps before it is removed.

    Raises:
        OutputError: the file cannot be written.
    """
    file = kept_file(location)
    with atomic_output(file, PRIVATE_MODE) as partial:
        partial.write_text(json.dumps({"facts": kept.facts, "forgotten": kept.forgotten}), encoding="utf-8")


def load(location: object) -> Kept | None:
    """What a gallery keeps whose rebuild was interrupted, or None.

    Raises:
        GalleryError: the file is damaged or cannot be read.
    """
    file = kept_file(location)
    try:
        kept = _KEPT.read(file)
    except FileNotFoundError:
        return None
    try:  # a gallery with a pattern that does not work could not be opened again
        name_reader(kept.facts.pattern or "auto")
        check_time_source(kept.facts.time_from or "name")
    except UsageError as error:
        raise _KEPT.damaged(printable(file), error.message) from error
    return Kept(asdict(kept.facts), kept.forgotten)


def restore(location: object, store: GalleryStore) -> None:
    """Give a rebuilt gallery what the removed one kept; does nothing if there is no such file.

    Args:
        location: of the gallery.
        store: open for writing.

    Raises:
        GalleryError: the file is damaged or cannot be read.
    """
    kept = load(location)
    if kept is None:
        return
    own = Kept.of(store)  # a kill before the file was deleted leaves a gallery that has all of it already
    try:
        if kept.forgotten and not own.forgotten:
            store.restore_kept_out(kept.forgotten)
        store.remember({name: value for name, value in kept.facts.items() if value and not own.facts[name]})
    except UsageError as error:
        raise _KEPT.damaged(printable(kept_file(location)), error.message) from error
    with contextlib.suppress(FileNotFoundError):
        kept_file(location).unlink()
