"""Making, recognising and loading the collection of a gallery."""

from __future__ import annotations

import time
from typing import Any

from rrid_edge.errors import GalleryError, GalleryUnavailableError
from rrid_edge.gallery.milvus.client import Connection, MilvusAddress
from rrid_edge.gallery.milvus.rows import STRONG
from rrid_edge.gallery.milvus.schema import FACTS, INDEX_TYPES, KEY, PATH_CHARACTERS, VECTOR, Facts
from rrid_edge.gallery.milvus.search import METRIC
from rrid_edge.model.spec import ModelSpec

SHARDS = 2
"""Ways that rows are spread over, by the hash of their keys."""
INDEX_WAIT_S = 3600.0
_LOAD_S = 300.0
_TEXTS = {KEY: 64, "path": PATH_CHARACTERS, "sha256": 64, "person": PATH_CHARACTERS}


def create_collection(connection: Connection, facts: Facts) -> None:
    """Make an empty collection with its facts in its properties."""
    from pymilvus import DataType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    for name in FACTS:
        if name in _TEXTS:
            schema.add_field(name, DataType.VARCHAR, is_primary=name == KEY, max_length=_TEXTS[name])
        else:
            schema.add_field(name, DataType.INT64)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=facts.spec.dimension)
    connection.call(
        "create_collection",
        schema=schema,
        properties=facts.to_properties(),
        num_shards=SHARDS,
        consistency_level=STRONG,
    )


def described(connection: Connection, spec: ModelSpec | None = None) -> Facts:
    """The facts of a collection.

    Args:
        connection: to it.
        spec: of the model that will be used, for a clearer word about other dimensions.

    Raises:
        GalleryError: no such collection, not one of ours, of a newer format, of other dimensions, or without our columns.
    """
    found = connection.call("describe_collection")
    where = str(connection.address)
    fields = {field["name"]: field for field in found["fields"]}
    values = _vector_values(fields)
    if spec is not None and values and spec.dimension not in values:
        raise GalleryError(
            f"{where}: the collection holds vectors of {', '.join(map(str, values))} values, this model's descriptors have "
            f"{spec.dimension}; name another collection"
        )
    facts = Facts.from_properties(found.get("properties", {}), where)
    if set(fields) != {*FACTS, VECTOR} or values != [facts.spec.dimension]:
        raise GalleryError(
            f"{where}: the collection's columns are not those of a gallery of this model; name another collection"
        )
    return facts


def ensure_index(connection: Connection, facts: Facts) -> None:
    """Give the collection its index, unless it has one."""
    if not connection.call("list_indexes", VECTOR):
        kind, parameters = INDEX_TYPES[facts.index_type]
        wanted = connection.index_parameters()
        wanted.add_index(VECTOR, index_type=kind, metric_type=METRIC, params=parameters)
        connection.call("create_index", wanted)


def ensure_loaded(connection: Connection, facts: Facts) -> None:
    """Wait until query nodes hold the collection; one that a kill left without its index gets it first.

    Raises:
        GalleryUnavailableError: that takes more than 300 s.
    """
    if connection.address.is_file:  # loads at once, also without an index, and again without harm
        connection.call("load_collection", wait_s=_LOAD_S)
        return
    if _load_state(connection) == "Loaded":
        return
    ensure_index(connection, facts)
    connection.call("load_collection", replica_number=facts.replicas, wait_s=_LOAD_S)
    deadline = time.monotonic() + _LOAD_S
    while _load_state(connection) != "Loaded":
        if time.monotonic() > deadline:
            raise GalleryUnavailableError(
                f"{connection.address}: Milvus does not load the collection within {_LOAD_S:g} s; look at its query nodes"
            )
        time.sleep(0.2)


def await_index(connection: Connection) -> None:
    """Seal what was written, and wait until the index holds it all.

    Raises:
        GalleryError: the server failed to build it.
        GalleryUnavailableError: that took more than :data:`INDEX_WAIT_S`.
    """
    deadline = time.monotonic() + INDEX_WAIT_S
    _flush(connection)
    while True:
        state = connection.call("describe_index", VECTOR)
        if state.get("state") == "Failed":
            raise GalleryError(f"{connection.address}: Milvus failed to build its index; see the server's log")
        if state.get("state") == "Finished" and not int(state.get("pending_index_rows", 0)):
            return
        if time.monotonic() > deadline:
            raise GalleryUnavailableError(
                f"{connection.address}: Milvus builds its index for more than {INDEX_WAIT_S:g} s "
                f"({state.get('pending_index_rows')} rows to go); what was stored is kept: try again later"
            )
        time.sleep(0.5)


def compact_segments(connection: Connection) -> None:
    """Let Milvus write segments anew without the rows that are gone, and wait for it.

    Raises:
        GalleryUnavailableError: that took more than :data:`INDEX_WAIT_S`.
    """
    _flush(connection)
    job = connection.call("compact")
    deadline = time.monotonic() + INDEX_WAIT_S
    while job > 0 and connection.compaction_state(job) == "Executing":
        if time.monotonic() > deadline:
            raise GalleryUnavailableError(
                f"{connection.address}: Milvus compacts for more than {INDEX_WAIT_S:g} s; it goes on by itself"
            )
        time.sleep(0.5)


def _flush(connection: Connection) -> None:
    """Seal what was written; a server may allow that once in ten seconds only."""
    connection.call("flush", wait_s=max(connection.timeout_s, 60.0))


def _load_state(connection: Connection) -> str:
    state: Any = connection.call("get_load_state")["state"]
    return str(getattr(state, "name", state))


def collection_exists(address: MilvusAddress) -> bool:
    """Whether there is such a collection, ours or not."""
    connection = Connection(address)
    try:
        return bool(connection.call("has_collection"))
    finally:
        connection.close()


def drop_gallery(address: MilvusAddress) -> None:
    """Drop a collection that is a gallery, of whatever model.

    Raises:
        GalleryError: it is not one of ours.
    """
    connection = Connection(address)
    try:
        described(connection)
        connection.call("drop_collection")
    finally:
        connection.close()


def _vector_values(fields: dict[str, dict[str, Any]]) -> list[int]:
    """Dimensions of all columns that have one."""
    return [int(field["params"]["dim"]) for field in fields.values() if "dim" in field.get("params", {})]
