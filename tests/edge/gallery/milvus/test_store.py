"""Milvus: faults of servers and collections, and the command line with Milvus Lite."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import (
    FingerprintMismatchError,
    GalleryError,
    GalleryUnavailableError,
    MissingDependencyError,
    UsageError,
)
from rrid_edge.gallery import NewRow, SearchFilter
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.milvus.schema import file_key
from rrid_edge.gallery.milvus.store import MilvusGallery
from rrid_edge.gallery.opening import open_store, parse_location, remove_store
from support.commands import refused, rrid_edge
from support.galleries import SPEC, answered, milvus_address, path_of, rows, vectors
from support.onnx_models import save_tiny_model
from support.pictures import noise, save_crops


@pytest.fixture
def patient(monkeypatch):
    """Limit calls to two seconds."""
    monkeypatch.setenv("RRID_EDGE_MILVUS_TIMEOUT_S", "2")


def is_one_line(error):
    assert "\n" not in error.message
    assert "Traceback" not in error.message
    assert error.exit_code == 4


# --- servers ------------------------------------------------------------------------------------------------------


def test_a_server_that_is_down(patient):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(
        GalleryUnavailableError, match=r"cannot be reached.*start the server or correct the address"
    ) as refusal:
        open_store(parse_location(f"milvus+http://127.0.0.1:{port}/crops"))
    is_one_line(refusal.value)


def test_a_server_that_never_answers(patient):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        with pytest.raises(
            GalleryUnavailableError, match=r"does not answer.*2 s.*raise RRID_EDGE_MILVUS_TIMEOUT_S"
        ) as refusal:
            open_store(parse_location(f"milvus+http://127.0.0.1:{listening.getsockname()[1]}/crops"))
    is_one_line(refusal.value)


def test_a_server_that_stops_answering(address, raw, patient):
    """The network stops forwarding: the next call raises a one-line error within its limit."""
    port = int(raw._config.address.rsplit(":", 1)[1]) if hasattr(raw._config, "address") else None
    if port is None:
        pytest.fail("this pymilvus does not expose the address of Milvus Lite")
    with _Forwarder(port) as forwarder:
        gallery = MilvusGallery(milvus_address(f"milvus+http://127.0.0.1:{forwarder.port}/{address.collection}"))
        gallery.add(rows(3), vectors(3))
        forwarder.silent.set()
        with pytest.raises(GalleryUnavailableError, match="does not answer") as refusal:
            gallery.info()
        is_one_line(refusal.value)
        gallery.close()


class _Forwarder:
    """Forwards bytes between a client and a server until ``silent`` is set."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.silent = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._sockets: list[socket.socket] = []

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_error):
        self.silent.set()
        for one in (self._listening, *self._sockets):
            one.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source, target):
        while True:
            try:
                data = source.recv(65536)
                if not data:
                    return
                if not self.silent.is_set():
                    target.sendall(data)
            except OSError:
                return


def test_a_timeout_that_is_no_number(monkeypatch, address):
    monkeypatch.setenv("RRID_EDGE_MILVUS_TIMEOUT_S", "soon")
    with pytest.raises(UsageError, match="RRID_EDGE_MILVUS_TIMEOUT_S='soon'"):
        open_store(address)


@pytest.mark.parametrize("missing", ["pymilvus", "milvus_lite"])
def test_a_missing_package(address, missing, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    if missing == "pymilvus":
        monkeypatch.setitem(sys.modules, "pymilvus", None)
    else:
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: None if name == missing else find(name, *rest)
        )
    with pytest.raises(MissingDependencyError, match="pip install") as refusal:
        open_store(address)
    assert refusal.value.exit_code == 3


# --- collections --------------------------------------------------------------------------------------------------


def test_no_such_collection(address):
    with pytest.raises(GalleryError, match="no such collection") as refusal:
        open_store(address)
    is_one_line(refusal.value)


