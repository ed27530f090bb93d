"""Servers that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from milvus_server import TOKEN, MilvusServer, server_python


@pytest.fixture(scope="session")
def lite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of Milvus Lite, whose server runs in this process until its end."""
    return tmp_path_factory.mktemp("lite") / "galleries.db"


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A real server that asks for a token, which the environment holds while it runs."""
    if server_python() is None:
        pytest.fail("integration tests need a Milvus server: see CONTRIBUTING.md, RRID_EDGE_MILVUS_PYTHON")
    with pytest.MonkeyPatch.context() as patched, MilvusServer(tmp_path_factory.mktemp("milvus")) as running:
        patched.setitem(os.environ, "RRID_EDGE_MILVUS_TOKEN", TOKEN)
        yield running
