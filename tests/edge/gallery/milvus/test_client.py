"""Addresses of galleries in Milvus, and secrets in messages."""

from __future__ import annotations

import base64
import time
import traceback
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rrid_edge.errors import GalleryError, GalleryUnavailableError, UsageError
from rrid_edge.gallery.milvus import client
from rrid_edge.gallery.milvus.address import MilvusAddress, without_secrets, without_token
from rrid_edge.gallery.milvus.client import Connection


def test_addresses():
    assert MilvusAddress.parse("milvus+http://host:19530/crops") == MilvusAddress(
        "http://host:19530", "crops", "milvus+http://host:19530/crops"
    )
    assert MilvusAddress.parse("milvus+https://host/crops").uri == "https://host"
    assert MilvusAddress.parse("milvus+https://[::1]:19530/crops").uri == "https://[::1]:19530"
    assert MilvusAddress.parse("milvus+file:some/where.db/crops").uri == "some/where.db"
    assert MilvusAddress.parse("milvus+file:/some/where.db/crops").uri == "/some/where.db"
    assert MilvusAddress.parse("milvus+file:/some/o@th:er.db/crops").uri == "/some/o@th:er.db"


def test_an_address_survives_pathlib():
    """A path keeps one of two slashes."""
    for text in ("milvus+http://host:19530/crops", "milvus+https://host/crops", "milvus+file:/a/b.db/crops"):
        mangled = str(Path(text))
        assert MilvusAddress.parse(mangled) == MilvusAddress.parse(text), mangled


@pytest.mark.parametrize(
    "text",
    [
        "milvus+http://host:19530",
        "milvus+http://host:19530/",
        "milvus+http://host:19530/a/b",
        "milvus+http://host:19530/two words",
        "milvus+http://host:x/crops",
        "milvus+http:///crops",
        "milvus+http://[host/crops",
        "milvus+http://host:99999/crops",
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
        MilvusAddress.parse(text)
    assert "\n" not in refusal.value.message


SECRETS = [
    "milvus+http://root:secret@host/crops",
    "milvus+http://root:secret@host:19530/crops",
    "milvus+http:/root:secret@host/crops",
    "milvus+http:root:secret@host/crops",
    "milvus+http//root:secret@host/crops",
    "milvus+htp://root:secret@host/crops",
    "milvus+http://root:secret/crops",
    "milvus+http://root:se/cret@host/crops",
    "milvus+http://root:secret#@host/crops",
    "milvus+http://root:secret@@host/crops",
    "milvus+http://root:sec ret@host/cr ops",
    "milvus+http://secret@host/crops",
    "milvus+http://host/secret@crops",
    "milvus+http://host/crops?token=secret",
    "milvus+http://host/crops#secret",
    "milvus+http://[root:secret@host/crops",
    "milvus://root:secret@host/crops",
    "milvus+file://root:secret@host/crops",
    "http://root:secret@host:19530/crops",
    "root:secret@host:19530/crops",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_in_a_mistyped_address_is_not_repeated(text):
    for use in (MilvusAddress.parse, lambda given: MilvusAddress.parse(str(Path(given)))):
        with pytest.raises(UsageError) as refusal:
            use(text)
        shown = "".join(traceback.format_exception(refusal.value, chain=True))
        assert "ecret" not in refusal.value.message
        assert "cret@" not in refusal.value.message
        assert "\n" not in refusal.value.message
        assert "ValueError" not in shown
    assert "ecret" not in without_secrets(text)


@pytest.mark.parametrize("text", ["crops/2026", "a@b/c", "milvus+http://host:19530/crops", "milvus+file:a.db/crops"])
def test_other_locations_are_shown_whole(text):
    assert without_secrets(text) == text


def test_a_token_in_an_error_of_the_client_is_not_repeated(monkeypatch, lite_file):
    monkeypatch.setenv("RRID_EDGE_MILVUS_TOKEN", "root:se cret/9")
    coded = base64.b64encode(b"root:se cret/9").decode()
    connection = Connection(MilvusAddress.parse(f"milvus+file:{lite_file}/secrets"), creates=True)

    def failing(name, **_options):
        raise ValueError(f"metadata was invalid: [('authorization', '{coded}')] of root:se cret/9 and se cret/9")

    monkeypatch.setattr(connection._client, "has_collection", failing)
    with pytest.raises(GalleryError, match="metadata was invalid") as refusal:
        connection.call("has_collection")
    shown = refusal.value.message + "".join(traceback.format_exception(refusal.value))
    assert "se cret/9" not in shown
    assert coded not in shown
    connection.close()


def test_texts_without_a_token_stay():
    assert without_token("all is well", "") == "all is well"
    assert without_token("of root: pw", "root:pw") == "of root: ***"


class _Starting:
    """A client whose first connection is refused, as while a server starts."""

    made: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, _uri: str, **options: object) -> None:
        self.made.append(options)
        if len(self.made) == 1:
            raise ConnectionError("StatusCode.UNAVAILABLE: connection refused")

    def close(self) -> None:
        pass


@pytest.mark.parametrize("text", ["milvus+http://127.0.0.1:1/people", "milvus+file:galleries.db/people"])
def test_a_server_that_is_starting_is_asked_again(text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(client, "_client_class", lambda _address: _Starting)
    monkeypatch.setattr(client, "_PAUSE_S", 0.01)
    monkeypatch.setattr(_Starting, "made", [])
    Connection(MilvusAddress.parse(text), creates=True).close()
    first, second = _Starting.made
    assert 0 < second["timeout"] < first["timeout"] <= 10
    pings = second.get("grpc_options", {}).get("grpc.keepalive_time_ms", 10_000)
    assert (pings > 1e9) == text.startswith("milvus+file")  # a file's server refuses pings of an idle client


def test_a_server_that_stays_away_is_given_up_within_the_limit(monkeypatch):
    monkeypatch.setenv("RRID_EDGE_MILVUS_TIMEOUT_S", "0.5")
    monkeypatch.setattr(client, "_PAUSE_S", 0.01)
    monkeypatch.setattr(client, "_client_class", lambda _address: _Away)
    start_s = time.monotonic()
    with pytest.raises(GalleryUnavailableError, match=r"cannot be reached|does not answer"):
        Connection(MilvusAddress.parse("milvus+http://127.0.0.1:1/people"))
    assert 0.3 < time.monotonic() - start_s < 5


class _Away:
    def __init__(self, _uri: str, **_options: object) -> None:
        raise ConnectionError("StatusCode.UNAVAILABLE: connection refused")