def test_a_collection_of_other_dimensions(raw, address):
    raw.drop_collection(address.collection)
    raw.create_collection(address.collection, dimension=8)
    with pytest.raises(GalleryError, match="vectors of 8 values, this model's descriptors have 60") as refusal:
        open_store(address, spec=SPEC)
    is_one_line(refusal.value)
    for use in (lambda: open_store(address), lambda: remove_store(address)):
        with pytest.raises(GalleryError, match="not a gallery of rrid-edge"):
            use()
    assert raw.has_collection(address.collection)


def test_another_model(address, raw):
    with pytest.raises(FingerprintMismatchError, match=r"another model.*--rebuild") as refusal:
        open_store(address, spec=fake_spec("other", block_width=4))
    is_one_line(refusal.value)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rrid.gallery.format": "99"}, "format 99 is newer"),
        ({"rrid.gallery.spec": "{}"}, "damaged properties of the collection"),
        ({"rrid.gallery.spec": "[" * 9_999}, "damaged spec in the properties"),
        ({"rrid.gallery.replicas": "two"}, "damaged properties of the collection .* at replicas"),
        ({"rrid.gallery.retention_s": "\u0661"}, "damaged properties of the collection .* at retention_s"),
        ({"rrid.gallery.damaged": "[]"}, "damaged record of damage"),
        ({"rrid.gallery.damaged": "{"}, "damaged record of damage"),
        ({"rrid.gallery.removing.x": "token soon"}, "damaged properties of the collection .*whole number"),
        ({"rrid.gallery.fingerprint": "0" * 64}, "contradict each other"),
        ({"rrid.gallery.index": "tree"}, "damaged properties of the collection .* at index"),
    ],
)
def test_newer_or_damaged_facts(raw, address, changed, words):
    raw.alter_collection_properties(address.collection, changed)
    with pytest.raises(GalleryError, match=words) as refusal:
        open_store(address)
    is_one_line(refusal.value)


def test_a_collection_that_was_dropped_meanwhile(raw, address):
    with MilvusGallery(address) as gallery:
        gallery.add(rows(3), vectors(3))
        raw.drop_collection(address.collection)
        for use in (
            lambda: gallery.search(vectors(1), 3),
            gallery.rows,
            gallery.verify,
            lambda: gallery.add(rows(3), vectors(3)),
            lambda: gallery.remove(["b/00001.jpg"]),
        ):
            with pytest.raises(GalleryError, match="dropped meanwhile") as refusal:
                use()
            is_one_line(refusal.value)


def test_a_gallery_that_was_rebuilt_for_another_model_takes_no_rows(address):
    with MilvusGallery.create(address, SPEC) as old:
        remove_store(address)
        MilvusGallery.create(address, fake_spec("other", block_width=4)).close()
        for use in (lambda: old.add(rows(1), vectors(1)), old.rows, old.verify):
            with pytest.raises(FingerprintMismatchError):
                use()


def test_the_key_of_forgotten_contents_follows_a_rebuild(address):
    """Another process drops the gallery and restores what was forgotten under the old key."""
    forgotten = f"{0:064x}"
    with MilvusGallery.create(address, SPEC) as watching:
        watching.forget(watching.add(rows(2), vectors(2))[:1])
        state = watching.kept_out_state()
        remove_store(address)
        with MilvusGallery.create(address, SPEC) as rebuilt:
            rebuilt.set_unreadable("local", {"x.jpg": (1, 2)})
            with MilvusGallery(address) as early:
                assert early.kept_out([forgotten]) == set()
                rebuilt.restore_kept_out(state)
                for one in (early, watching, rebuilt):
                    assert one.kept_out([forgotten]) == {forgotten}


def test_incomplete_answers_are_refused(address, raw, monkeypatch):
    """A query node is missing: searches and reads return fewer rows than are counted."""
    with MilvusGallery(address) as gallery:
        gallery.add(rows(30), vectors(30))
        call = gallery._connection.call

        def short(method, *arguments, **options):
            answer = call(method, *arguments, **options)
            if method == "search":
                return [hits[:-1] for hits in answer]
            return answer[:-1] if method == "query" and options["output_fields"] != ["count(*)"] else answer

        monkeypatch.setattr(gallery._connection, "call", short)
        for use in (lambda: gallery.search(vectors(1), 40), gallery.rows, gallery.verify):
            with pytest.raises(GalleryError, match=r"returned only 29 of 30 crops, so there is no answer") as refusal:
                use()
            is_one_line(refusal.value)


