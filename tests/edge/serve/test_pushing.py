"""Crops that cameras push: stored without a file, searched at once, the same push stored once."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading

import numpy as np
import pytest
from PIL import Image

from edge.serve.support import SPEC, client, problem, service_on
from rrid_edge.crops.images import load_rgb, resize
from rrid_edge.engines.fake import FakeEngine
from rrid_edge.errors import GalleryError
from rrid_edge.gallery.opening import open_store
from support.pictures import noise

CROPS = "/api/v1/crops"


@pytest.fixture
def service(tmp_path):
    with service_on(tmp_path, {"gallery": 4}, most_pixels=1_000_000) as found:
        yield found


@pytest.fixture
def asked(service):
    with client(service) as found:
        yield found


def picture(seed=70, form="JPEG", **size):
    stream = io.BytesIO()
    noise(seed, **size).save(stream, form)
    return stream.getvalue()


def push(asked, content=None, key=None, **fields):
    files = {"image": ("a.jpg", picture() if content is None else content, "image/jpeg")}
    return asked.post(CROPS, files=files, data=fields, headers={} if key is None else {"Idempotency-Key": key})


def test_a_pushed_crop_is_a_row_without_a_file(service, asked):
    answer = push(asked, camera="north gate", time="2026-11-26T10:00:00.25+01:00", track="t7", person="0042")
    assert answer.status_code == 201
    crop = answer.json()
    told = {name: crop[name] for name in ("path", "camera", "time", "track", "told", "person", "frame")}
    assert told == {
        "path": None, "camera": "north gate", "time": "2026-11-26T09:00:00.250000Z", "track": "t7", "told": "0042",
        "person": None, "frame": None,
    }  # fmt: skip
    assert asked.get(answer.headers["location"]).json() == crop
    (row,) = service.gallery(None).store.rows_by_id([crop["id"]])
    assert (row.sha256, row.origin) == (hashlib.sha256(picture()).hexdigest(), "memory")
    pixels = resize(load_rgb("a", picture()), SPEC.height_px, SPEC.width_px)
    expected = FakeEngine(SPEC).run(pixels[None])
    stored = service.gallery(None).store.vectors([row])
    np.testing.assert_allclose(stored, expected, atol=1e-3)  # float16
    small = Image.open(io.BytesIO(asked.get(crop["thumbnail"]).content))
    assert small.size == (64, 128)
    problem(asked.get(crop["image"]), 404, "is not on this machine")
    assert asked.get(CROPS, params={"camera": "north gate"}).json()["total"] == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1764151200000001", "2025-11-26T10:00:00.000001Z"),
        ("-1", "1969-12-31T23:59:59.999999Z"),
        ("2026-11-26T10:00Z", "2026-11-26T10:00:00.000000Z"),
        ("2026-11-26 10:00:00-0530", "2026-11-26T15:30:00.000000Z"),
        ("", None),
    ],
)
def test_times(asked, text, shown):
    assert push(asked, time=text).json()["time"] == shown


@pytest.mark.parametrize(
    "text",
    ["2026-11-26T10:00:00", "2026-11-26", "now", "1.5", "2026-13-26T10:00Z", "9" * 19, "9" * 40, "2026-11-26T10:00+99"],
)
def test_times_without_a_zone_or_beyond_the_calendar_are_refused(asked, text):
    problem(push(asked, time=text), 422, "time")


def test_other_formats_and_large_pictures_get_a_small_thumbnail(asked):
    crop = push(asked, picture(form="PNG", height=800, width=400)).json()
    answer = asked.get(crop["thumbnail"])
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (80, 160)


def test_the_same_push_is_stored_once(service, asked):
    first = push(asked, key="cam1-0001", camera="1")
    assert push(asked, key="cam1-0001", camera="1").json() == first.json()
    assert service.gallery(None).store.info().rows == 5
    problem(push(asked, key="cam1-0001", camera="2"), 409, "used for another picture")
    problem(push(asked, picture(71), key="cam1-0001", camera="1"), 409, "used for another picture")
    assert push(asked, key="cam1-0002", camera="1").json()["id"] != first.json()["id"]
    assert push(asked, camera="1").json()["id"] != first.json()["id"]
    with service.gallery(None).writing() as store:
        store.remove([first.json()["id"]])
    assert push(asked, key="cam1-0001", camera="1").status_code == 409


def test_two_of_the_same_push_at_a_time_are_stored_once(service, asked):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(push(asked, key="k"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert service.gallery(None).store.info().rows == 5


@pytest.mark.parametrize("key", ["", "a b", "ü", "x" * 256, "a\tb"])
def test_odd_keys_are_refused(asked, key):
    headers = [(b"Idempotency-Key", key.encode())]
    answer = asked.post(CROPS, files={"image": ("a.jpg", picture())}, headers=headers)
    problem(answer, 422, "idempotency key")


def test_forgotten_pictures_stay_out(service, asked):
    crop = push(asked).json()
    with service.gallery(None).writing() as store:
        store.forget([crop["id"]])
    problem(push(asked), 409, "was forgotten, and is kept out")


def test_pictures_are_refused_as_uploads_are(asked):
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    for content, words in (
        (b"", "empty file"), (svg, "an SVG drawing"), (picture()[:400], "damaged or truncated"),
        (picture(height=2_000, width=1_000), "1000 x 2000 pixels"), (b"PK\x03\x04" + bytes(60), "a ZIP archive"),
    ):  # fmt: skip
        problem(push(asked, content), 422, words)


def test_forms_that_say_something_else_are_refused(service, asked):
    image = ("image", ("a.jpg", picture(), "image/jpeg"))
    problem(asked.post(CROPS, data={"camera": "1"}, files=[("other", image[1])]), 422, "'other' is unknown")
    problem(asked.post(CROPS, files=[image, image]), 422, "'image' occurs twice")
    problem(asked.post(CROPS, files=[image, ("camera", ("c.txt", b"1"))]), 422, "camera is a file")
    problem(asked.post(CROPS, files=[("camera", (None, "1"))]), 422, "no file 'image'")
    problem(asked.post(CROPS, files=[("image", (None, "text"))]), 422, "no file 'image'")
    problem(asked.post(CROPS, files=[image, ("camera", (None, "c" * 2_000))]), 422, "camera of 2000 characters")
    problem(asked.post(CROPS, json={"image": "x"}), 415, "multipart/form-data")
    assert service.gallery(None).store.info().rows == 4


def test_pushing_becomes_an_event(service, asked, monkeypatch):
    came = threading.Event()

    def publish(kind, gallery, data):
        if kind == "crop-added":
            came.set()

    monkeypatch.setattr(service.events, "publish", publish)
    service.followers["gallery"].wait_until_looked()
    push(asked)
    assert came.wait(120)


def test_a_gallery_for_reading_only_takes_nothing(tmp_path):
    with service_on(tmp_path, {"gallery": 2}, read_only=True) as service, client(service) as asked:
        problem(push(asked), 403, "for reading only")
        assert service.gallery(None).store.info().rows == 2


def test_another_writer_is_waited_for_and_then_reported(service, asked, monkeypatch):
    monkeypatch.setattr("rrid_edge.serve.galleries.WAIT_FOR_WRITER_S", 0.1)
    with contextlib.ExitStack() as stack:
        stack.enter_context(service.gallery(None).writing())
        answer = push(asked)
        problem(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
    assert push(asked).status_code == 201


def test_a_service_looks_for_damage_once_and_again_after_an_error(service, monkeypatch):
    looked = list[bool]()

    def opened(*args, **options):
        looked.append(options["check"])
        return open_store(*args, **options)

    monkeypatch.setattr("rrid_edge.serve.galleries.open_store", opened)
    gallery = service.gallery(None)
    for _ in range(2):
        with gallery.writing():
            pass
    with pytest.raises(GalleryError), gallery.writing():
        raise GalleryError("damaged")
    with gallery.writing():
        pass
    assert looked == [True, False, False, True]
