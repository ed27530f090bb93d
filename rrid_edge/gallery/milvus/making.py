"""Making collections: several processes may make one at the same time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rrid_edge.errors import GalleryError, GalleryUnavailableError
from rrid_edge.gallery.milvus.client import Connection
from rrid_edge.gallery.milvus.rows import STRONG
from rrid_edge.gallery.milvus.schema import KEY, VECTOR

METRIC = "IP"
"""Inner product: the cosine of unit vectors."""
SHARDS = 2
"""Shards of a new collection. Milvus assigns a row to a shard by the hash of its key."""
LOAD_S = 300.0
"""Seconds to wait until query nodes have loaded a collection."""


def create_unless_exists(
    connection: Connection,
    texts: Mapping[str, int],
    integers: Sequence[str],
    dimension: int,
    properties: Mapping[str, str],
) -> None:
    """Create an empty collection, unless another process does so at the same time.

    Args:
        connection: to the collection.
        texts: text fields and their longest values, the primary key among them.
        integers: integer fields.
        dimension: values per vector.
        properties: of the collection.
    """
    from pymilvus import DataType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    for name, length in texts.items():
        schema.add_field(name, DataType.VARCHAR, is_primary=name == KEY, max_length=length)
    for name in integers:
        schema.add_field(name, DataType.INT64)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dimension)
    try:
        connection.call(
            "create_collection",
            schema=schema,
            properties=dict(properties),
            num_shards=SHARDS,
            consistency_level=STRONG,
        )
    except GalleryUnavailableError:
        raise
    except GalleryError:
        if not connection.call("has_collection"):
            raise


def create_index(connection: Connection, milvus_type: str, build_parameters: Mapping[str, int]) -> None:
    """Create the collection's vector index, unless it has one."""
    if not connection.call("list_indexes", VECTOR):
        parameters = connection.index_parameters()
        parameters.add_index(VECTOR, index_type=milvus_type, metric_type=METRIC, params=dict(build_parameters))
        connection.call("create_index", parameters)


def load(connection: Connection, replicas: int) -> None:
    """Load a collection that has an index, and wait for it.

    Raises:
        GalleryUnavailableError: loading takes more than 300 s.
    """
    connection.call("load_collection", replica_number=replicas, wait_s=LOAD_S)
    deadline = time.monotonic() + LOAD_S
    while not is_loaded(connection):
        if time.monotonic() > deadline:
            raise GalleryUnavailableError(
                f"{connection.address}: Milvus did not load the collection within {LOAD_S:g} s; check its query nodes"
            )
        time.sleep(0.2)


def is_loaded(connection: Connection) -> bool:
    """Whether query nodes have loaded the collection."""
    state: Any = connection.call("get_load_state")["state"]
    return str(getattr(state, "name", state)) == "Loaded"
