"""What outlives a rebuild, also one that was killed in the middle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rrid_edge.errors import GalleryError
from rrid_edge.gallery import keeping
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.local.store import LocalGallery
from support.memory_store import SPEC, MemoryStore, vectors

SHA = "ab" * 32


class Address:
    """A location that is no folder."""

    def __str__(self):
        return "milvus+http://host:19530/crops"


@pytest.fixture(params=["folder", "server"])
def location(request, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path if request.param == "folder" else Address()


@pytest.fixture
def old():
    store = MemoryStore(SPEC)
    store.add([NewRow("a.jpg", SHA)], vectors(1))
    store.forget(["a.jpg"])
    store.remember({"pattern": "market1501", "time_from": "exif", "retention_s": "60", "model": "m.onnx"})
    return store


def test_a_rebuilt_gallery_keeps_what_was_forgotten_and_chosen(location, old):
    keeping.save(location, keeping.Kept.of(old))
    assert keeping.kept_file(location).stat().st_mode & 0o777 == 0o600
    new = MemoryStore(SPEC)
    keeping.restore(location, new)
    assert new.kept_out([SHA, "cd" * 32]) == {SHA}
    info = new.info()
    assert (info.pattern, info.time_from, info.retention_s, info.model) == ("market1501", "exif", 60, "m.onnx")
    assert not keeping.kept_file(location).exists()
    keeping.restore(location, MemoryStore(SPEC))  # nothing left to do


def test_what_is_kept_stays_until_it_is_written(location, old):
    keeping.save(location, keeping.Kept.of(old))

    class Killed(MemoryStore):
        def remember(self, facts):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keeping.restore(location, Killed(SPEC))
    new = MemoryStore(SPEC)
    keeping.restore(location, new)
    assert new.kept_out([SHA]) == {SHA}


def test_what_was_restored_already_is_not_restored_again(location, old, monkeypatch):
    keeping.save(location, keeping.Kept.of(old))
    new = MemoryStore(SPEC)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_arguments, **_options: _raise())
        with pytest.raises(KeyboardInterrupt):
            keeping.restore(location, new)
    new.remember({"pattern": "none"})
    monkeypatch.setattr(new, "restore_kept_out", lambda _state: pytest.fail("restored twice"))
    keeping.restore(location, new)
    assert (new.info().pattern, new.kept_out([SHA])) == ("none", {SHA})


def _raise():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"facts":' * 20_000,
        json.dumps({"facts": 3, "forgotten": ""}),
        json.dumps({"facts": {"model": 3}, "forgotten": ""}),
        json.dumps({"facts": {"retention_s": "soon"}, "forgotten": ""}),
        json.dumps({"facts": {}, "forgotten": 3}),
        json.dumps({"facts": {"pattern": "("}, "forgotten": ""}),
        json.dumps({"facts": {"time_from": "moon"}, "forgotten": ""}),
    ],
    ids=lambda value: value[:40] or "empty",
)
def test_a_damaged_file_is_refused_instead_of_letting_people_in(location, content):
    file = keeping.kept_file(location)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    with pytest.raises(GalleryError, match="damaged") as caught:
        keeping.restore(location, MemoryStore(SPEC))
    assert caught.value.message.startswith(f"{file}: ")
    assert caught.value.exit_code == 4
    assert file.exists()


def test_a_fact_that_cannot_be_stored_is_refused_by_its_file(tmp_path):
    with LocalGallery.create(tmp_path, SPEC) as store:
        file = keeping.kept_file(tmp_path)
        file.write_text(json.dumps({"facts": {"model": "half \ud800"}, "forgotten": ""}))
        with pytest.raises(GalleryError, match=r"kept\.json: damaged record .*half of a surrogate pair"):
            keeping.restore(tmp_path, store)
    assert file.exists()


@pytest.mark.parametrize(
    "state",
    [
        "no state",
        json.dumps({"key": "ab", "digests": []}),
        json.dumps({"key": SHA, "digests": ["AAAA"]}),
        json.dumps({"key": SHA, "digests": SHA}),
        '{"key":' * 20_000,
    ],
    ids=lambda value: value[:30],
)
def test_damaged_forgotten_contents_are_refused_and_kept(tmp_path, state):
    file = keeping.kept_file(tmp_path)
    file.write_text(json.dumps({"facts": {}, "forgotten": state}))
    with LocalGallery.create(tmp_path / "index", SPEC) as store:
        with pytest.raises(GalleryError, match="damaged forgotten contents") as caught:
            keeping.restore(tmp_path, store)
        assert caught.value.message.startswith(f"{file}: damaged record of what the rebuilt gallery keeps (")
        assert store.kept_out_state() == ""
    assert file.exists()
