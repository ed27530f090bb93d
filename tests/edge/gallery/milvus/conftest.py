"""A collection of Milvus Lite, and a client of it."""

from __future__ import annotations

import itertools

import pytest

_numbers = itertools.count()


@pytest.fixture
def address(lite_file):
    from support.galleries import milvus_address  # not above: other tests here need no store

    return milvus_address(f"milvus+file:{lite_file}/errors_{next(_numbers)}")


@pytest.fixture
def raw(address):
    """A client of pymilvus, for changes that a gallery does not make."""
    from rrid_edge.gallery.milvus.store import MilvusGallery
    from support.galleries import SPEC

    MilvusGallery.create(address, SPEC).close()
    from pymilvus import MilvusClient

    client = MilvusClient(address.uri)
    yield client
    client.close()
