"""What a local gallery keeps beside its rows: forgotten contents, unreadable files, thumbnails. Each has a checksum."""

from __future__ import annotations

import base64
import hmac
import json
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence

from rrid_edge.errors import UsageError
from rrid_edge.gallery.local.facts import Facts
from rrid_edge.gallery.local.schema import from_bytes, to_bytes
from rrid_edge.gallery.local.writing import thumbnail_check
from rrid_edge.gallery.shared import parse_kept_out


def keyed_digest(facts: Facts, content: str) -> bytes:
    """HMAC-SHA256 of a content's SHA-256 (hex), under the gallery's key."""
    return hmac.digest(bytes.fromhex(facts["digest_key"]), content.lower().encode(), "sha256")


def read_digests(connection: sqlite3.Connection) -> tuple[set[bytes], int]:
    """The digests of forgotten contents, and the number of damaged entries. A copy mends an entry."""
    digests, damaged = set(), 0
    for digest, copy, check32 in connection.execute("SELECT digest, copy, check32 FROM kept_out"):
        intact = [text for text in (digest, copy) if isinstance(text, bytes) and zlib.crc32(text) == check32]
        damaged += len(intact) < 2
        # If the checksum itself is damaged, both texts are the same.
        digests.update(intact or ([digest] if digest == copy else []))
    return digests, damaged


def keep_out(connection: sqlite3.Connection, facts: Facts, contents: Iterable[str]) -> None:
    """Remember forgotten contents (SHA-256, hex)."""
    write_digests(connection, facts, read_digests(connection)[0] | {keyed_digest(facts, text) for text in contents})


def write_digests(connection: sqlite3.Connection, facts: Facts, digests: set[bytes]) -> None:
    """Replace the digests of forgotten contents."""
    connection.execute("DELETE FROM kept_out")
    records = [(digest, digest, zlib.crc32(digest)) for digest in sorted(digests)]
    connection.executemany("INSERT INTO kept_out VALUES (?, ?, ?)", records)
    facts["kept_out"] = str(len(digests))


def kept_out_state(connection: sqlite3.Connection, facts: Facts) -> str:
    """The key and all digests as a text; empty without digests."""
    digests, _ = read_digests(connection)
    texts = [base64.b64encode(digest).decode() for digest in sorted(digests)]
    return json.dumps({"key": facts["digest_key"], "digests": texts}) if texts else ""


def restore_kept_out(connection: sqlite3.Connection, facts: Facts, state: str) -> None:
    """Take over what :func:`kept_out_state` returned.

    Raises:
        UsageError: the text is not such a state, or this gallery has forgotten contents under its own key.
    """
    found = parse_kept_out(state)
    if facts["kept_out"] != "0" and facts["digest_key"] != found.key:
        raise UsageError(
            "this gallery has forgotten contents of its own: expected one that has forgotten nothing; restore the "
            "state right after the gallery is created",
            parameter="state",
        )
    facts["digest_key"] = found.key
    write_digests(connection, facts, read_digests(connection)[0] | set(found.digests))


def _unreadable_check(source: bytes, path: bytes, size: int, mtime_ns: int) -> int:
    return zlib.crc32(repr((source, path, size, mtime_ns)).encode())


def read_unreadable(connection: sqlite3.Connection) -> tuple[dict[tuple[str, str], tuple[int, int]], int]:
    """Unreadable files by (source, path): size (bytes), modification time (ns). And the number of damaged entries."""
    found, damaged = {}, 0
    for source, path, size, mtime_ns, check32 in connection.execute("SELECT * FROM unreadable"):
        if _unreadable_check(source, path, size, mtime_ns) != check32:
            damaged += 1
        else:
            found[from_bytes(source) or "", from_bytes(path) or ""] = (size, mtime_ns)
    return found, damaged


def set_unreadable(connection: sqlite3.Connection, source: str, files: Mapping[str, tuple[int, int]]) -> None:
    """Replace the unreadable files of a source."""
    owner = to_bytes(source) or b""
    records = []
    for path, (size, mtime_ns) in files.items():
        name = to_bytes(path) or b""
        records.append((owner, name, size, mtime_ns, _unreadable_check(owner, name, size, mtime_ns)))
    connection.execute("DELETE FROM unreadable WHERE source = ?", (owner,))
    connection.executemany("INSERT OR REPLACE INTO unreadable VALUES (?, ?, ?, ?, ?)", records)


def read_thumbnails(connection: sqlite3.Connection, ids: Sequence[int]) -> dict[int, bytes]:
    """Intact thumbnails by id."""
    result = {}
    for id_ in ids:
        found = connection.execute("SELECT jpeg, check32 FROM thumbnail WHERE id = ?", (id_,)).fetchone()
        if found is not None and isinstance(found[0], bytes) and thumbnail_check(id_, found[0]) == found[1]:
            result[id_] = found[0]
    return result


def damaged_thumbnails(connection: sqlite3.Connection) -> list[int]:
    """Ids of thumbnails that do not match their checksum."""
    return [
        id_
        for id_, jpeg, check32 in connection.execute("SELECT id, jpeg, check32 FROM thumbnail")
        if not isinstance(jpeg, bytes) or thumbnail_check(id_, jpeg) != check32
    ]
