"""Inputs of bulk embedding: folders, tables of Parquet and addresses, and the names of their crops."""

from __future__ import annotations

import hashlib
import socket
import sys
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rrid_edge.errors import FolderUnavailableError, ImageError, MissingDependencyError, UsageError
from rrid_edge.gallery.bulk.inputs import open_input
from rrid_edge.gallery.bulk.known import KnownFiles
from rrid_edge.gallery.bulk.reaching import refuse_unreachable
from rrid_edge.gallery.bulk.tables import crops_of, read_columns
from support.galleries import path_of, rows
from support.pictures import save_crops


def batches(text, **options):
    return list(open_input(str(text), **options).batches(3))


def test_a_folder_is_listed_as_index_lists_it(tmp_path):
    paths = save_crops(tmp_path / "a", 7)
    (tmp_path / "note.txt").write_text("no image")
    found = open_input(str(tmp_path))
    names = [name for batch in found.batches(3) for name in batch.names]
    assert sorted(names) == sorted(f"a/{path.name}" for path in paths)
    assert [len(batch.names) for batch in found.batches(3)] == [3, 3, 1]
    assert found.count() == 7
    assert dict(found.endings) == {".txt": 1}
    state = paths[0].stat()
    assert found.listing[f"a/{paths[0].name}"] == (state.st_size, state.st_mtime_ns)
    assert found.source is None


def test_an_address_is_listed_like_a_folder(tmp_path):
    paths = save_crops(tmp_path / "a", 4)
    here, there = open_input(str(tmp_path)), open_input(f"file://{tmp_path}")
    assert dict(there.listing) == dict(here.listing)
    assert there.source == f"file://{tmp_path}"
    name = f"a/{paths[0].name}"
    assert there.files.fetch(name, paths[0]).content == paths[0].read_bytes()
    assert there.files.fetch(name, paths[0]).facts == here.files.fetch(name, paths[0]).facts


def test_files_of_an_address_that_are_no_images_are_refused(tmp_path):
    save_crops(tmp_path, 1)
    (tmp_path / "text.jpg").write_text("no image")
    files = open_input(f"file://{tmp_path}").files
    with pytest.raises(ImageError, match=r"text\.jpg"):
        files.fetch("text.jpg", tmp_path)
    with pytest.raises(ImageError, match="no such file"):
        files.fetch("gone.jpg", tmp_path)
    assert files.state("gone.jpg") is None


def test_a_table_tells_names_bytes_and_facts(tmp_path):
    noon = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
    table = pa.table(
        {
            "path": ["/data/1.jpg", "x//./2.jpg", None, "3.jpg", None, "3.jpg", "../4.jpg", "/"],
            "image": pa.array([b"1", b"2", b"3", None, None, b"5", b"6", b"7"]),
            "camera": pa.array([1, 2, None, 4, 5, 6, 7, 8]),
            "person": pa.array(["a", "b", None, "d", "e", "f", "g", "h"]).dictionary_encode(),
            "time": pa.array([noon + timedelta(seconds=index) for index in range(8)], pa.timestamp("ns", "UTC")),
            "frame": pa.array(range(8)),
            "unknown": range(8),
        }
    )
    pq.write_table(table, tmp_path / "crops.parquet")
    found = open_input(str(tmp_path / "crops.parquet"))
    assert found.columns == ("path", "image", "camera", "person", "time", "frame")
    assert found.count() == 8
    (crops,) = found.batches()
    unnamed = f"sha256/{hashlib.sha256(b'3').hexdigest()}"
    assert crops.contents == {"data/1.jpg": b"1", "x/2.jpg": b"2", unnamed: b"3", "3.jpg": b"5"}
    assert list(crops.names) == ["data/1.jpg", "x/2.jpg", unnamed, "3.jpg"]
    noon_us = 1_714_564_800_000_000
    assert crops.facts["x/2.jpg"] == {"camera": 2, "person": "b", "time": noon_us + 1_000_000, "frame": 1}
    assert crops.facts[unnamed]["camera"] is None
    reasons = dict(crops.failed)
    assert "no image bytes" in reasons["3.jpg"]
    assert "neither a path nor image bytes" in reasons["row 4 of a batch"]
    assert "leads out of its folder" in reasons["../4.jpg"]
    assert "names no file" in reasons["/"]
    assert found.source is not None
    assert found.source.endswith(f":{tmp_path}/crops.parquet")


def test_row_groups_hold_all_rows_once(tmp_path):
    for name, start in (("a", 0), ("b", 10)):
        table = pa.table({"path": [f"{index}.jpg" for index in range(start, start + 10)], "image": [b"x"] * 10})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=4)
    for text in (str(tmp_path), f"file://{tmp_path}"):
        found = open_input(text)
        groups = found.row_groups()
        assert [rows for _, _, rows in groups] == [4, 4, 2, 4, 4, 2]
        parts = [found.row_group(table, number, 3) for table, number, _ in groups]
        names = [name for part in parts for batch in part for name in batch.names]
        assert sorted(names, key=lambda name: int(name[:-4])) == [f"{index}.jpg" for index in range(20)]


def test_a_path_that_occurs_twice_is_taken_once():
    crops = crops_of(pa.table({"path": ["1.jpg", "1.jpg"], "image": [b"1", b"2"]}))
    assert crops.contents == {"1.jpg": b"1"}
    assert [name for name, reason in crops.failed if "occurs twice" in reason] == ["1.jpg"]


