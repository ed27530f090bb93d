"""Forgetting in a folder: nothing is left in any file, it is finished after a kill, and what readers hold is named."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from rrid_edge.errors import GalleryChangedError
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.base import ForgetReport
from rrid_edge.gallery.local.store import LocalGallery
from support.galleries import SPEC, vectors

SECRET = 3


def sha(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def crop(number, path=None, **fields):
    return NewRow(path or f"secret-{number}.jpg", sha(number), 10, 20, thumbnail=b"picture %d" % number, **fields)


def crops(count):
    return [crop(number) for number in range(count)]


def content(folder):
    """All bytes of all files of an index."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def stored_bytes(number, seed=0, count=8):
    return vectors(count, seed).astype("<f2")[number].tobytes()


@pytest.fixture
def store(folder):
    with LocalGallery.create(folder, SPEC) as gallery:
        gallery.add(crops(8), vectors(8))
        yield gallery


def _is_erased(folder, number=SECRET):
    data = content(folder)
    traces = (stored_bytes(number), b"secret-%d.jpg" % number, b"picture %d" % number, bytes.fromhex(sha(number)))
    return not any(trace in data for trace in traces)


def _answers(store):
    return {hit.row.name for hit in store.search(vectors(1), 100).hits[0]} | {row.name for row in store.rows()}


def test_nothing_is_left_in_any_file(store, folder):
    assert not _is_erased(folder)
    assert store.forget([f"secret-{SECRET}.jpg"]) == ForgetReport(1)
    assert _is_erased(folder)
    assert not _is_erased(folder, 4)
    assert f"secret-{SECRET}.jpg" not in _answers(store)
    assert store.verify().sound
    store.close()
    assert _is_erased(folder)


def test_rows_removed_before_are_reached_by_path_and_by_id(store, folder):
    removed = {row.path: row.id for row in store.rows()}
    store.remove([f"secret-{SECRET}.jpg", "secret-4.jpg"])
    assert not _is_erased(folder)
    assert {row.path for row in store.removed()} == {f"secret-{SECRET}.jpg", "secret-4.jpg"}
    assert store.forget([f"secret-{SECRET}.jpg", removed["secret-4.jpg"]]) == ForgetReport(2)
    assert _is_erased(folder)
    assert _is_erased(folder, 4)
    assert store.removed() == []
    assert store.kept_out([sha(SECRET), sha(4), sha(5)]) == {sha(SECRET), sha(4)}
    assert store.forget(["secret-4.jpg"]) == ForgetReport(0)


def test_earlier_paths_and_earlier_content_of_a_crop_are_reached(store, folder):
    """The crop was renamed, and embedded again under both names."""
    store.remove([f"secret-{SECRET}.jpg"])
    store.add([crop(SECRET, "renamed.jpg")], vectors(1, seed=7))
    store.add([crop(SECRET, "renamed.jpg")], vectors(1, seed=8))
    assert store.forget(["renamed.jpg"]).rows == 1
    assert _is_erased(folder)
    for seed in (7, 8):
        assert stored_bytes(0, seed, 1) not in content(folder)
    assert b"renamed" not in content(folder)


def test_the_old_name_of_a_renamed_crop_forgets_it_too(store, folder):
    store.remove([f"secret-{SECRET}.jpg"])
    store.add([crop(SECRET, "renamed.jpg")], vectors(1, seed=7))
    assert store.forget([f"secret-{SECRET}.jpg"]).rows == 1
    assert "renamed.jpg" not in _answers(store)
    assert stored_bytes(0, 7, 1) not in content(folder)


def test_a_path_that_another_crop_took_over_stands_for_that_crop_only(store):
    """Crop 3 was renamed, and its old name went to crop 9. Forgetting the name forgets crop 9, and keeps crop 3."""
    store.remove([f"secret-{SECRET}.jpg"])
    store.add([crop(SECRET, "renamed.jpg"), crop(9, f"secret-{SECRET}.jpg")], vectors(2, seed=7))
    assert store.forget([f"secret-{SECRET}.jpg"]).rows == 1
    assert "renamed.jpg" in _answers(store)
    assert store.kept_out([sha(SECRET), sha(9)]) == {sha(9)}


def test_other_rows_of_the_same_content_are_forgotten_unless_it_may_come_back(store):
    twin = crop(SECRET, "twin.jpg", source="other")
    store.add([twin], vectors(1, seed=7))
    assert store.forget([f"secret-{SECRET}.jpg"], keep_out=False).rows == 1
    assert store.kept_out([sha(SECRET)]) == set()
    assert "twin.jpg" in _answers(store)
    store.add([crop(SECRET)], vectors(1))
    assert store.forget([f"secret-{SECRET}.jpg"]).rows == 2
    assert "twin.jpg" not in _answers(store)
    assert store.unforget([sha(SECRET)]) == 1
    assert store.kept_out([sha(SECRET)]) == set()


