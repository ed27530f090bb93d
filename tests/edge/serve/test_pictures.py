"""Pictures of crops: by id only, from the thumbnail or the file, and never another file."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.serve.support import SPEC, client, indexed, make_gallery, problem, service_on
from rrid_edge.engines.fake import FakeEngine
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.opening import INDEX_FOLDER, open_store
from rrid_edge.serve.pictures import PictureCache
from support.galleries import vectors
from support.pictures import noise

URL = "/api/v1/crops/{}/image"


@pytest.fixture
def folder(tmp_path):
    return make_gallery(tmp_path / "gallery", 4)


@pytest.fixture
def service(folder):
    with service_on(folder.parent) as found:
        yield found


@pytest.fixture
def asked(service):
    with client(service) as found:
        yield found


def rows_of(folder):
    with open_store(folder / INDEX_FOLDER) as store:
        return store.rows()


def test_full_is_the_file(asked, folder):
    for row in rows_of(folder):
        answer = asked.get(URL.format(row.id), params={"size": "full"})
        assert answer.content == (folder / row.path).read_bytes()
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"].startswith("private, max-age=")


def test_thumb_is_small_and_shows_the_file(asked, folder):
    row = rows_of(folder)[0]
    answer = asked.get(URL.format(row.id))
    small = Image.open(io.BytesIO(answer.content))
    assert (small.format, max(small.size)) == ("JPEG", 128)
    full = Image.open(folder / row.path).resize(small.size)
    assert np.abs(np.asarray(small, int) - np.asarray(full, int)).mean() < 6
    (folder / row.path).unlink()
    assert asked.get(URL.format(row.id)).content == answer.content  # made once


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("a.png", "image/png"), ("a.webp", "image/webp"), ("a.bmp", "image/bmp"), ("a.gif", "image/gif")],
)
def test_formats_that_browsers_show_stay(tmp_path, name, media_type):
    (tmp_path / "gallery").mkdir()
    noise(1).save(tmp_path / "gallery" / name)
    indexed(tmp_path / "gallery")
    with service_on(tmp_path) as service, client(service) as asked:
        answer = asked.get(URL.format(1), params={"size": "full"})
        assert answer.headers["content-type"] == media_type
        assert answer.content == (tmp_path / "gallery" / name).read_bytes()


def test_the_first_bytes_decide_not_the_name_and_others_become_jpeg(tmp_path):
    (tmp_path / "gallery").mkdir()
    noise(1).save(tmp_path / "gallery" / "a.tif")
    noise(2).save(tmp_path / "gallery" / "b.jpg", "PNG")
    indexed(tmp_path / "gallery")
    with service_on(tmp_path) as service, client(service) as asked:
        tiff, png = (asked.get(URL.format(id_), params={"size": "full"}) for id_ in (1, 2))
        assert tiff.headers["content-type"] == "image/jpeg"
        shown = np.asarray(Image.open(io.BytesIO(tiff.content)), int)
        assert np.abs(shown - np.asarray(noise(1), int)).mean() < 3
        assert png.headers["content-type"] == "image/png"


@pytest.mark.parametrize("size", ["thumb", "full"])
def test_etag_and_head(asked, folder, size):
    row = rows_of(folder)[0]
    url, params = URL.format(row.id), {"size": size}
    answer = asked.get(url, params=params)
    etag = answer.headers["etag"]
    assert row.sha256[:32] in etag
    for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = asked.get(url, params=params, headers={"If-None-Match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert asked.get(url, params=params, headers={"If-None-Match": '"other"'}).status_code == 200
    head = asked.head(url, params=params)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(answer.content)))
    assert head.headers["content-type"] == "image/jpeg"
    other = asked.get(url, params={"size": "full" if size == "thumb" else "thumb"})
    assert other.headers["etag"] != etag


def test_a_file_that_changed_is_not_shown(asked, folder):
    same_size, longer, gone = (row for row in rows_of(folder)[:3])
    data = bytearray((folder / same_size.path).read_bytes())
    data[-3] ^= 1
    (folder / same_size.path).write_bytes(data)
    (folder / longer.path).write_bytes(b"no picture" * 10_000)
    (folder / gone.path).unlink()
    for size in ("thumb", "full"):
        for row in (same_size, longer):
            problem(asked.get(URL.format(row.id), params={"size": size}), 409, "changed since it was indexed")
        problem(asked.get(URL.format(gone.id), params={"size": size}), 404, "No such file")


def test_special_files_and_links_out_are_not_read(asked, folder, tmp_path):
    pipe, outside, within, device = rows_of(folder)
    content = {row.id: (folder / row.path).read_bytes() for row in (outside, within)}
    for row in (pipe, outside, within, device):
        (folder / row.path).unlink()
    os.mkfifo(folder / pipe.path)
    (tmp_path / "elsewhere.jpg").write_bytes(content[outside.id])
    (folder / outside.path).symlink_to(tmp_path / "elsewhere.jpg")
    (folder / "same.jpg").write_bytes(content[within.id])
    (folder / within.path).symlink_to("same.jpg")
    (folder / device.path).symlink_to("/dev/zero")
    for size in ("thumb", "full"):
        get = lambda row: asked.get(URL.format(row.id), params={"size": size})  # noqa: B023, E731
        problem(get(outside), 404, "leads out of the folder")
        problem(get(device), 404, "leads out of the folder")
        assert get(pipe).status_code in (404, 409)
        assert get(within).status_code == 200
    assert asked.get(URL.format(within.id), params={"size": "full"}).content == content[within.id]


@pytest.mark.parametrize("path", ["../secret.jpg", "sub/../../secret.jpg", "/etc/hostname", "a\0b.jpg", "."])
def test_paths_that_lead_out_of_the_folder_are_not_read(tmp_path, path):
    folder = make_gallery(tmp_path / "gallery", 1)
    secret = tmp_path / "secret.jpg"
    noise(5).save(secret)
    data = secret.read_bytes()
    with open_store(folder / INDEX_FOLDER, write=True) as store:
        (id_,) = store.add([NewRow(path, hashlib.sha256(data).hexdigest(), len(data))], vectors(1))
    with service_on(tmp_path) as service, client(service) as asked:
        for size in ("thumb", "full"):
            answer = asked.get(URL.format(id_), params={"size": size})
            assert answer.status_code in (404, 409)
            assert b"JFIF" not in answer.content


ODD_IDS = ["-1", "abc", "1.0", "1_2", " 1", "+1", "٣", "1e2", "0x1", "9" * 40, str(2**63), "%2e%2e", "..%2f..%2fetc"]


@pytest.mark.parametrize("id_", ODD_IDS)
def test_ids_are_plain_whole_numbers(asked, id_):
    for url in (f"/api/v1/crops/{id_}/image", f"/api/v1/crops/{id_}"):
        answer = asked.get(url)
        assert answer.status_code in (404, 422), answer.text
    problem(asked.get(URL.format(2**63 - 1)), 404, "is not in the gallery")
    problem(asked.get(URL.format(999)), 404, "is not in the gallery")


def test_a_crop_of_another_gallery_is_not_found(tmp_path):
    with service_on(tmp_path, {"a": 1, "b": 3}) as service, client(service) as asked:
        assert asked.get(URL.format(3), params={"gallery": "b"}).status_code == 200
        problem(asked.get(URL.format(3), params={"gallery": "a"}), 404, "is not in the gallery")
        problem(asked.get(URL.format(3)), 422, "several are served")
        problem(asked.get(URL.format(3), params={"gallery": "../b"}), 404, "is not served")


def test_a_crop_without_a_file_has_its_thumbnail_only(tmp_path):
    folder = make_gallery(tmp_path / "gallery", 1)
    stream = io.BytesIO()
    noise(3).save(stream, "JPEG")
    with open_store(folder / INDEX_FOLDER, write=True) as store, FakeEngine(SPEC):
        with_thumb, without = store.add(
            [NewRow(None, thumbnail=stream.getvalue()), NewRow(None, camera="7")], vectors(2)
        )
    with service_on(tmp_path) as service, client(service) as asked:
        answer = asked.get(URL.format(with_thumb))
        assert answer.content == stream.getvalue()
        again = asked.get(URL.format(with_thumb), headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
        problem(asked.get(URL.format(with_thumb), params={"size": "full"}), 404, "is not on this machine")
        problem(asked.get(URL.format(without)), 404, "is not on this machine")


def test_a_forgotten_crop_shows_nothing_any_more(service, asked, folder):
    row = rows_of(folder)[0]
    etag = asked.get(URL.format(row.id)).headers["etag"]
    with service.gallery(None).writing() as store:
        store.forget([row.id])
    for size in ("thumb", "full"):
        headers = {"If-None-Match": etag}
        assert asked.get(URL.format(row.id), params={"size": size}, headers=headers).status_code == 404


def test_full_images_leave_an_audit_line(asked, folder):
    row = rows_of(folder)[0]
    asked.get(URL.format(row.id))
    asked.head(URL.format(row.id), params={"size": "full"})
    log = Path(folder / INDEX_FOLDER / "audit.jsonl")
    assert not log.exists()
    asked.get(URL.format(row.id), params={"size": "full"})
    (line,) = log.read_text().splitlines()
    assert '"command": "image"' in line
    assert f'"ids": [{row.id}]' in line


def test_the_cache_keeps_the_last_used_within_its_size():
    cache, made = PictureCache(100), list[str]()

    def get(name, size=40):
        def make():
            made.append(name)
            return bytes(size)

        return cache.get(name, make)

    for name in ("a", "b", "a", "c", "a", "b"):  # c displaces b
        get(name)
    assert made == ["a", "b", "c", "b"]
    assert cache.size_bytes <= 100
    get("large", 1_000)
    assert cache.size_bytes == 0
    get("a")
    cache.clear()
    assert cache.size_bytes == 0