def test_a_table_of_paths_reads_files_beside_it_or_of_its_root(tmp_path):
    paths = save_crops(tmp_path / "crops", 3)
    for place, name in ((tmp_path / "crops", "index.parquet"), (tmp_path, "other.parquet")):
        pq.write_table(pa.table({"path": [str(paths[0]), paths[1].name]}), place / name)
    (tmp_path / "tables").mkdir()
    (tmp_path / "other.parquet").replace(tmp_path / "tables" / "other.parquet")
    for found in (
        open_input(str(tmp_path / "crops" / "index.parquet")),
        open_input(str(tmp_path / "tables"), str(tmp_path / "crops")),
        open_input(str(tmp_path / "tables"), f"file://{tmp_path}/crops"),
    ):
        (crops,) = found.batches()
        assert list(crops.names) == [paths[0].name, paths[1].name]
        assert crops.contents is None
        assert found.files.fetch(paths[1].name, paths[1]).content == paths[1].read_bytes()


def test_names_that_are_no_unicode_travel_as_bytes():
    crops = crops_of(pa.table({"path": pa.array([b"\xff.jpg"]), "size": [5], "mtime_ns": [7]}))
    assert list(crops.names) == ["\udcff.jpg"]
    assert crops.states == {"\udcff.jpg": (5, 7)}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"name": ["a"]}, "neither a column 'path' nor a column 'image' (columns: name)"),
        ({"path": [1]}, "column 'path' has type int64; expected text"),
        ({"image": ["a"]}, "column 'image' has type string; expected binary: the bytes of an image file"),
        ({"path": ["a"], "camera": [0.5]}, "column 'camera' has type double; expected text or whole numbers"),
        ({"path": ["a"], "time": ["noon"]}, "column 'time' has type string; expected timestamps"),
        ({"path": ["a"], "frame": ["1"]}, "column 'frame' has type string; expected whole numbers"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns, message):
    with pytest.raises(UsageError) as refusal:
        read_columns(pa.table(columns).schema, "crops.parquet")
    assert message in refusal.value.message


def test_inputs_that_do_not_fit_are_refused(tmp_path):
    (tmp_path / "note.txt").write_text("no table")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no table")
    (tmp_path / "empty").mkdir()
    save_crops(tmp_path / "both", 1)
    save_crops(tmp_path / "crops", 1)
    pq.write_table(pa.table({"path": ["a"]}), tmp_path / "both" / "t.parquet")
    for text, message in {
        "gone": "no such file or folder",
        "note.txt": "no table of Parquet",
        "bad.parquet": "no readable table of Parquet",
        "empty": "no images in it",
        "both": "1 images and 1 tables of Parquet",
    }.items():
        with pytest.raises(UsageError, match=message):
            open_input(str(tmp_path / text))
    for text in (f"file://{tmp_path}/empty", f"file://{tmp_path}/both"):
        with pytest.raises(UsageError, match=r"no images in it|1 images and 1 tables"):
            open_input(text)
    with pytest.raises(FolderUnavailableError, match="cannot be listed"):
        open_input(f"file://{tmp_path}/gone")
    with pytest.raises(UsageError, match="no usable address"):
        open_input("nothing://bucket/crops")
    with pytest.raises(UsageError, match="has no other folder of files"):
        open_input(str(tmp_path / "crops"), str(tmp_path))
    with pytest.raises(UsageError, match="no such folder"):
        open_input(str(tmp_path / "both" / "t.parquet"), str(tmp_path / "gone"))


def test_an_address_with_credentials_is_refused_without_repeating_them():
    with pytest.raises(UsageError, match="AWS_ACCESS_KEY_ID") as refusal:
        open_input("s3://USER:PASSPHRASE@bucket/crops")
    assert "PASSPHRASE" not in refusal.value.message
    assert "USER" not in refusal.value.message


def test_a_store_that_does_not_answer_is_no_wrong_address(monkeypatch):
    class Away:
        @staticmethod
        def from_uri(_text):
            raise OSError("When resolving region for bucket: " + "curlCode 6, Could not resolve host " * 20)

    monkeypatch.setattr("pyarrow.fs.FileSystem", Away)
    with pytest.raises(FolderUnavailableError, match="check the address, the credentials and the network") as refusal:
        open_input("s3://bucket/crops.parquet")
    assert " ...)" in refusal.value.message  # the reason is cut after a word
    assert len(refusal.value.message) < 320


def test_a_missing_pyarrow_is_one_line(tmp_path, monkeypatch):
    pq.write_table(pa.table({"path": ["a"]}), tmp_path / "t.parquet")
    for name in ("pyarrow", "pyarrow.fs", "pyarrow.dataset"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'rrid-edge\[parquet\]'") as refusal:
        open_input(str(tmp_path / "t.parquet"))
    assert refusal.value.exit_code == 3


def test_an_address_of_a_cluster_that_nobody_answers_is_refused_at_once():
    for address in (None, "auto", "local"):
        refuse_unreachable(address)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refuse_unreachable(f"ray://127.0.0.1:{port}")
        refuse_unreachable(f"127.0.0.1:{port}")
    with pytest.raises(UsageError, match="no Ray cluster answers"):
        refuse_unreachable(f"ray://127.0.0.1:{port}")
    for text in ("head", "http://head:1", "head:0", "head:99999", "ray://head"):
        with pytest.raises(UsageError, match="no address of a Ray cluster"):
            refuse_unreachable(text)


def test_known_files_are_found_by_path():
    stored = rows(50)
    known = KnownFiles.of(stored)
    found = known.find([*map(path_of, stored[::7]), "gone.jpg"])
    assert {path: (row.sha256, row.size, row.mtime_ns) for path, row in found.items()} == {
        row.path: (row.sha256, row.size, row.mtime_ns) for row in stored[::7]
    }
    assert KnownFiles.of([]).find(["a.jpg"]) == {}