def test_rows_that_a_server_lost_silently_are_noticed(address, raw, monkeypatch):
    """One replica whose query node died: counts and searches agree, but both lack rows."""
    monkeypatch.setenv("RRID_EDGE_MILVUS_TIMEOUT_S", "1.5")
    with MilvusGallery(address) as gallery:
        gallery.add(rows(30), vectors(30))
        gallery.finish()
        raw.delete(address.collection, ids=[file_key("local", "b/00003.jpg")])
        for use in (lambda: gallery.search(vectors(1), 3), gallery.rows, gallery.verify, gallery.info):
            with pytest.raises(GalleryError, match=r"returned only 29 of 30 crops, so there is no answer") as refusal:
                use()
            is_one_line(refusal.value)
        gallery.add(rows(4)[3:], vectors(4)[3:])
        assert gallery.remove(["b/00003.jpg", "b/00005.jpg"]) == 2
        assert gallery.search(vectors(1), 3).rows == 28


def test_more_hits_than_milvus_returns(address, raw):
    with MilvusGallery(address) as gallery, pytest.raises(UsageError, match="1 to 16,384 hits"):
        gallery.search(vectors(1), 16_385)


def test_rows_that_milvus_cannot_hold(address, raw):
    with MilvusGallery(address) as gallery:
        for row in (
            NewRow("ü" * 3000),
            NewRow("\ud800"),
            NewRow("a", camera="\ud800"),
            NewRow("a", thumbnail=b"x" * 2**16),
        ):
            with pytest.raises(UsageError, match="Milvus cannot hold this row"):
                gallery.add([row], vectors(1))
        with pytest.raises(UsageError, match="twice"):
            gallery.add([*rows(1), *rows(1)], vectors(2))
        assert gallery.info().rows == 0


def test_more_rows_than_one_answer_holds(address, raw, monkeypatch):
    """With small pages and batches, the results are the same."""
    monkeypatch.setattr("rrid_edge.gallery.milvus.rows.MOST_ROWS_PER_ANSWER", 16)
    monkeypatch.setattr("rrid_edge.gallery.milvus.rows._ROWS_PER_PAGE", 64)
    monkeypatch.setattr("rrid_edge.gallery.milvus.writing.BATCH_BYTES", 20_000)
    with MilvusGallery(address) as gallery:
        gallery.add(rows(200), vectors(200))
        found = gallery.rows()
        assert {row.path for row in found} == {row.path for row in rows(200)}
        assert gallery.vectors(found).shape == (200, SPEC.dimension)
        assert gallery.verify().rows == 200


def test_more_candidates_than_one_message_holds(address, raw, monkeypatch):
    with MilvusGallery(address) as gallery:
        gallery.add(rows(200), vectors(200))
        queries = vectors(6, seed=5)
        whole = gallery.search(queries, 150)
        monkeypatch.setattr("rrid_edge.gallery.milvus.search._CANDIDATES_PER_BATCH", 400)
        assert gallery.search(queries, 150) == whole
        assert gallery.search(queries, 10).hits == tuple(hits[:10] for hits in whole.hits)


@pytest.mark.parametrize("index_type", ["ivf", "hnsw"])
def test_other_indexes_answer_exactly_without_fast(address, index_type, tmp_path):
    with (
        MilvusGallery.create(address, SPEC, index_type=index_type) as gallery,
        LocalGallery.create(tmp_path / "g", SPEC) as local,
    ):
        for store in (gallery, local):
            store.add(rows(400), vectors(400))
            store.finish()
        queries, search_filter = vectors(3, seed=5), SearchFilter(not_cameras=frozenset({"1"}))
        exact = gallery.search(queries, 10, search_filter)
        assert list(map(answered, exact.hits)) == list(map(answered, local.search(queries, 10, search_filter).hits))
        assert exact.mode == {"ivf": "ivf", "hnsw": "scan"}[index_type]
        fast = gallery.search_approximately(queries, 10, search_filter)
        assert fast.mode in (f"fast {index_type}", f"fast {index_type} and scan", "scan")
        assert {len(hits) for hits in fast.hits} == {10}
    with pytest.raises(UsageError, match="'tree' is unknown: expected one of flat, ivf, hnsw, diskann"):
        MilvusGallery.create(address, SPEC, index_type="tree")


