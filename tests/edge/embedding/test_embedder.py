"""Embedder: images in memory and boxes of frames have exactly the pixels of the image contract."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rrid_edge.crops.images import read_image
from rrid_edge.embedding.embedder import Embedder
from rrid_edge.engines.fake import FakeEngine
from rrid_edge.errors import ClosedError, ImageError, UsageError
from support.onnx_models import save_tiny_model
from support.pictures import noise

RNG = np.random.default_rng(7)
FRAME = RNG.integers(0, 256, (90, 120, 3), dtype=np.uint8)
BOXES = np.array([[10, 20, 40, 80], [0, 0, 120, 90], [60, 5, 70, 85]])


@pytest.fixture
def embedder() -> Embedder:
    return Embedder(FakeEngine())


def _as_png(crop: np.ndarray, folder: Path) -> np.ndarray:
    """Return the descriptor of an array's PNG file, read as the command line reads it."""
    path = folder / "crop.png"
    Image.fromarray(np.ascontiguousarray(crop)).save(path)
    engine = FakeEngine()
    return engine.run(read_image(path, engine.spec.height_px, engine.spec.width_px)[None])[0]


def _expected(crops: list[np.ndarray], folder: Path) -> np.ndarray:
    return np.stack([_as_png(crop, folder) for crop in crops])


def _cut(boxes: np.ndarray) -> list[np.ndarray]:
    return [FRAME[y1:y2, x1:x2] for x1, y1, x2, y2 in boxes]


# --- images


@pytest.mark.parametrize("size", [(8, 8), (192, 64), (37, 211), (500, 9)])
def test_an_array_gives_the_descriptor_of_its_png(embedder, tmp_path, size):
    array = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    found = embedder.embed(array)
    assert found.dtype == np.float32
    assert found.shape == (1, embedder.spec.dimension)
    assert np.array_equal(found, _expected([array], tmp_path))


def test_one_array_of_several_a_list_and_a_generator_give_the_same(embedder, tmp_path):
    arrays = RNG.integers(0, 256, (5, 30, 20, 3), dtype=np.uint8)
    expected = _expected(list(arrays), tmp_path)
    assert np.array_equal(embedder.embed(arrays), expected)
    assert np.array_equal(embedder.embed(list(arrays)), expected)
    assert np.array_equal(embedder.embed(tuple(arrays)), expected)
    assert np.array_equal(embedder.embed(array for array in arrays), expected)


def test_more_images_than_a_batch_of_the_engine(tmp_path):
    arrays = RNG.integers(0, 256, (7, 30, 20, 3), dtype=np.uint8)
    assert np.array_equal(Embedder(FakeEngine(max_batch=3)).embed(arrays), _expected(list(arrays), tmp_path))


def test_bgr_arrays_are_turned_into_rgb(embedder, tmp_path):
    expected = _expected([FRAME], tmp_path)
    assert np.array_equal(embedder.embed(FRAME[:, :, ::-1], color="bgr"), expected)
    assert not np.array_equal(embedder.embed(FRAME, color="bgr"), expected)


