"""Many boxes, one collection: several processes create, index, remove and forget at the same time."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.indexing.settings import IndexSettings
from rrid_edge.gallery.indexing.sync import index_folder
from rrid_edge.gallery.milvus import collection
from rrid_edge.gallery.milvus.address import MilvusAddress
from rrid_edge.gallery.milvus.client import Connection
from rrid_edge.gallery.milvus.store import MilvusGallery
from support.galleries import rows as made_rows
from support.pictures import save_crops

SPEC = fake_spec(block_width=4)
INDEXING = """
import sys, time
from pathlib import Path
import rrid_edge.gallery.indexing.writing as writing
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.gallery.indexing.settings import IndexSettings
from rrid_edge.gallery.indexing.sync import index_folder
from rrid_edge.gallery.milvus.address import MilvusAddress
from rrid_edge.gallery.milvus.store import MilvusGallery

class Slow(FakeEngine):
    def _run_batch(self, images):
        time.sleep(0.2)
        return super()._run_batch(images)

writing.COMMIT_ROWS = 8
spec = fake_spec(block_width=4)
print("ready", flush=True)
sys.stdin.readline()
with MilvusGallery.create(MilvusAddress.parse(sys.argv[2]), spec) as gallery:
    print("open", flush=True)
    settings = IndexSettings(batch=4, source=sys.argv[3], allow_removals=True)
    index_folder(Path(sys.argv[1]), gallery, Slow(spec, max_batch=4), settings)
