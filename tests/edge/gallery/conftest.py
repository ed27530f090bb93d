"""Locations of every kind of store: the folder, Milvus Lite, and (marked ``integration``) a Milvus server over gRPC."""

from __future__ import annotations

import itertools

import pytest

_numbers = itertools.count()


@pytest.fixture(params=["local", "lite", pytest.param("server", marks=pytest.mark.integration)])
def location(request, tmp_path):
    """A location without a gallery."""
    from rrid_edge.gallery.opening import parse_location  # not above: other tests here need no store

    if request.param == "local":
        return parse_location(str(tmp_path / "g"))
    name = f"contract_{next(_numbers)}"
    if request.param == "lite":
        return parse_location(f"milvus+file:{request.getfixturevalue('lite_file')}/{name}")
    server = request.getfixturevalue("milvus_server")
    return parse_location(f"{server.address}/{name}")


@pytest.fixture
def store(location):
    """An empty gallery."""
    from rrid_edge.gallery.opening import create_store
    from support.galleries import SPEC

    with create_store(location, SPEC) as gallery:
        yield gallery