def test_a_fast_search_waits_for_the_index_once_per_write(address, monkeypatch):
    """Waiting flushes, and a server may allow one flush per ten seconds."""
    waits: list[object] = []
    monkeypatch.setattr("rrid_edge.gallery.milvus.reading.await_index", waits.append)
    with MilvusGallery.create(address, SPEC, index_type="hnsw") as gallery:
        for written in range(1, 4):
            ids = gallery.add(rows(5, start=written), vectors(5))
            for _ in range(3):
                gallery.search_approximately(vectors(1), 2)
            assert len(waits) == 2 * written - 1
            gallery.update(gallery.rows_by_id(ids[:1]))
            gallery.search_approximately(vectors(1), 2)
            assert len(waits) == 2 * written


def test_a_user_who_may_only_read_can_verify(address, raw, monkeypatch):
    with MilvusGallery(address) as gallery:
        gallery.add(rows(3), vectors(3))
        stored = dict(raw.query(address.collection, filter='path == "b/00001.jpg"', output_fields=["*"])[0])
        raw.upsert(address.collection, [stored | {"label": "Ann"}])

        def refused(_name, _properties, **_options):
            raise RuntimeError("PrivilegeAlterCollection: permission deny")

        monkeypatch.setattr(gallery._connection._client, "alter_collection_properties", refused)
        assert gallery.verify().entries == 1
        with pytest.raises(GalleryError, match="refuses the token"):
            gallery.remember({"model": "m"})


@pytest.mark.parametrize("name", [1.5, None, b"a", True, ["a"]])
def test_rows_are_named_by_id_or_path(address, name):
    with MilvusGallery.create(address, SPEC) as gallery:
        for use in (gallery.remove, gallery.forget):
            with pytest.raises(UsageError, match="names no row"):
                use([name])


def test_a_collection_keeps_its_index_type(address):
    MilvusGallery.create(address, SPEC, index_type="ivf").close()
    with pytest.raises(UsageError, match=r"index type ivf and 1 replicas.*gallery copy"):
        MilvusGallery.create(address, SPEC, index_type="flat")
    with pytest.raises(UsageError, match="index type ivf"):
        MilvusGallery.create(address, SPEC, replicas=2)
    with MilvusGallery.create(address, SPEC) as gallery:
        assert gallery.info().index_type == "ivf"


