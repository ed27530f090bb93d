"""Addresses of galleries in Milvus."""

from __future__ import annotations

import pytest

from rrid_edge.errors import UsageError
from rrid_edge.gallery.milvus.address import MilvusAddress
from rrid_edge.gallery.opening import parse_location
from support.galleries import milvus_address


def test_addresses():
    assert parse_location("milvus+http://host:19530/crops") == MilvusAddress(
        "http://host:19530", "crops", "milvus+http://host:19530/crops"
    )
    assert milvus_address("milvus+https://host/crops").uri == "https://host"
    assert milvus_address("milvus+file:some/where.db/crops").uri == "some/where.db"
    assert milvus_address("milvus+file:/some/where.db/crops").uri == "/some/where.db"


@pytest.mark.parametrize(
    "text",
    [
        "milvus+http://host:19530",
        "milvus+http://host:19530/",
        "milvus+http://host:19530/a/b",
        "milvus+http://host:19530/two words",
        "milvus+http://host:x/crops",
        "milvus+http:///crops",
        "milvus+http://host/crops?token=abc",
        "milvus+ftp://host/crops",
        "milvus+file:name/crops",
        "milvus+file:.db/crops",
        'milvus+http://host/cr"ops',
        "milvus+",
        "http://host:19530/crops",
    ],
)
def test_no_addresses(text):
    with pytest.raises(UsageError, match="expected") as refusal:
        parse_location(text)
    assert "\n" not in refusal.value.message


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(UsageError, match="RRID_EDGE_MILVUS_TOKEN") as refusal:
        parse_location("milvus+http://root:secret@host/crops")
    assert "secret" not in refusal.value.message
