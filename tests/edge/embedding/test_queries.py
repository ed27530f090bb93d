"""Queries: their names, and doubts about their images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rrid_edge.embedding.queries import embed_queries
from rrid_edge.engines import FakeEngine
from support.pictures import noise


def asked(*files, pattern="auto", folder=None):
    with FakeEngine() as engine:
        return embed_queries(engine, [(file,) for file in files], pattern, folder)


def save(path, width, height, seed=1):
    noise(seed, height, width).save(path)
    return path


@pytest.mark.parametrize(
    ("width", "height", "doubts"),
    [
        (64, 128, []),
        (640, 1280, []),  # a person close to a camera of high resolution
        (32, 64, []),
        (100, 100, []),
        (31, 100, ["under 32 pixels on a side"]),
        (40, 31, ["wider than tall", "under 32 pixels on a side"]),
        (129, 128, ["wider than tall"]),
        (640, 480, ["as large as a full video frame", "wider than tall"]),
        (1920, 1080, ["as large as a full video frame", "wider than tall"]),
        (720, 1280, ["as large as a full video frame"]),  # a camera mounted upright
        (600, 300, ["wider than tall"]),
    ],
)
def test_images_that_may_not_be_crops_of_a_person_are_doubted(tmp_path, width, height, doubts):
    (query,) = asked(save(tmp_path / "q.png", width, height))
    expected = (
        f"{tmp_path}/q.png: {width} x {height} pixels, {', '.join(doubts)}; expected an upright crop of one person: "
        "the answer may show anybody"
    )
    assert query.warnings == ((expected,) if doubts else ())


def test_flat_images_are_doubted(tmp_path):
    for level, spread, doubted in ((0, 0, True), (255, 0, True), (90, 2, True), (40, 12, False)):
        generator = np.random.default_rng(1)
        pixels = np.clip(generator.normal(level, spread, (192, 64, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "q.png")
        assert ("nearly one colour" in "".join(asked(tmp_path / "q.png")[0].warnings)) is doubted, (level, spread)


def test_the_size_after_the_exif_turn_counts(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(1, 64, 128).save(tmp_path / "q.jpg", exif=exif.tobytes())  # stored wide, shown tall
    assert asked(tmp_path / "q.jpg")[0].warnings == ()


def test_each_query_has_its_own_warnings_in_one_line(tmp_path):
    bad = save(tmp_path / "a\nb.png", 300, 200)
    good = save(tmp_path / "good.png", 64, 128)
    with FakeEngine() as engine:
        both, alone = embed_queries(engine, [(good, bad), (good,)])
    assert len(both.warnings) == 1
    assert "a\\nb.png: 300 x 200 pixels, wider than tall" in both.warnings[0]
    assert alone.warnings == ()


def test_names_of_queries_in_the_gallery_are_read_with_their_folders(tmp_path):
    (tmp_path / "crops" / "anna" / "cam2").mkdir(parents=True)
    inside = save(tmp_path / "crops" / "anna" / "cam2" / "7.png", 64, 128)
    outside = save(tmp_path / "0003_c4s1_000001_00.png", 64, 128)
    found = asked(inside, outside, pattern="folders", folder=tmp_path / "crops")
    assert [(query.person, query.camera) for query in found] == [("anna", "2"), ("0003", "4")]
    pattern = r"(?P<person>\w+)/cam(?P<camera>\d+)/"
    assert [query.camera for query in asked(inside, outside, pattern=pattern, folder=tmp_path / "crops")] == ["2", None]