def test_rows_without_files_are_forgotten_by_id(store, folder):
    (id_,) = store.add([NewRow(None, person="memory-person")], vectors(1, seed=5))
    assert store.forget([id_]) == ForgetReport(1)
    assert stored_bytes(0, 5, 1) not in content(folder)
    assert b"memory-person" not in content(folder)


def test_compaction_leaves_no_old_vectors(store, folder):
    """The old file is overwritten before it is deleted: a second link to it shows what the disk would keep."""
    os.link(folder / "vec.0.f16", folder.parent / "link")
    store.remove([f"secret-{SECRET}.jpg"])
    store.compact()
    assert not any((folder.parent / "link").read_bytes())
    assert stored_bytes(SECRET) not in content(folder)
    np.testing.assert_allclose(store.vectors(store.rows())[0], vectors(8)[0], atol=1e-3)


def test_a_reader_of_the_old_state_is_named_and_later_everything_goes(store, folder):
    with LocalGallery(folder) as reader, reader.moment() as moment:
        rows = moment.rows()
        (left,) = store.forget([f"secret-{SECRET}.jpg"]).left
        assert "meta.sqlite-wal" in left
        assert "\n" not in left
        assert stored_bytes(SECRET) not in content(folder)  # descriptors are overwritten at once
        assert f"secret-{SECRET}.jpg" not in {hit.row.name for hit in moment.search(vectors(8), 100).hits[SECRET]}
        with pytest.raises(GalleryChangedError, match="was removed or replaced"):
            moment.vectors(rows)
    store.finish()
    assert _is_erased(folder)


def test_an_old_vector_file_that_a_reader_holds_is_named(store, folder):
    with LocalGallery(folder) as reader, reader.moment() as moment:
        rows = moment.rows()
        store.compact()
        np.testing.assert_array_equal(moment.vectors(rows), store.vectors(rows))
        assert {hit.row.name for hit in moment.search(vectors(1), 100).hits[0]} == {row.name for row in rows}
        left = store.forget([f"secret-{SECRET}.jpg"]).left
        assert [line for line in left if "vec.0.f16" in line]
    store.finish()
    assert _is_erased(folder)
    assert [path.name for path in folder.glob("vec.*")] == ["vec.1.f16"]


VICTIM = """
import os, sys
from pathlib import Path
from rrid_edge.gallery.local import forgetting, store, vector_file
from rrid_edge.gallery.local.store import LocalGallery

def die(*_arguments, **_names):
    os.kill(os.getpid(), 9)

with LocalGallery(Path(sys.argv[1]), write=True) as gallery:
    gallery.remove(["secret-4.jpg"])
    where = sys.argv[2]
    if where == "before the overwriting":
        store.finish_erasing = die
    elif where == "in the overwriting":
        vector_file.os.fdatasync = die
    elif where == "before the deletion":
        forgetting.erase_bounds = die
    elif where == "before the log is emptied":
        store.empty_log = die
    gallery.forget(["secret-3.jpg", "secret-4.jpg"])
    die()
"""


@pytest.mark.parametrize(
    "where",
    ["before the overwriting", "in the overwriting", "before the deletion", "before the log is emptied", "at the end"],
)
def test_a_killed_forgetting_is_finished_by_the_next_writer(store, folder, where):
    store.close()
    command = [sys.executable, "-c", textwrap.dedent(VICTIM), str(folder), where]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    with LocalGallery(folder) as reader:
        assert reader.verify().sound
        assert not {"secret-3.jpg", "secret-4.jpg"} & _answers(reader)
        assert len(reader.kept_out([sha(3), sha(4)])) == 2
    with LocalGallery(folder, write=True) as writer:
        assert _is_erased(folder)
        assert _is_erased(folder, 4)
        assert writer.verify().sound
        assert writer.info().rows == 6
        assert writer.removed() == []


def test_what_is_kept_out_outlives_a_rebuild(store, folder, tmp_path):
    store.forget([f"secret-{SECRET}.jpg"])
    state = store.kept_out_state()
    assert sha(SECRET) not in state
    with LocalGallery.create(tmp_path / "new", SPEC) as rebuilt:
        assert rebuilt.kept_out_state() == ""
        rebuilt.restore_kept_out(state)
        assert rebuilt.kept_out([sha(SECRET), sha(4)]) == {sha(SECRET)}
        assert rebuilt.kept_out_state() == state
        assert rebuilt.unforget() == 1
        assert rebuilt.kept_out([sha(SECRET)]) == set()