def test_colour_order_is_no_matter_of_files_and_pillow_images(embedder, tmp_path):
    Image.fromarray(FRAME).save(tmp_path / "frame.png")
    expected = _expected([FRAME], tmp_path)
    for image in (tmp_path / "frame.png", str(tmp_path / "frame.png"), Image.fromarray(FRAME)):
        assert np.array_equal(embedder.embed(image, color="bgr"), expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_pillow_images_of_all_modes_give_what_their_files_give(embedder, tmp_path, mode):
    image = noise(3).convert(mode)
    path = tmp_path / "image.png"
    image.save(path)
    before = image.tobytes()
    assert np.array_equal(embedder.embed(image), embedder.embed(path))
    assert (image.mode, image.tobytes()) == (mode, before)


@pytest.mark.parametrize(("suffix", "orientation"), [("jpg", 6), ("jpg", 2), ("tif", 8), ("png", 3), ("webp", 5)])
def test_an_open_pillow_image_is_turned_by_its_exif_as_its_file_is(embedder, tmp_path, suffix, orientation):
    path = tmp_path / f"turned.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise(3).save(path, exif=exif)
    with Image.open(path) as image:
        size = image.size
        assert np.array_equal(embedder.embed(image), embedder.embed(path))
        assert image.size == size
        assert np.array_equal(embedder.embed(image), embedder.embed(path))
    assert not np.array_equal(embedder.embed(path), embedder.embed(noise(3)))


def test_torch_tensors_of_both_layouts(embedder, tmp_path):
    torch = pytest.importorskip("torch")
    expected = _expected([FRAME], tmp_path)
    rows_first = torch.from_numpy(FRAME)
    assert np.array_equal(embedder.embed(rows_first), expected)
    assert np.array_equal(embedder.embed(rows_first.permute(2, 0, 1)), expected)
    assert np.array_equal(embedder.embed([rows_first.flip(-1)], color="bgr"), expected)
    both = np.concatenate([expected, expected])
    assert np.array_equal(embedder.embed(torch.stack([rows_first, rows_first])), both)
    assert np.array_equal(embedder.embed(torch.stack([rows_first, rows_first]).permute(0, 3, 1, 2)), both)
    with pytest.raises(UsageError, match=r"tensor of shape \(3, 40, 3\), of which both ends have 3 channels"):
        embedder.embed(torch.zeros((3, 40, 3), dtype=torch.uint8))
    with pytest.raises(UsageError, match="neither end has"):
        embedder.embed(torch.zeros((40, 40, 4), dtype=torch.uint8))
    with pytest.raises(UsageError, match="float32 and shape"):
        embedder.embed(rows_first.float())


@pytest.mark.parametrize("nothing", [[], (), np.empty((0, 40, 20, 3), np.uint8), iter(())])
def test_no_images_give_no_descriptors(embedder, nothing):
    found = embedder.embed(nothing)
    assert found.shape == (0, embedder.spec.dimension)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (FRAME[:, :, 0], r"array of uint8 and shape \(90, 120\): expected"),
        (FRAME / 255, "image 0 is an array of float64"),
        (FRAME.astype(np.int64), "image 0 is an array of int64"),
        ([FRAME, FRAME[:, :, :2]], r"image 1 is an array of uint8 and shape \(90, 120, 2\)"),
        (np.zeros((2, 30, 30, 4), np.uint8), r"image 0 is an array of uint8 and shape \(30, 30, 4\)"),
        (np.zeros((3, 40, 20), np.uint8), r"shape \(3, 40, 20\): expected uint8 \(height, width, 3\)"),
        (b"jpeg", "images of type bytes"),
        (7, "images of type int"),
        (None, "images of type NoneType"),
        ([FRAME, None], "image 1 of type NoneType"),
        ({"a": FRAME}, "images of type dict"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(embedder, images, message):
    with pytest.raises(UsageError, match=message) as caught:
        embedder.embed(images)
    assert "\n" not in str(caught.value)


def test_images_that_the_contract_refuses(embedder, tmp_path):
    with pytest.raises(ImageError, match="image 1: 4 x 40 pixels; expected at least 8 x 8"):
        embedder.embed([FRAME, np.zeros((40, 4, 3), np.uint8)])
    with pytest.raises(ImageError, match="image 0: CMYK"):
        embedder.embed(Image.new("CMYK", (20, 20)))
    with pytest.raises(ImageError, match="image 0: transparent"):
        embedder.embed(Image.new("RGBA", (20, 20)))
    with pytest.raises(ImageError, match="image 0: pixel format 'I;16'"):
        embedder.embed(Image.new("I;16", (20, 20)))
    with pytest.raises(ImageError, match="no such file"):
        embedder.embed(tmp_path / "missing.jpg")


def test_an_unknown_colour_name_is_refused_before_anything_else(embedder):
    for call in (lambda: embedder.embed([], "gbr"), lambda: embedder.embed_boxes(None, None, "RGB")):
        with pytest.raises(UsageError, match=r"color '(gbr|RGB)' is unknown: expected one of rgb, bgr"):
            call()


# --- boxes


def test_boxes_give_the_descriptors_of_their_crops_as_png_files(embedder, tmp_path):
    found = embedder.embed_boxes(FRAME, BOXES)
    assert found.dtype == np.float32
    assert np.array_equal(found, _expected(_cut(BOXES), tmp_path))
    assert np.array_equal(embedder.embed_boxes(FRAME[:, :, ::-1], BOXES, color="bgr"), found)
    assert np.array_equal(embedder.embed_boxes(Image.fromarray(FRAME), BOXES, color="bgr"), found)


def test_everything_that_holds_boxes(embedder):
    torch = pytest.importorskip("torch")
    found = embedder.embed_boxes(FRAME, BOXES)
    tensor = torch.from_numpy(BOXES)
    kinds = [BOXES.astype(np.float32), BOXES.tolist(), [tuple(box) for box in BOXES], tensor, tensor.float()]
    kinds += [SimpleNamespace(xyxy=BOXES), SimpleNamespace(xyxy=tensor.float()), BOXES.astype(np.uint8)]
    for boxes in kinds:
        assert np.array_equal(embedder.embed_boxes(FRAME, boxes), found)
    assert np.array_equal(embedder.embed_boxes(torch.from_numpy(FRAME).permute(2, 0, 1), BOXES), found)


def test_boxes_are_clipped_to_the_frame(embedder, tmp_path):
    boxes = [[-30, -5, 40, 50], [100, 60, 500, 1e9], [-1e300, -1e300, 1e300, 1e300]]
    crops = [FRAME[0:50, 0:40], FRAME[60:90, 100:120], FRAME]
    assert np.array_equal(embedder.embed_boxes(FRAME, boxes), _expected(crops, tmp_path))


def test_edges_are_rounded_to_the_nearest_pixel(embedder, tmp_path):
    boxes = [[9.6, 20.4, 40.49, 79.51], [10.5, 11.5, 30.5, 31.5]]
    crops = [FRAME[20:80, 10:40], FRAME[12:32, 10:30]]
    assert np.array_equal(embedder.embed_boxes(FRAME, boxes), _expected(crops, tmp_path))


@pytest.mark.parametrize("nothing", [[], np.empty((0, 4)), SimpleNamespace(xyxy=np.empty((0, 4), np.float32))])
def test_no_boxes_give_no_descriptors(embedder, nothing):
    found = embedder.embed_boxes(FRAME, nothing)
    assert found.shape == (0, embedder.spec.dimension)
    assert found.dtype == np.float32


GOOD = [10, 20, 40, 80]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([GOOD, [10, np.nan, 40, 80]], r"box 1 \(10, nan, 40, 80\) is not finite"),
        ([[10, 20, np.inf, 80]], "box 0 .* is not finite"),
        ([GOOD, GOOD, [40, 20, 10, 80]], "box 2 .* has no area"),
        ([[10, 20, 10, 80]], "box 0 .* has no area"),
        ([[120, 20, 160, 80]], "box 0 .* lies outside the frame of 120 x 90 pixels"),
        ([[10, -80, 40, 0]], "box 0 .* lies outside"),
        ([[-60, 20, -10, 80]], "box 0 .* lies outside"),
        ([[-60, 20, 5, 80]], "box 0 .* has 5 x 60 pixels inside the frame of 120 x 90 pixels: expected at least 8 x 8"),
        ([[10.4, 20, 10.4001, 80]], "box 0 .* has 0 x 60 pixels inside"),
        (GOOD, r"shape \(4,\): expected numbers of shape \(N, 4\)"),
        ([[1, 2, 3, 4, 0.9]], r"shape \(1, 5\)"),
        ([GOOD, [1, 2]], "unequal lengths"),
        ("boxes", "expected numbers of shape"),
        (None, "expected numbers of shape"),
        ([["10", "20", "40", "80"]], "expected numbers of shape"),
        (np.array([GOOD], bool), "boxes of bool"),
        (SimpleNamespace(xyxy=[[1, 2]]), r"shape \(1, 2\)"),
    ],
)
def test_nonsense_is_refused_in_one_line_that_names_the_box(embedder, boxes, message):
    with pytest.raises(UsageError, match=message) as caught:
        embedder.embed_boxes(FRAME, boxes)
    assert "\n" not in str(caught.value)


