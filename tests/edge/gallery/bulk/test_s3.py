"""Inputs in an object store: moto's server stands in for S3 (``pip install 'moto[server]'``)."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rrid_edge.engines.fake import FakeEngine
from rrid_edge.gallery.bulk.inputs import open_input
from rrid_edge.gallery.bulk.run import embed_many
from rrid_edge.gallery.opening import create_store
from support.milvus_server import free_port
from support.pictures import save_crops

pytestmark = pytest.mark.integration
ENGINE = FakeEngine()


@pytest.fixture
def options(tmp_path, monkeypatch):
    """The options of an address of a bucket with 20 crops, a table of their bytes and one of their paths."""
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    server = moto.ThreadedMotoServer(port=(port := free_port()), verbose=False)
    server.start()
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1")
    client.create_bucket(Bucket="bucket")

    def put(key, content):
        client.put_object(Bucket="bucket", Key=key, Body=content)

    def put_table(key, **columns):
        buffer = io.BytesIO()
        pq.write_table(pa.table(columns), buffer, row_group_size=7)
        put(key, buffer.getvalue())

    paths = save_crops(tmp_path / "crops", 20)
    for path in paths:
        put(f"crops/{path.name}", path.read_bytes())
    put("crops/bad.jpg", b"no image")
    put_table("bytes/1.parquet", path=[path.name for path in paths], image=[path.read_bytes() for path in paths])
    put_table("paths/1.parquet", path=[*(path.name for path in paths), "gone.jpg"])
    yield f"?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    server.stop()


@pytest.mark.parametrize(("name", "failures"), [("crops", 1), ("bytes", 0), ("bytes/1.parquet", 0), ("paths", 1)])
def test_crops_of_s3_are_embedded_once(options, tmp_path, name, failures):
    root = f"s3://bucket/crops{options}" if name == "paths" else None
    with create_store(tmp_path / "g", ENGINE.spec) as gallery:
        for added, unchanged in ((20, 0), (0, 20)):
            report = embed_many(open_input(f"s3://bucket/{name}{options}", root), gallery, ENGINE)
            assert (report.rows, report.added, report.unchanged, report.failures) == (20, added, unchanged, failures)
        assert report.source == f"s3://bucket/{name}"
        assert {row.path for row in gallery.rows()} == {path.name for path in (tmp_path / "crops").iterdir()}