"""


class Indexer:
    """A process that indexes one folder as one source."""

    def __init__(self, folder: Path, address: MilvusAddress) -> None:
        command = [sys.executable, "-c", INDEXING, str(folder), str(address), folder.name]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        assert self._stdout.readline() == "ready\n"

    def go(self) -> None:
        self._stdin.write("\n")
        self._stdin.flush()

    def await_open(self) -> None:
        assert self._stdout.readline() == "open\n", self._process.communicate()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()

    def finish(self) -> None:
        _, error = self._process.communicate(timeout=240)
        assert self._process.returncode == 0, error[-3000:]


def union(folders: Mapping[str, Path]) -> dict[tuple[str, str], tuple[str, bytes]]:
    """Content and descriptor by source and path, embedded file by file."""
    from rrid_edge.crops.images import read_image
    from rrid_edge.files import sha256_of_file

    engine = FakeEngine(SPEC)
    found = {}
    for source, folder in folders.items():
        for path in folder.glob("*.jpg"):
            image = read_image(path, SPEC.height_px, SPEC.width_px)
            vector = engine.run(image[None])[0].astype(np.float16).astype(np.float32)
            found[source, path.name] = (sha256_of_file(path), vector.tobytes())
    return found


def stored(gallery: MilvusGallery) -> dict[tuple[str, str], tuple[str, bytes]]:
    rows = gallery.rows()
    pairs = zip(rows, gallery.vectors(rows), strict=True)
    found = {(row.source, row.path or ""): (row.sha256, vector.tobytes()) for row, vector in pairs}
    assert len(found) == len(rows) == gallery.info().rows
    assert gallery.verify().sound
    return found


def make_folders(root: Path, count: int) -> dict[str, Path]:
    """Three folders with the same file names; the pictures of each differ."""
    folders = {name: root / name for name in ("box-a", "box-b", "box-c")}
    for start, folder in enumerate(folders.values()):
        for path in save_crops(root / "all", 3 * count)[start::3]:
            folder.mkdir(exist_ok=True)
            (folder / f"{len(list(folder.iterdir())):04d}.jpg").write_bytes(path.read_bytes())
    return folders


def test_one_box_after_the_other(tmp_path, lite_file):
    """Milvus Lite: one process at a time."""
    address = MilvusAddress.parse(f"milvus+file:{lite_file}/boxes")
    folders = make_folders(tmp_path, 6)
    with MilvusGallery.create(address, SPEC) as gallery:
        memory = gallery.add([NewRow(None, camera="lobby")], np.eye(1, SPEC.dimension, dtype=np.float32))
        for turn in range(2):
            for source, folder in folders.items():
                settings = IndexSettings(source=source, allow_removals=True)
                index_folder(folder, gallery, FakeEngine(SPEC), settings)
            if not turn:
                for name in ("0001.jpg", "0002.jpg"):
                    (folders["box-b"] / name).unlink()
        assert gallery.remove(memory) == 1
        assert stored(gallery) == union(folders)
        assert gallery.sources() == {"box-a": 6, "box-b": 4, "box-c": 6}


def test_a_row_that_another_process_writes_back_while_it_is_forgotten_is_deleted_again(address, monkeypatch):
    """Its update has read the row before, and stores it after the deletion."""
    import rrid_edge.gallery.milvus.store as module

    compact = collection.compact_segments
    with MilvusGallery.create(address, SPEC) as gallery, MilvusGallery(address) as other:
        ids = gallery.add(made_rows(3), np.eye(3, SPEC.dimension, dtype=np.float32))
        late = [lambda: other.add(made_rows(1), np.eye(1, SPEC.dimension, dtype=np.float32))]

        def compact_late(connection):
            compact(connection)
            while late:
                late.pop()()

        monkeypatch.setattr(module, "compact_segments", compact_late)
        assert gallery.forget(ids[:1]).rows == 1
        assert {row.path for row in other.rows()} == {row.path for row in made_rows(3)[1:]}
        assert len(gallery.kept_out([made_rows(1)[0].sha256])) == 1


@pytest.mark.integration
def test_three_indexers_at_once_one_killed_one_losing_crops(milvus_server, tmp_path):
    address = MilvusAddress.parse(f"{milvus_server.address}/boxes")
    folders = make_folders(tmp_path, 40)
    indexers = {name: Indexer(folder, address) for name, folder in folders.items()}
    for indexer in indexers.values():  # all find no collection and create it
        indexer.go()
    for indexer in indexers.values():
        indexer.await_open()
    with MilvusGallery(address) as watching:
        while not 8 <= watching.sources().get("box-a", 0) < 40:
            time.sleep(0.05)
    indexers["box-a"].kill()
    again = Indexer(folders["box-a"], address)
    again.go()
    indexers["box-b"].finish()
    for path in sorted(folders["box-b"].iterdir())[5:15]:
        path.unlink()
    losing = Indexer(folders["box-b"], address)  # removes while the others may still write
    losing.go()
    for indexer in (losing, indexers["box-c"], again):
        indexer.finish()
    with MilvusGallery(address) as gallery:
        assert stored(gallery) == union(folders)
        assert gallery.sources() == {"box-a": 40, "box-b": 30, "box-c": 40}
        gallery.finish()
        assert gallery._refreshed_facts().bound.rows == 110


@pytest.mark.integration
def test_writers_of_other_properties_do_not_meet(milvus_server):
    address = MilvusAddress.parse(f"{milvus_server.address}/properties")
    MilvusGallery.create(address, SPEC).close()
    errors = []

    def write(thread: int) -> None:
        connection = Connection(address)
        try:
            for step in range(8):
                connection.call("alter_collection_properties", {f"test.{thread}": str(step)})
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    connection = Connection(address)
    properties = connection.call("describe_collection")["properties"]
    connection.close()
    assert {name: value for name, value in properties.items() if name.startswith("test.")} == {
        f"test.{thread}": "7" for thread in range(6)
    }


@pytest.mark.integration
def test_writers_remove_forget_and_note_at_once(milvus_server):
    """Four writers, each with rows of its own: counts and notes are exact at the end, and no reader is refused."""
    address = MilvusAddress.parse(f"{milvus_server.address}/at_once")
    MilvusGallery.create(address, SPEC).close()
    values = np.random.default_rng(0).standard_normal((12, SPEC.dimension)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    errors: list[BaseException] = []

    def digest(writer: int, index: int) -> str:
        return f"{writer * 100 + index:064x}"

    def write(writer: int) -> None:
        given = [NewRow(f"{index}.jpg", digest(writer, index), source=f"s{writer}") for index in range(12)]
        try:
            with MilvusGallery(address) as gallery:
                ids = gallery.add(given, values)
                gallery.set_unreadable(f"s{writer}", {f"{index}.png": (index, writer) for index in range(5)})
                gallery.remove(ids[:2])
                gallery.forget(ids[2:4])
                gallery.finish()
                gallery.set_unreadable(f"s{writer}", {"0.png": (0, writer)})
                gallery.update([dataclasses.replace(row, label="Ann") for row in gallery.rows_by_id(ids[4:6])])
                assert len(gallery.rows([f"s{writer}"])) == 8
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with MilvusGallery(address) as gallery:
        assert gallery.sources() == {f"s{writer}": 8 for writer in range(4)}
        assert sum(row.label == "Ann" for row in gallery.rows()) == 8
        everything = {digest(writer, index) for writer in range(4) for index in range(12)}
        assert gallery.kept_out(everything) == {digest(writer, index) for writer in range(4) for index in (2, 3)}
        for writer in range(4):
            assert gallery.unreadable(f"s{writer}") == {"0.png": (0, writer)}
        gallery.finish()
        assert gallery._refreshed_facts().bound.rows == 32
