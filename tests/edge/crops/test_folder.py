"""The files of a folder: which are taken, which are skipped, and which may exist although they were not seen."""

from __future__ import annotations

import os

import pytest

from rrid_edge.crops.folder import list_images, scan_images, walk_images
from rrid_edge.errors import FolderUnavailableError, UsageError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a/x.PNG", "a/deep/y.webp", "a/words.txt", ".hidden/z.jpg", "a/.z.jpg"):
        (tmp_path / "crops" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "crops" / name).touch()
    return tmp_path / "crops"


def test_image_files_are_taken_by_their_ending_in_the_order_of_their_bytes(folder):
    assert [path.relative_to(folder).as_posix() for path in list_images(folder)] == [
        "a/deep/y.webp",
        "a/x.PNG",
        "b.jpg",
    ]


def test_links_and_special_files_are_skipped_with_a_reason(folder, tmp_path):
    os.mkfifo(folder / "pipe.jpg")
    (folder / "broken.jpg").symlink_to("nowhere")
    (folder / "loop").symlink_to(folder)
    (folder / "good.jpg").symlink_to(folder / "b.jpg")
    (folder / "as_folder.jpg").mkdir()
    found, skipped = walk_images(folder)
    assert folder / "good.jpg" in found
    assert {path.name: reason for path, reason in skipped} == {
        "pipe.jpg": "no ordinary file",
        "broken.jpg": "a broken link",
        "loop": "a link to a folder is not followed",
    }
    assert scan_images(folder).unlisted == ()


def test_what_could_not_be_listed_may_hold_files(folder, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path).rstrip("/").endswith("a"):
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = scan_images(folder)
    assert set(found.entries) == {"b.jpg"}
    assert [reason for _, reason in found.skipped] == ["this folder cannot be read (Input/output error)"]
    assert [path for path in ("a/x.PNG", "a/deep/y.webp", "ab/x.jpg", "c.jpg", "a") if found.may_hold(path)] == [
        "a/x.PNG",
        "a/deep/y.webp",
    ]


def test_an_entry_of_unknown_kind_may_be_a_file_or_a_folder(folder, monkeypatch):
    """Some file systems do not tell the kind of an entry, and refuse to tell it afterwards."""
    real = os.scandir

    class Entry:
        def __init__(self, entry):
            self.name, self.path = entry.name, entry.path

        def is_file(self, **_options):
            raise PermissionError(13, "Permission denied")

    class Listing:
        def __init__(self, path):
            self._entries = [Entry(entry) if entry.name == "a" else entry for entry in real(path)]

        def __enter__(self):
            return iter(self._entries)

        def __exit__(self, *_error):
            pass

    monkeypatch.setattr(os, "scandir", Listing)
    found = scan_images(folder)
    assert [reason for _, reason in found.skipped] == ["cannot be examined (Permission denied)"]
    assert [path for path in ("a", "a/x.PNG", "b.jpg", "ab") if found.may_hold(path)] == ["a", "a/x.PNG"]


def test_no_folder_is_refused(folder):
    with pytest.raises(FolderUnavailableError, match="no such folder"):
        scan_images(folder / "none")
    with pytest.raises(UsageError, match="this is a file"):
        scan_images(folder / "b.jpg")