EDGES = st.one_of(
    st.floats(-200, 300), st.integers(-50, 150), st.sampled_from([np.nan, np.inf, -np.inf, 1e308, -1e308])
)


@settings(max_examples=300, deadline=None)
@given(st.tuples(EDGES, EDGES, EDGES, EDGES))
def test_any_box_is_cut_out_as_defined_or_refused(box):
    x1, y1, x2, y2 = box
    finite = all(math.isfinite(edge) for edge in box)
    # Python's round also takes halves to the even number.
    left, top, right, bottom = (
        round(min(max(edge, 0), limit)) if finite else 0 for edge, limit in zip(box, (120, 90, 120, 90), strict=True)
    )
    embedder = Embedder(FakeEngine())
    if finite and x1 < x2 and y1 < y2 and right - left >= 8 and bottom - top >= 8:
        assert np.array_equal(embedder.embed_boxes(FRAME, [box]), embedder.embed(FRAME[top:bottom, left:right]))
    else:
        with pytest.raises(UsageError, match="box 0 "):
            embedder.embed_boxes(FRAME, [box])


def test_a_frame_of_another_kind_is_refused(embedder):
    with pytest.raises(UsageError, match="the frame is an array of float32"):
        embedder.embed_boxes(FRAME.astype(np.float32), BOXES)
    with pytest.raises(UsageError, match="the frame of type list"):
        embedder.embed_boxes([FRAME], BOXES)


# --- opening and closing


def test_a_model_file_is_opened_and_closed(tmp_path):
    model = save_tiny_model(tmp_path / "rrid.onnx")
    with Embedder(model, "onnxruntime", threads=1) as embedder:
        assert embedder.model == model
        found = embedder.embed(FRAME)
        assert found.shape == (1, embedder.spec.dimension)
        with Embedder(embedder.engine) as second:
            assert np.array_equal(second.embed(FRAME), found)
        assert np.array_equal(embedder.embed(FRAME), found)  # the engine was not the second's to close
    for call in (lambda: embedder.embed(FRAME), lambda: embedder.embed([]), lambda: embedder.embed_boxes(FRAME, [])):
        with pytest.raises(ClosedError, match=r"rrid\.onnx was closed"):
            call()
    embedder.close()


def test_another_model_is_refused():
    with pytest.raises(UsageError, match="model of type NoneType"):
        Embedder(None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no such model file"):
        Embedder("missing.onnx")


def test_threads_get_their_own_descriptors(tmp_path):
    arrays = [RNG.integers(0, 256, (40, 20, 3), dtype=np.uint8) for _ in range(8)]
    model = save_tiny_model(tmp_path / "rrid.onnx")
    with Embedder(model, "onnxruntime", threads=1) as embedder:
        expected = [embedder.embed(array) for array in arrays]
        wrong: list[int] = []

        def work(number: int) -> None:
            found = [embedder.embed(arrays[number]) for _ in range(10)]
            wrong.extend(number for one in found if not np.array_equal(one, expected[number]))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
