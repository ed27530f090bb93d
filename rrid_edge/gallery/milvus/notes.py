"""What several writers of one gallery note beside its rows: forgotten contents, and files that could not be read.

The notes are entities of a second collection, ``COLLECTION_notes``, which is made when the first note is written. Each
note is an entity of its own, so no writer overwrites another's. Forgotten contents are kept as HMAC-SHA256 digests; the
key is a property of the collection.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import GalleryError, UsageError
from rrid_edge.gallery.milvus.bound import Bound, LowerBound
from rrid_edge.gallery.milvus.client import Connection
from rrid_edge.gallery.milvus.making import create_index, create_unless_exists, is_loaded, load
from rrid_edge.gallery.milvus.rows import Entity, Reader
from rrid_edge.gallery.milvus.schema import (
    KEY,
    TEXT_CHARACTERS,
    VECTOR,
    decode_text,
    encode_text,
    file_key,
    names_expression,
)
from rrid_edge.gallery.milvus.writing import Writer
from rrid_edge.gallery.shared import parse_kept_out
from rrid_edge.model.spec import HEX64

_TEXTS = {KEY: 64, "source": TEXT_CHARACTERS, "path": TEXT_CHARACTERS}
_INTEGERS = ("kind", "size", "mtime_ns")
_KEPT_OUT, _UNREADABLE = 0, 1
_PREFIX = "rrid.notes."
_ROW_BYTES = 1024


@dataclass(frozen=True)
class _Properties:
    key: Annotated[str, Meta(pattern=HEX64)]


_PROPERTIES = Artefact(
    "notes of a gallery of rrid-edge",
    _Properties,
    "rename this collection, or name another collection for the gallery",
    GalleryError,
)


class Notes:
    """The notes of one gallery.

    Args:
        connection: to the gallery's collection.
        replicas: replicas in the memory of query nodes.
    """

    def __init__(self, connection: Connection, replicas: int = 1) -> None:
        name = connection.address.collection
        if len(name) > 200:  # Milvus allows 255 characters
            name = f"{name[:200]}_{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        self._connection = connection.sibling(f"{name}_notes")
        self._replicas = replicas
        self._lock = threading.RLock()
        self._secret = b""
        self._reader = Reader(self._connection, (*_TEXTS, *_INTEGERS), 2, lambda _age_s: self._bound().rows)
        bound = LowerBound(_PREFIX, self._bound, self._alter)
        self._writer = Writer(self._connection, self._reader, bound, _ROW_BYTES)

    def kept_out(self, digests: Iterable[str]) -> set[str]:
        """Those of some contents (SHA-256, hex) that were forgotten."""
        if not self._open():
            return set()
        self._reader.count_all()  # refuses while a query node is missing, which could let a person in; reads the key
        keys = {self._keyed(digest): digest for digest in digests}
        return {keys[key] for key in self._reader.by_keys(keys, self._reader.scalars)}

    def keep_out(self, digests: Iterable[str]) -> None:
        """Note forgotten contents (SHA-256, hex)."""
        wanted = sorted(set(digests) - {""})
        if wanted:
            self._make()
            self._bound()
            self._writer.upsert([_kept_out(self._keyed(digest)) for digest in wanted])
            self._writer.measure()

    def unforget(self, digests: Iterable[str] | None) -> int:
        """Delete the notes of some forgotten contents, or of all; returns how many there were."""
        if not self._open():
            return 0
        self._bound()
        if digests is None:
            keys = self._kept_out_keys()
        else:
            keys = sorted(self._reader.by_keys(map(self._keyed, digests), self._reader.scalars))
        self._writer.delete(keys)
        return len(keys)

    def kept_out_state(self) -> str:
        """The key and digests as text; empty if nothing was forgotten."""
        keys = self._kept_out_keys() if self._open() else []
        return json.dumps({"key": self._secret.hex(), "digests": list(map(_base64, keys))}) if keys else ""

    def restore(self, state: str) -> None:
        """Take over a state of :meth:`kept_out_state`.

        Raises:
            UsageError: the state is damaged, or this gallery has forgotten contents of its own.
        """
        if not state:
            return
        found = parse_kept_out(state)
        self._make()
        if self._secret.hex() != found.key:
            if self._kept_out_keys():
                raise UsageError(
                    f"{self._connection.address}: this gallery has forgotten other contents already; expected a new one"
                )
            self._alter({f"{_PREFIX}key": found.key})
            self._secret = bytes.fromhex(found.key)
        self._writer.upsert([_kept_out(digest.hex()) for digest in found.digests])
        self._writer.measure()

    def unreadable(self, source: str) -> dict[str, tuple[int, int]]:
        """Files of a source that could not be read, by path: size (bytes) and modification time (ns)."""
        return {
            path: (int(entity["size"]), int(entity["mtime_ns"]))
            for entity in (self._of_kind(_UNREADABLE, source) if self._open() else [])
            if (path := decode_text(entity["path"])) is not None
        }

    def set_unreadable(self, source: str, files: Mapping[str, tuple[int, int]]) -> None:
        """Replace the unreadable files of a source."""
        before = self.unreadable(source)
        changed = {path: facts for path, facts in files.items() if before.get(path) != facts}
        if changed:
            self._make()
            self._writer.upsert([_unreadable(source, path, facts) for path, facts in changed.items()])
        gone = before.keys() - files.keys()
        if gone:
            self._writer.delete([_unreadable_key(source, path) for path in gone])

    def compact(self, compact_segments: Callable[[Connection], None]) -> None:
        """Compact the notes, if there are any."""
        if self._open():
            compact_segments(self._connection)

    def drop(self) -> None:
        """Drop the notes, if there are any."""
        if self._connection.call("has_collection"):
            self._connection.call("drop_collection")

    def _kept_out_keys(self) -> list[str]:
        return sorted(entity[KEY] for entity in self._of_kind(_KEPT_OUT))

    def _of_kind(self, kind: int, source: str | None = None) -> list[Entity]:
        expression = f"kind == {kind}"
        if source is not None:
            expression += " and " + (names_expression("source", [source]) or f'{KEY} == ""')
        return [entity for page in self._reader.entities(self._reader.scalars, expression) for entity in page]

    def _keyed(self, digest: str) -> str:
        return hmac.new(self._secret, digest.lower().encode(), hashlib.sha256).hexdigest()

    def _open(self) -> bool:
        """Whether there are notes. Loads them and reads the key at the first time."""
        with self._lock:
            if self._secret:
                return True
            if not self._connection.call("has_collection"):
                return False
            self._load()
            return True

    def _make(self) -> None:
        """Create the collection of notes, unless it exists."""
        with self._lock:
            if self._open():
                return
            properties = {f"{_PREFIX}format": "1", f"{_PREFIX}key": secrets.token_hex(32)}
            create_unless_exists(self._connection, _TEXTS, _INTEGERS, 2, properties)
            self._load()

    def _load(self) -> None:
        secret = self._key_of(self._properties())
        # A killed process may have left the collection without an index, and another may still be at it.
        if self._connection.address.is_file or not is_loaded(self._connection):
            create_index(self._connection, "FLAT", {})
            load(self._connection, self._replicas)
        self._secret = secret

    def _properties(self) -> dict[str, str]:
        found: Mapping[str, Any] = self._connection.call("describe_collection").get("properties", {})
        return {name[len(_PREFIX) :]: value for name, value in found.items() if name.startswith(_PREFIX)}

    def _alter(self, properties: dict[str, str]) -> None:
        self._connection.call("alter_collection_properties", properties)

    def _bound(self) -> Bound:
        """The lower bound. Reads the key too: another process may have rebuilt the gallery."""
        properties = self._properties()
        self._secret = self._key_of(properties)
        try:
            return Bound.from_properties(properties)
        except ValueError as error:
            raise _PROPERTIES.damaged(str(self._connection.address), str(error)) from error

    def _key_of(self, properties: Mapping[str, str]) -> bytes:
        return bytes.fromhex(_PROPERTIES.convert(dict(properties), where=str(self._connection.address)).key)


def _note(key: str, kind: int) -> dict[str, Any]:
    return {KEY: key, "kind": kind, "source": "", "path": "", "size": 0, "mtime_ns": 0, VECTOR: [1.0, 0.0]}


def _base64(digest: str) -> str:
    return base64.b64encode(bytes.fromhex(digest)).decode()


def _kept_out(key: str) -> dict[str, Any]:
    return _note(key, _KEPT_OUT)


def _unreadable_key(source: str, path: str) -> str:
    return hashlib.sha256(f"unreadable {file_key(source, path)}".encode()).hexdigest()


def _unreadable(source: str, path: str, facts: Sequence[int]) -> dict[str, Any]:
    size, mtime_ns = facts
    key = _unreadable_key(source, path)
    texts = {"source": encode_text(source), "path": encode_text(path)}
    return {**_note(key, _UNREADABLE), **texts, "size": size, "mtime_ns": mtime_ns}
