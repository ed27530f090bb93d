"""The files of a folder: which are taken, which are skipped, and which may exist although they were not seen."""

from __future__ import annotations

import os

import pytest

from rrid_edge.crops.folder import describe_endings, find_images, is_image_name, list_images, scan_images
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
    found = find_images(folder)
    assert folder / "good.jpg" in found.paths
    assert {path.name: reason for path, reason in found.skipped} == {
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


TAKEN = (
    *("a.jpg", "b.JPEG", "c.jpe", "d.JFIF", "e.mpo", "f.Png", "g.bmp", "h.dib", "i.webp", "j.gif", "k.two.dots.jpg"),
    *("l.ppm", "m.PGM", "n.pbm", "o.pnm", "p.tif", "q.TIFF"),
)
COUNTED = ("a.heic", "b.HEIC", "c.avif", "copy.jpg ", "photo.jpg!large", "x.jpg.part", "no_suffix", "n.nef", "end.")


def test_every_file_is_taken_or_counted(tmp_path):
    for name in (*TAKEN, *COUNTED, ".jpg", "..jpg", ".DS_Store"):
        (tmp_path / name).touch()
    (tmp_path / "link.heic").symlink_to("a.heic")
    (tmp_path / "broken.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    found = find_images(tmp_path)
    assert {path.name for path in found.paths} == set(TAKEN)
    assert found.endings == {
        ".heic": 3, ".avif": 1, ".jpg ": 1, ".jpg!large": 1, ".part": 1, "": 2, ".nef": 1, ".": 1, ".txt": 1
    }  # fmt: skip
    assert found.remarks == (
        "left out: 12 files with other endings (.heic 3, none 2, . 1, .avif 1, '.jpg ' 1, .jpg!large 1, .nef 1, "
        ".part 1, 1 more endings 1)",
    )
    assert all(map(is_image_name, TAKEN))
    assert not any(map(is_image_name, COUNTED))


def test_the_line_of_other_endings_is_short_and_printable():
    assert describe_endings({}) == describe_endings({".txt": 0}) == ""
    assert describe_endings({".txt": 1}) == "left out: 1 file with other endings (.txt 1)"
    line = describe_endings({".\x1b[31m\n\udcff": 3, "." + "x" * 250: 2})
    assert line == rf"left out: 5 files with other endings (.\x1b[31m\n\udcff 3, .{'x' * 15}... 2)"


def test_links_out_of_the_folder_are_followed_only_if_asked(folder, tmp_path):
    outside, other = tmp_path / "private.jpg", tmp_path / "crops_2"
    outside.touch()
    other.mkdir()
    (other / "x.jpg").touch()
    (folder / "deep.jpg").symlink_to("a/deep/../x.PNG")
    (folder / "stored.jpg").symlink_to(".hidden/z.jpg")
    (folder / "a" / "out.jpg").symlink_to("../../private.jpg")
    (folder / "by_way.jpg").symlink_to("a/out.jpg")
    (folder / "sister.jpg").symlink_to(other / "x.jpg")
    found = find_images(folder)
    names = ["a/out.jpg", "by_way.jpg", "sister.jpg"]
    assert [path.relative_to(folder).as_posix() for path in found.outside] == names
    assert {"deep.jpg", "stored.jpg"} <= {path.name for path in found.paths}
    assert not set(found.outside) & set(found.paths)
    assert found.remarks == (
        f"left out: 3 links to files outside the folder ({folder / 'a/out.jpg'} and others)",
        "left out: 1 file with other endings (.txt 1)",
    )
    followed = find_images(folder, follow_links=True)
    assert set(followed.paths) == {*found.paths, *found.outside}
    assert followed.outside == ()


def test_a_folder_that_is_a_link_holds_its_own_links(folder, tmp_path):
    (folder / "inside.jpg").symlink_to(folder / "b.jpg")
    (tmp_path / "alias").symlink_to(folder)
    assert tmp_path / "alias" / "inside.jpg" in list_images(tmp_path / "alias")
    assert find_images(tmp_path / "alias").outside == ()


def test_a_row_of_a_link_that_is_not_followed_may_have_a_file(folder, tmp_path):
    (tmp_path / "private.jpg").touch()
    (folder / "out.jpg").symlink_to(tmp_path / "private.jpg")
    found = scan_images(folder)
    assert found.may_hold("out.jpg")
    assert not found.may_hold("other.jpg")
