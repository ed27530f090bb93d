"""Creating, recognising and loading the collection of a gallery."""

from __future__ import annotations

import time
from typing import Any

from rrid_edge.errors import GalleryError, GalleryMissingError, GalleryUnavailableError, UsageError
from rrid_edge.gallery.milvus.address import MilvusAddress
from rrid_edge.gallery.milvus.client import Connection
from rrid_edge.gallery.milvus.facts import INDEX_TYPES, CollectionFacts
from rrid_edge.gallery.milvus.format1 import Schema1
from rrid_edge.gallery.milvus.making import LOAD_S, create_index, create_unless_exists, is_loaded, load
from rrid_edge.gallery.milvus.notes import Notes
from rrid_edge.gallery.milvus.schema import INTEGER_FIELDS, TEXT_FIELDS, VECTOR, Schema, Schema2
from rrid_edge.model.spec import ModelSpec

JOB_WAIT_S = 3600.0
"""Seconds to wait until the server has built its index or compacted its segments."""


def create_collection(connection: Connection, facts: CollectionFacts) -> None:
    """Create an empty collection with the facts as its properties, unless another process does so now."""
    create_unless_exists(connection, TEXT_FIELDS, INTEGER_FIELDS, facts.spec.dimension, facts.to_properties())


def schema_of(facts: CollectionFacts) -> Schema:
    """How rows lie in a collection."""
    return Schema1() if facts.format == 1 else Schema2()


def read_facts(connection: Connection, spec: ModelSpec | None = None) -> CollectionFacts:
    """Read the facts of a collection from the server.

    Args:
        connection: to the collection.
        spec: the model that will be used. With it, the error about a wrong dimension names both dimensions.

    Raises:
        GalleryMissingError: the collection does not exist.
        GalleryError: the collection is not a gallery, has a newer format, other dimensions or other fields.
    """
    description = connection.call("describe_collection")
    where = str(connection.address)
    fields = {field["name"]: field for field in description["fields"]}
    dimensions = _vector_dimensions(fields)
    if spec is not None and dimensions and spec.dimension not in dimensions:
        raise GalleryError(
            f"{where}: the collection holds vectors of {', '.join(map(str, dimensions))} values, this model's "
            f"descriptors have {spec.dimension}; name another collection"
        )
    facts = CollectionFacts.from_properties(description.get("properties", {}), where)
    if set(fields) != schema_of(facts).all_fields or dimensions != [facts.spec.dimension]:
        raise GalleryError(
            f"{where}: the collection's fields are not those of a gallery of this model; name another collection"
        )
    return facts


def refuse_unknown_index_type(index_type: str | None) -> None:
    """Refuse an index type that is not a key of :data:`INDEX_TYPES`. None is accepted.

    Raises:
        UsageError: the index type is unknown.
    """
    if index_type is not None and index_type not in INDEX_TYPES:
        raise UsageError(
            f"index type {index_type!r} is unknown: expected one of {', '.join(INDEX_TYPES)}", parameter="index_type"
        )


def refuse_other_options(where: str, facts: CollectionFacts, index_type: str | None, replicas: int | None) -> None:
    """Refuse options that differ from those of an existing collection. None is accepted.

    Raises:
        UsageError: the collection has another index type or another number of replicas.
    """
    if (index_type or facts.index_type, replicas or facts.replicas) != (facts.index_type, facts.replicas):
        raise UsageError(
            f"{where}: this collection has index type {facts.index_type} and {facts.replicas} replicas, which are "
            "fixed when it is created: leave both out, or copy it into a new collection with: rrid-edge gallery copy",
            parameter=("index_type", "replicas"),
        )


def ensure_index(connection: Connection, facts: CollectionFacts) -> None:
    """Create the collection's vector index, unless it has one."""
    create_index(connection, *INDEX_TYPES[facts.index_type])


def ensure_loaded(connection: Connection, facts: CollectionFacts) -> None:
    """Wait until query nodes have loaded the collection. A collection without an index gets it first.

    Raises:
        GalleryUnavailableError: loading takes more than 300 s.
    """
    if connection.address.is_file:  # Milvus Lite loads at once, needs no index, and may load again
        connection.call("load_collection", wait_s=LOAD_S)
    elif not is_loaded(connection):
        ensure_index(connection, facts)
        load(connection, facts.replicas)


def await_index(connection: Connection) -> None:
    """Flush, then wait until the index covers all rows.

    Raises:
        GalleryError: the server failed to build the index.
        GalleryUnavailableError: the build takes more than :data:`JOB_WAIT_S`.
    """
    deadline = time.monotonic() + JOB_WAIT_S
    _flush(connection)
    while True:
        state = connection.call("describe_index", VECTOR)
        if state.get("state") == "Failed":
            raise GalleryError(f"{connection.address}: Milvus failed to build its index; see the server's log")
        if state.get("state") == "Finished" and not int(state.get("pending_index_rows", 0)):
            return
        if time.monotonic() > deadline:
            raise GalleryUnavailableError(
                f"{connection.address}: Milvus has been building its index for more than {JOB_WAIT_S:g} s "
                f"({state.get('pending_index_rows')} rows to go); stored rows are kept: try again later"
            )
        time.sleep(0.5)


def compact_segments(connection: Connection) -> None:
    """Let Milvus rewrite its segments without deleted rows, and wait for it.

    Raises:
        GalleryUnavailableError: the compaction takes more than :data:`JOB_WAIT_S`.
    """
    _flush(connection)
    job = connection.call("compact")
    deadline = time.monotonic() + JOB_WAIT_S
    while job > 0 and connection.compaction_state(job) == "Executing":
        if time.monotonic() > deadline:
            raise GalleryUnavailableError(
                f"{connection.address}: Milvus has been compacting for more than {JOB_WAIT_S:g} s; it continues on the "
                "server: try again later"
            )
        time.sleep(0.5)


def _flush(connection: Connection) -> None:
    """Seal the growing segments. A server may allow one flush per ten seconds, so this waits up to a minute."""
    connection.call("flush", wait_s=max(connection.timeout_s, 60.0))


def collection_exists(address: MilvusAddress) -> bool:
    """Whether the collection exists. It may hold something else than a gallery."""
    try:
        connection = Connection(address)
    except GalleryMissingError:
        return False
    try:
        return bool(connection.call("has_collection"))
    finally:
        connection.close()


def drop_gallery(address: MilvusAddress) -> None:
    """Drop the collection of a gallery of any model.

    Raises:
        GalleryError: the collection is not a gallery.
    """
    connection = Connection(address)
    try:
        read_facts(connection)
        connection.call("drop_collection")
        Notes(connection).drop()  # last: a kill before it leaves forgotten people kept out of a new gallery
    finally:
        connection.close()


def _vector_dimensions(fields: dict[str, dict[str, Any]]) -> list[int]:
    """Dimensions of all vector fields."""
    return [int(field["params"]["dim"]) for field in fields.values() if "dim" in field.get("params", {})]
