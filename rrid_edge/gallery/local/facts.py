"""Facts of a local gallery: a table of keys and values with one checksum over all of them, and a copy of it.

Every commit changes ``commit``, so a reader knows from one value whether anything changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import GalleryError, ModelFileError, UsageError, printable
from rrid_edge.gallery.base import GalleryInfo, GalleryRow
from rrid_edge.gallery.local.column_commit import ChangingFacts, erase_replaced, follow
from rrid_edge.gallery.local.database import is_damage, transaction
from rrid_edge.gallery.local.schema import FORMAT, MODULUS, columns_of, to_bytes
from rrid_edge.gallery.local.vector_file import VectorFormat
from rrid_edge.model.spec import HEX64, ModelSpec

Facts = dict[str, str]
REMEMBERED = ("model", "pattern", "time_from", "retention_s")
"""Facts that callers record."""
_CHECK = "check32"
_AGAIN: Final = "restore the folder from a backup, or index again with: rrid-edge index FOLDER --rebuild"
_Number = Annotated[str, Meta(pattern=r"\A[0-9]{1,18}\Z")]
_Slots = Annotated[str, Meta(pattern=r"\A[0-9]{1,9}\Z")]  # the header of the vector file has 32 bits for each


@dataclass(frozen=True)
class _Vectors:
    """The facts that name a vector file, of any format. Others are ignored."""

    spec: str
    dtype: Literal["float16", "float32"]
    generation: _Slots
    slots: _Slots


@dataclass(frozen=True)
class _Stored(_Vectors):
    """The facts of format 2. Numbers are stored as texts."""

    format: _Number
    rows: _Slots
    total: Annotated[str, Meta(pattern=r"\A[0-9]{1,20}\Z")]
    next_id: _Number
    commit: Annotated[str, Meta(pattern=r"\A[0-9]{1,18}(-[0-9a-f]{1,32})?\Z")]
    model: str
    pattern: str
    time_from: str
    retention_s: Annotated[str, Meta(pattern=r"\A[0-9]{0,18}\Z")]
    projection: str
    digest_key: Annotated[str, Meta(pattern=HEX64)]
    kept_out: _Number
    log: str
    columns: str = ""


_VECTORS = Artefact("facts in the catalogue", _Vectors, _AGAIN, GalleryError)
_FACTS = Artefact("facts in the catalogue", _Stored, _AGAIN, GalleryError)
_TEXTS = Artefact("copy of the facts", dict[str, str], _AGAIN, GalleryError)
_SPEC = Artefact("spec in the catalogue", dict[str, str], _AGAIN, GalleryError)


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
        "kept_out": "0", "log": "", "columns": "",
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
        to_bytes(value)
        if key == "retention_s" and value and not re.fullmatch("[1-9][0-9]{0,17}", value):
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
    if re.fullmatch("[0-9]+", str(facts.get("format"))):
        refuse_newer(str(facts["format"]), folder)  # a newer format may have other checksums
    raise GalleryError(
        f"{printable(folder)}: both copies of the gallery's facts are damaged: expected one intact copy; {_AGAIN}"
    )


def _is_intact(facts: Mapping[str, str]) -> bool:
    are_texts = all(isinstance(text, str) for item in facts.items() for text in item)  # damage makes other types
    return are_texts and facts.get(_CHECK) == str(facts_check(facts))


def _read_copy(connection: sqlite3.Connection) -> Facts | None:
    try:
        found = connection.execute("SELECT body FROM info_copy WHERE id = 1").fetchone()
        facts = _TEXTS.parse(str(found[0]) if found else "", where="")
    except (sqlite3.DatabaseError, GalleryError):
        return None
    return facts if _is_intact(facts) else None


def copy_is_intact(connection: sqlite3.Connection, facts: Mapping[str, str]) -> bool:
    """Whether the copy of the facts equals them."""
    return _read_copy(connection) == facts


def _of_known_format(facts: Facts, folder: Path) -> Facts:
    refuse_newer(facts.get("format", "unknown"), folder)
    _FACTS.convert(facts, where=printable(folder))
    return facts


def checked_facts_of_format_1(facts: Mapping[str, object], folder: Path) -> Facts:
    """The facts of a gallery of format 1 that name its model and vectors. Others may be missing.

    Raises:
        GalleryError: a fact is missing or damaged.
    """
    _VECTORS.convert(dict(facts), where=printable(folder))
    return {str(key): str(value) for key, value in facts.items()}


def refuse_newer(found: str, folder: Path) -> None:
    """Refuse a format that this version does not know.

    Raises:
        GalleryError: the format is newer.
    """
    if not re.fullmatch("0*[0-9]{1,9}", found) or int(found) > FORMAT:
        raise GalleryError(
            f"{printable(folder)}: index format {printable(found)[:20]} is newer than this rrid-edge reads ({FORMAT}); "
            "update rrid-edge"
        )


def write_facts(connection: sqlite3.Connection, facts: Facts) -> None:
    """Write both copies, within a transaction."""
    facts[_CHECK] = str(facts_check(facts))
    # As bytes, because Python binds no text with the name of a file that is no UTF-8.
    connection.executemany(
        "INSERT INTO info VALUES (?, CAST(? AS TEXT)) ON CONFLICT (key) DO UPDATE SET value = excluded.value "
        "WHERE value IS NOT excluded.value",
        [(key, to_bytes(text)) for key, text in facts.items()],
    )
    connection.execute("INSERT OR REPLACE INTO info_copy VALUES (1, ?)", (json.dumps(facts),))


@contextlib.contextmanager
def commit(connection: sqlite3.Connection, folder: Path) -> Iterator[Facts]:
    """One commit. The body changes tables and the facts that it gets; an exception rolls back."""
    with transaction(connection, write=True):
        before = read_facts(connection, folder).facts
        facts = ChangingFacts(before)
        yield facts
        follow(folder, connection, before, facts)
        facts["commit"] = _next_commit(facts["commit"])
        write_facts(connection, facts)
    erase_replaced(folder, before, facts)


def count_rows(facts: Facts, *, added: Sequence[GalleryRow] = (), removed: Sequence[GalleryRow] = ()) -> None:
    """Change the number and the checksum of live rows.

    Args:
        facts: of the commit; changed in place.
        added: rows that become live.
        removed: live rows that become dead or vanish, as they were stored.
    """
    new, old = columns_of(added), columns_of(removed)
    facts["total"] = str((int(facts["total"]) + new.total - old.total) % MODULUS)
    if isinstance(facts, ChangingFacts):
        facts.changes.append((new, old))
    facts["rows"] = str(int(facts["rows"]) + len(added) - len(removed))


def info_of(facts: Facts, folder: Path) -> GalleryInfo:
    """The facts as callers get them.

    Raises:
        GalleryError: the spec is damaged.
    """
    where = printable(folder)
    try:
        spec = ModelSpec.from_metadata(_SPEC.parse(facts["spec"], where=where), where="the spec")
    except ModelFileError as error:
        raise _SPEC.damaged(where, error.message) from error
    return GalleryInfo(
        spec=spec,
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


def vector_format_of(info: GalleryInfo) -> VectorFormat:
    """The format of a gallery's vector file."""
    return VectorFormat(info.spec.dimension, info.dtype, info.generation, info.spec.fingerprint)
