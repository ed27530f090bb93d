"""Facts of a local gallery: a table of keys and values with one checksum over all of them, and a copy of it.

Every commit changes ``commit``, so a reader knows from one value whether anything changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.errors import GalleryError, UsageError, printable
from rrid_edge.gallery.base import GalleryInfo, GalleryRow
from rrid_edge.gallery.local.database import is_damage, transaction
from rrid_edge.gallery.local.schema import FORMAT, MODULUS, columns_of
from rrid_edge.gallery.local.vector_file import VectorFormat
from rrid_edge.model.spec import ModelSpec

Facts = dict[str, str]
REMEMBERED = ("model", "pattern", "time_from", "retention_s")
"""Facts that callers record."""
_CHECK = "check32"


@dataclass(frozen=True)
class ReadFacts:
    """The facts of one committed state.

    Attributes:
        facts: keys and values.
        damaged: number of damaged copies: 0 or 1.
    """

    facts: Facts
    damaged: int


def new_facts(spec: ModelSpec, dtype: str, *, generation: int = 0, slots: int = 0) -> Facts:
    """Facts of a gallery without rows."""
    return {
        "format": str(FORMAT), "spec": json.dumps(spec.to_metadata()), "dtype": dtype, "generation": str(generation),
        "slots": str(slots), "rows": "0", "total": "0", "next_id": "1", "commit": _next_commit("0"), "model": "",
        "pattern": "", "time_from": "", "retention_s": "", "projection": "", "digest_key": os.urandom(32).hex(),
        "kept_out": "0", "log": "",
    }  # fmt: skip


def refuse_unknown_facts(facts: Mapping[str, str]) -> None:
    """Refuse facts that callers cannot record.

    Raises:
        UsageError: a fact is unknown, no text, or not a number where one is expected.
    """
    for key, value in facts.items():
        if key not in REMEMBERED or not isinstance(value, str):
            raise UsageError(
                f"fact {key!r}: {value!r}: expected a text for one of {', '.join(REMEMBERED)}", parameter=key
            )
        if key == "retention_s" and value and not (value.isascii() and value.isdigit() and int(value) > 0):
            raise UsageError(f"retention of {value!r}: expected a whole number of seconds above 0", parameter=key)


def _next_commit(commit: str) -> str:
    # A number for people; random digits, so that no other history has the same commit.
    return f"{int(commit.partition('-')[0]) + 1}-{os.urandom(8).hex()}"


def facts_check(facts: Mapping[str, str]) -> int:
    """CRC-32 over all facts."""
    content = "".join(f"{len(key)} {len(facts[key])} {key}{facts[key]}" for key in sorted(facts) if key != _CHECK)
    return zlib.crc32(content.encode("utf-8", "surrogateescape"))


def read_facts(connection: sqlite3.Connection, folder: Path) -> ReadFacts:
    """The facts, from the intact copy.

    Raises:
        GalleryError: the format is newer, or both copies are damaged.
    """
    try:
        facts = dict(connection.execute("SELECT key, value FROM info").fetchall())
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        facts = {}
    if _is_intact(facts):
        return ReadFacts(_of_known_format(facts, folder), 0)
    copy = _read_copy(connection)
    if copy is not None:
        return ReadFacts(_of_known_format(copy, folder), 1)
    if str(facts.get("format", "")).isdigit():
        refuse_newer(facts["format"], folder)  # a newer format may have other checksums
    raise GalleryError(
        f"{printable(folder)}: both copies of the gallery's facts are damaged: expected one intact copy; restore the "
        "folder from a backup, or index again with: rrid-edge index FOLDER --rebuild"
    )


def _is_intact(facts: Mapping[str, object]) -> bool:
    return all(isinstance(value, str) for value in facts.values()) and facts.get(_CHECK) == str(
        facts_check(facts)  # type: ignore[arg-type]
    )


def _read_copy(connection: sqlite3.Connection) -> Facts | None:
    try:
        found = connection.execute("SELECT body FROM info_copy WHERE id = 1").fetchone()
        facts = json.loads(found[0]) if found is not None else {}
    except (sqlite3.DatabaseError, TypeError, ValueError):
        return None
    return facts if isinstance(facts, dict) and _is_intact(facts) else None


def copy_is_intact(connection: sqlite3.Connection, facts: Mapping[str, str]) -> bool:
    """Whether the copy of the facts equals them."""
    return _read_copy(connection) == facts


def _of_known_format(facts: Facts, folder: Path) -> Facts:
    refuse_newer(facts.get("format", "unknown"), folder)
    return facts


def refuse_newer(found: str, folder: Path) -> None:
    """Refuse a format that this version does not know.

    Raises:
        GalleryError: the format is newer.
    """
    if not found.isdigit() or int(found) > FORMAT:
        raise GalleryError(
            f"{printable(folder)}: index format {printable(found)} is newer than this rrid-edge reads ({FORMAT}); "
            "update rrid-edge"
        )


def write_facts(connection: sqlite3.Connection, facts: Facts) -> None:
    """Write both copies, within a transaction."""
    facts[_CHECK] = str(facts_check(facts))
    connection.executemany(
        "INSERT INTO info VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value "
        "WHERE value IS NOT excluded.value",
        facts.items(),
    )
    connection.execute("INSERT OR REPLACE INTO info_copy VALUES (1, ?)", (json.dumps(facts),))


@contextlib.contextmanager
def commit(connection: sqlite3.Connection, folder: Path) -> Iterator[Facts]:
    """One commit. The body changes tables and the facts that it gets; an exception rolls back."""
    with transaction(connection, write=True):
        facts = read_facts(connection, folder).facts
        yield facts
        facts["commit"] = _next_commit(facts["commit"])
        write_facts(connection, facts)


def count_rows(facts: Facts, *, added: Sequence[GalleryRow] = (), removed: Sequence[GalleryRow] = ()) -> None:
    """Change the number and the checksum of live rows.

    Args:
        facts: of the commit; changed in place.
        added: rows that become live.
        removed: live rows that become dead or vanish, as they were stored.
    """
    change = (columns_of(added).total if added else 0) - (columns_of(removed).total if removed else 0)
    facts["total"] = str((int(facts["total"]) + change) % MODULUS)
    facts["rows"] = str(int(facts["rows"]) + len(added) - len(removed))


def info_of(facts: Facts, folder: Path) -> GalleryInfo:
    """The facts as callers get them.

    Raises:
        GalleryError: a fact is missing or unreadable.
    """
    try:
        return GalleryInfo(
            spec=ModelSpec.from_metadata(json.loads(facts["spec"]), where=printable(folder)),
            model=facts["model"],
            rows=int(facts["rows"]),
            slots=int(facts["slots"]),
            dtype=facts["dtype"],
            generation=int(facts["generation"]),
            pattern=facts["pattern"],
            time_from=facts["time_from"],
            retention_s=int(facts["retention_s"]) if facts["retention_s"] else None,
            format=int(facts["format"]),
        )
    except (KeyError, ValueError) as error:
        raise GalleryError(
            f"{printable(folder)}: the facts in the catalogue are unreadable ({error}); restore the folder from a "
            "backup, or index again with: rrid-edge index FOLDER --rebuild"
        ) from error


def vector_format_of(info: GalleryInfo) -> VectorFormat:
    """The format of a gallery's vector file."""
    return VectorFormat(info.spec.dimension, info.dtype, info.generation, info.spec.fingerprint)
