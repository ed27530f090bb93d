"""Exports as Parquet and CSV, read back with pyarrow and csv: equal to what the gallery holds, in every store."""

from __future__ import annotations

import csv
import sys
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from rrid_edge.errors import GalleryError, MissingDependencyError, UsageError
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.exporting import export_gallery
from rrid_edge.gallery.row_list import BLOCK_ROWS, RowList
from rrid_edge.gallery.spreadsheet import cell
from rrid_edge.json_text import text_of_name
from support.galleries import SPEC, rows, vectors

SEEN = 1_795_627_815_250_000
ODD = (
    NewRow("=cmd|'/c calc'!A1.jpg", "ab" * 32, 1, 2, camera="+1", person="-1", label="@Ann", track="\tt", time=SEEN),
    NewRow("a,\"b\"\nc.jpg", "cd" * 32, 1, 2, camera="7", person="0750", frame=2**61),
    NewRow("caf\udce9.jpg", "ef" * 32, 1, 2),
    NewRow(None, label="\rBob", source="-box", time=-5),
)  # fmt: skip


@pytest.fixture
def filled(store):
    """A gallery of 34 rows."""
    known = [*rows(30), *ODD]
    store.add(known, vectors(len(known)))
    return store


def held(store):
    """Rows and vectors of a gallery, in order."""
    with store.moment() as moment:
        found = moment.rows()
        return found, moment.vectors(found)


def told(value):
    return None if value is None else text_of_name(value)


def test_parquet_holds_what_the_gallery_holds(filled, tmp_path, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(RowList.__init__, "__defaults__", (None, 8))
    ids = export_gallery(filled, tmp_path / "all.parquet")
    expected, stored = held(filled)
    table = pq.read_table(tmp_path / "all.parquet")
    assert table.schema.field("id").type == "int64"
    assert table["id"].to_pylist() == ids == [row.id for row in expected]
    for name in ("path", "source", "camera", "person", "label", "track"):
        assert table[name].to_pylist() == [told(getattr(row, name)) for row in expected]
    times = table["time"].to_pylist()
    assert str(table.schema.field("time").type) == "timestamp[us, tz=UTC]"
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    micro = [None if time is None else (time - epoch) // timedelta(microseconds=1) for time in times]
    assert micro == [row.time for row in expected]
    assert table["frame"].to_pylist() == [row.frame for row in expected]
    found = table["descriptor"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    assert found.dtype == np.float32
    assert np.array_equal(found, stored)
    facts = table.schema.metadata
    assert facts[b"rrid-edge.fingerprint"].decode() == SPEC.fingerprint
    assert facts[b"rrid-edge.dimension"] == b"60"
    assert pq.ParquetFile(tmp_path / "all.parquet").num_row_groups == 5
    assert (tmp_path / "all.parquet").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("descriptors", [False, True])
def test_csv_holds_what_the_gallery_holds_and_no_formula(filled, tmp_path, descriptors):
    ids = export_gallery(filled, tmp_path / "all.csv", descriptors=descriptors)
    expected, stored = held(filled)
    with (tmp_path / "all.csv").open(encoding="utf-8", newline="") as stream:
        head, *lines = csv.reader(stream)
    assert head[:9] == ["id", "path", "source", "camera", "person", "label", "track", "time", "frame"]
    assert head[9:] == ([f"d{index}" for index in range(60)] if descriptors else [])
    assert [int(line[0]) for line in lines] == ids == [row.id for row in expected]
    for line, row in zip(lines, expected, strict=True):
        for place, name in enumerate(("path", "source", "camera", "person", "label", "track"), start=1):
            value = told(getattr(row, name)) or ""
            assert line[place] == ("'" + value if value[:1] in set("=+-@\t\r") and value else value)
        assert line[8] == ("" if row.frame is None else str(row.frame))
    assert {line[7] for line in lines if line[5] == "'@Ann"} == {"2026-11-25T17:30:15.250000Z"}
    if descriptors:
        assert np.array_equal(np.array([line[9:] for line in lines]).astype(np.float32), stored)


@pytest.mark.parametrize(
    ("value", "shown"),
    [("=1", "'=1"), ("+1", "'+1"), ("-1", "'-1"), ("@a", "'@a"), ("\ta", "'\ta"), ("\ra", "'\ra"), ("1=", "1="),
     ("", ""), (None, ""), (-7, -7), ("\udce9", "\uefe9")],
)  # fmt: skip
def test_a_cell_is_never_a_formula(value, shown):
    assert cell(value) == shown


def test_exports_of_nothing_have_their_columns(store, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    assert export_gallery(store, tmp_path / "none.parquet") == []
    table = pq.read_table(tmp_path / "none.parquet")
    assert (len(table), table.schema.field("descriptor").type.list_size) == (0, 60)
    assert export_gallery(store, tmp_path / "none.CSV") == []
    assert (tmp_path / "none.CSV").read_text() == "id,path,source,camera,person,label,track,time,frame\n"
    with (tmp_path / "none.CSV").open(newline="") as stream:
        assert stream.read().endswith("frame\r\n")


def test_some_sources_only(filled, tmp_path):
    for name in ("x.csv", "x.parquet", "x.npz"):
        assert len(export_gallery(filled, tmp_path / name, sources=["-box"])) == 1
        assert export_gallery(filled, tmp_path / name, sources=[]) == []


def test_an_existing_file_stays_unless_it_is_to_be_replaced(filled, tmp_path):
    for name in ("x.csv", "x.parquet", "x.npz"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(UsageError, match=rf"{name}: this file exists; expected a new name"):
            export_gallery(filled, tmp_path / name, overwrite=False)
        assert (tmp_path / name).read_text() == "mine"
        assert len(export_gallery(filled, tmp_path / name)) == 34
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="this file exists"):
        export_gallery(filled, tmp_path / "gone.csv", overwrite=False)


def test_what_cannot_be_written_is_refused_first(filled, tmp_path, monkeypatch):
    for name in ("x", "x.txt", "x.csv.gz", "npz"):
        with pytest.raises(UsageError, match=r"must end in \.npz, \.parquet or \.csv"):
            export_gallery(filled, tmp_path / name)
    for name in ("x.npz", "x.parquet"):
        with pytest.raises(UsageError, match="descriptors are always in"):
            export_gallery(filled, tmp_path / name, descriptors=True)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'rrid-edge\[parquet\]'"):
        export_gallery(filled, tmp_path / "x.parquet")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("x")]


def test_a_damaged_descriptor_leaves_no_file(filled, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")

    def damaged(*_: object) -> None:
        raise GalleryError("damaged")

    with filled.moment() as moment:
        monkeypatch.setattr(type(moment), "vectors", damaged)
    for name in ("x.csv", "x.parquet"):
        with pytest.raises(GalleryError, match="damaged"):
            export_gallery(filled, tmp_path / name, descriptors=name == "x.csv")
        assert not (tmp_path / name).exists()
    assert BLOCK_ROWS * 3840 * 4 < 64 << 20  # a block of descriptors, which is all that is in memory
