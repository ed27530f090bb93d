"""A real Milvus server over gRPC: tokens, kill -9 during indexing, and indexes that must be built before a search."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.errors import GalleryError, GalleryUnavailableError
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.indexing.recall import measure_recall
from rrid_edge.gallery.indexing.settings import IndexSettings
from rrid_edge.gallery.indexing.sync import index_folder
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.milvus.store import MilvusGallery
from rrid_edge.gallery.opening import create_store, open_store, parse_location
from support.galleries import milvus_address
from support.milvus_server import TOKEN
from support.pictures import save_crops

pytestmark = pytest.mark.integration
SPEC = fake_spec(block_width=4)


def content(gallery):
    assert not gallery.verify().damaged
    found = gallery.rows()
    return {
        (row.source, row.path): (row.sha256, row.camera, row.person, vector.tobytes())
        for row, vector in zip(found, gallery.vectors(found), strict=True)
    }


@pytest.mark.parametrize("token", ["", "root:wrong", "nobody:Milvus"])
def test_a_refused_token(milvus_server, monkeypatch, token):
    monkeypatch.setenv("RRID_EDGE_MILVUS_TOKEN", token)
    with pytest.raises(GalleryError, match="refuses the token; set RRID_EDGE_MILVUS_TOKEN") as refusal:
        open_store(parse_location(f"{milvus_server.address}/crops"))
    assert refusal.value.exit_code == 4
    assert "wrong" not in refusal.value.message


INDEXING = """
import sys, time
from pathlib import Path
import rrid_edge.gallery.indexing.sync as sync
import rrid_edge.gallery.indexing.writing as writing
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.gallery.milvus.address import MilvusAddress
from rrid_edge.gallery.milvus.store import MilvusGallery

class Slow(FakeEngine):
    def _run_batch(self, images):
        time.sleep(0.25)  # 30 batches take 7.5 s: long enough to look at the gallery and kill on a loaded machine
        return super()._run_batch(images)

writing.COMMIT_ROWS = 4
spec = fake_spec(block_width=4)
with MilvusGallery.create(MilvusAddress.parse(sys.argv[2]), spec) as gallery:
    print("open", flush=True)
    settings = sync.IndexSettings(batch=4, source=sys.argv[3], allow_removals=True)
    sync.index_folder(Path(sys.argv[1]), gallery, Slow(spec, max_batch=4), settings)
"""


@pytest.mark.parametrize("who", ["indexer", "server"])
def test_kill_9_loses_no_stored_row(milvus_server, tmp_path, monkeypatch, who):
    """The indexer or the server is killed during indexing. Stored rows are kept, and the next index completes them."""
    monkeypatch.setenv("RRID_EDGE_MILVUS_TIMEOUT_S", "15")
    folder, location = tmp_path / "crops", parse_location(f"{milvus_server.address}/killed_{who}")
    save_crops(folder, 120)
    command = [sys.executable, "-c", textwrap.dedent(INDEXING), str(folder), str(location), "local"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with open_store(location) as watching:
            while watching.info().rows < 20:
                time.sleep(0.05)
        if who == "server":
            before = time.monotonic()
            with open_store(location) as watching:
                stored = {(row.source, row.path) for row in watching.rows()}
            milvus_server.kill()
            error = process.communicate(timeout=120)[1]
            assert process.returncode != 0
            assert "GalleryUnavailableError" in error, error[-2000:]
            assert time.monotonic() - before < 60
            with pytest.raises(GalleryUnavailableError):
                open_store(location)
            milvus_server.start()
        else:
            process.send_signal(signal.SIGKILL)
            process.wait()
            stored = set()
    monkeypatch.setenv("RRID_EDGE_MILVUS_TIMEOUT_S", "60")
    with create_store(location, SPEC) as gallery:
        there = content(gallery)
        assert stored <= there.keys()
        assert 20 <= len(there) < 120
        report = index_folder(folder, gallery, FakeEngine(SPEC), IndexSettings(source="local"))
        assert (report.rows, report.added) == (120, 120 - len(there))
        found = content(gallery)
    with LocalGallery.create(tmp_path / "fresh", SPEC) as fresh:
        index_folder(folder, fresh, FakeEngine(SPEC))
        assert found == content(fresh)


def clustered(count: int, spec) -> np.ndarray:
    """Descriptors of 12 crops per person, with a cosine of about 0.5 within a person."""
    generator = np.random.default_rng(7)
    centres = generator.standard_normal((count // 12 + 1, spec.dimension))
    values = centres[np.arange(count) // 12] + generator.standard_normal((count, spec.dimension))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("index_type", ["flat", "ivf", "hnsw"])
def test_indexes_are_built_before_they_are_searched(milvus_server, tmp_path, index_type):
    spec, count = fake_spec(block_width=16), 6000
    made = [NewRow(f"{index:06d}.jpg", f"{index:064x}", 1, 1, str(index % 4)) for index in range(count)]
    location = milvus_address(f"{milvus_server.address}/built_{index_type}")
    with (
        MilvusGallery.create(location, spec, index_type=index_type) as gallery,
        LocalGallery.create(tmp_path / "g", spec) as local,
    ):
        for store in (gallery, local):
            store.add(made, clustered(count, spec))
            store.finish()
        queries = clustered(count, spec)[::600]
        wanted = local.search(queries, 10)
        exact = gallery.search(queries, 10)
        for one, other in zip(wanted.hits, exact.hits, strict=True):
            assert [(hit.row.path, hit.score) for hit in one] == [(hit.row.path, hit.score) for hit in other]
        assert gallery.search_approximately(queries, 10).mode in (index_type, f"fast {index_type}")
        recall = measure_recall(gallery)
        print(f"recall@10 of {index_type}: {recall:.4f}")
        assert recall >= (1.0 if index_type == "flat" else 0.8)


def test_a_damaged_entry_is_deleted_on_a_server(milvus_server):
    """The server deletes by a condition; the entry of a row without a file is replaced by nothing."""
    from pymilvus import MilvusClient

    location = milvus_address(f"{milvus_server.address}/entries")
    with MilvusGallery.create(location, SPEC) as gallery:
        values = clustered(4, SPEC)
        gallery.add([NewRow(None, label=f"{index}", thumbnail=b"small") for index in range(4)], values)
        gallery.finish()
        client = MilvusClient(location.uri, token=TOKEN)
        stored = client.query(
            location.collection, filter='label == "2"', output_fields=["*"], consistency_level="Strong"
        )
        client.upsert(location.collection, [dict(stored[0]) | {"label": "7"}])
        client.close()
        assert {row.label for row in gallery.rows()} == {"0", "1", "3"}
        assert gallery.verify().entries == 1
        gallery.finish()
        assert gallery.verify().sound
        assert gallery.info().rows == 3
        assert gallery._refreshed_facts().bound.rows == 3