# --- the command line ---------------------------------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path, monkeypatch, address):
    """Twelve crops of four people, a query, a model, and an address."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RRID_EDGE_MODEL", raising=False)
    save_crops(tmp_path / "gallery", 12)
    save_tiny_model(tmp_path / "models" / "rrid.onnx")
    shutil.copy(tmp_path / "gallery" / "0002_c2s1_000001_00.jpg", tmp_path / "0002_c2s1_000901_00.jpg")
    return tmp_path


def test_the_same_commands_and_answers_as_with_a_folder(desk, address):
    assert rrid_edge("index", "gallery").code == 0
    first = rrid_edge("index", "gallery", "--gallery", address, "--json")
    assert json.loads(first.out)["added"] == 12, first
    again = json.loads(rrid_edge("index", "gallery", "--gallery", address, "--json").out)
    assert (again["added"], again["unchanged"], again["index"]) == (0, 12, str(address))
    question = ("match", "0002_c2s1_000901_00.jpg", "gallery", "--exclude-same-camera", "--json")
    local, milvus = (
        json.loads(rrid_edge(*question, *options).out)["results"][0] for options in ((), ("--gallery", address))
    )
    # Each store numbers its rows and samples other people in its own way. A server's rows name their host and folder.
    for found in (local, milvus):
        for match in found["matches"]:
            assert match.pop("id") >= 0
            assert len(match.pop("contrasts")) == len(match["block_scores"])
        sources = {match.pop("source") for match in found["matches"]}
        assert len(sources) == 1
    assert milvus["matches"] == local["matches"]
    assert (local["search"], milvus["search"]) == ("scan", "flat")
    listed = json.loads(rrid_edge("gallery", "list", address, "--json").out)
    assert len(listed["rows"]) == listed["info"]["rows"] == 12
    assert rrid_edge("gallery", "verify", address).out.startswith("12 rows, 0 damaged")
    assert json.loads(rrid_edge("gallery", "verify", address, "--recall", "--json").out)["recall"]["value"] == 1
    assert "compacted, 12 crops kept" in rrid_edge("gallery", "compact", address).out
    forgotten = rrid_edge("gallery", "forget", address, "--person", "0002")
    assert (forgotten.code, forgotten.out) == (0, "3 crops forgotten, their descriptors deleted\n")
    assert "left: " in forgotten.err
    assert "9 descriptors of 240 values" in rrid_edge("gallery", "export", address, "out.npz").out


def test_index_follows_and_rebuild_drops(desk, address, raw):
    raw.drop_collection(address.collection)
    rrid_edge("index", "gallery", "--gallery", address)
    (desk / "gallery" / "0001_c1s1_000000_00.jpg").unlink()
    noise(3).save(desk / "gallery" / "0002_c2s1_000001_00.jpg")
    report = json.loads(rrid_edge("index", "gallery", "--gallery", address, "--json").out)
    assert (report["removed"], report["changed"], report["rows"]) == (1, 1, 11)
    save_tiny_model(desk / "other.onnx", fake_spec("other"))
    refused(
        rrid_edge("index", "gallery", "--gallery", address, "--model", "other.onnx"), 4, "another model", "--rebuild"
    )
    rebuilt = rrid_edge("index", "gallery", "--gallery", address, "--model", "other.onnx", "--rebuild", "--json")
    assert json.loads(rebuilt.out)["added"] == 11
    raw.drop_collection(address.collection)
    raw.create_collection(address.collection, dimension=8)
    outcome = rrid_edge("index", "gallery", "--gallery", address, "--model", "other.onnx", "--rebuild")
    refused(outcome, 4, "not a gallery of rrid-edge")


def test_match_indexes_a_new_collection_once(desk, address):
    question = ("match", "0002_c2s1_000901_00.jpg", "gallery", "--gallery", address)
    assert "indexed 12 crops" in rrid_edge(*question).err
    assert "indexed 12" not in rrid_edge(*question).err


def test_refusals_on_the_command_line(desk, address, patient):
    refused(rrid_edge("gallery", "list", "milvus+http://127.0.0.1:1/crops"), 4, "cannot be reached")
    refused(rrid_edge("gallery", "list", "milvus+http://127.0.0.1:1"), 2, "not an address of a gallery")
    refused(rrid_edge("index", "gallery", "--index-type", "hnsw"), 2, "for galleries in Milvus")
    refused(rrid_edge("index", "gallery", "--gallery", address, "--index-type", "tree"), 2, "'tree' is unknown")


def test_nothing_of_pymilvus_reaches_the_terminal(desk):
    """A new process prints one line, without tracebacks or tokens."""
    code = textwrap.dedent(
        """
        import sys
        import pymilvus
        import rrid_edge.cli
        from rrid_edge.cli.app import run
        pymilvus.MilvusClient("new.db").close()
        sys.exit(run(["gallery", "list", "milvus+file:new.db/nothing"]))
        """
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 4
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert "no such collection" in result.stderr


def test_opening_does_not_import_pymilvus():
    code = "import sys, rrid_edge.gallery.opening; print('pymilvus' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_float16_values_are_those_of_a_folder(address, raw):
    with MilvusGallery(address) as gallery:
        gallery.add(rows(5), vectors(5))
        order = np.argsort([path_of(row) for row in rows(5)])
        np.testing.assert_array_equal(
            gallery.vectors(gallery.rows()), vectors(5)[order].astype(np.float16).astype(np.float32)
        )
