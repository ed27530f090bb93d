"""Rows by label: a folder finds them as a store that reads all rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rrid_edge.gallery import NewRow
from rrid_edge.gallery.labelled import LabelledMoment, labels_of, rows_by_label, rows_labelled
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.people.threshold import row_ids
from support.galleries import SPEC, vectors
from support.memory_store import MemoryStore

LABELS = (None, "Ann", None, "B\udcff", "Ann", None, None)
TIMES = (5, 1, None, 2, 3, None, -7)


@pytest.mark.parametrize("most", [0, 1, 3, 9])
def test_a_folder_finds_rows_by_label_as_reading_all_rows_does(tmp_path, most):
    rows = [
        NewRow(None, label=label, time=time, mtime_ns=4_000 + index)
        for index, (label, time) in enumerate(zip(LABELS, TIMES, strict=True))
    ]
    plain = MemoryStore(SPEC)
    with LocalGallery.create(tmp_path / "g", SPEC) as folder:
        for store in (plain, folder):
            store.add(rows, vectors(len(rows)))
            store.remove([6])
        with folder.moment() as moment, plain.moment() as other:
            assert isinstance(moment, LabelledMoment)
            assert not isinstance(other, LabelledMoment)
            found, expected = rows_by_label(moment, most), rows_by_label(other, most)
            for name in ("labelled", "unlabelled"):
                assert [row.id for row in getattr(found, name)] == [row.id for row in getattr(expected, name)]
            assert (found.left_out, labels_of(moment)) == (expected.left_out, labels_of(other))
            assert {row.id for row in rows_labelled(moment, "Ann")} == {row.id for row in rows_labelled(other, "Ann")}
            assert row_ids(moment).tolist() == row_ids(other).tolist() == [1, 2, 3, 4, 5, 7]
        one = folder.rows_by_id([1])[0]
        folder.update([replace(one, label="Zoe")])
        with folder.moment() as moment:
            assert labels_of(moment) == {"Ann", "B\udcff", "Zoe"}
