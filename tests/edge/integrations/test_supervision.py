"""Encoders for supervision and trackers: their detections, and stand-ins with the same attributes."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from rrid_edge.embedding.embedder import Embedder
from rrid_edge.engines.fake import FakeEngine
from rrid_edge.errors import UsageError
from rrid_edge.integrations import supervision, trackers
from support.pictures import noise

FRAME = np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)
BGR = FRAME[:, :, ::-1]
BOXES = np.array([[10, 20, 40, 80], [-30, 5, 70, 85]], np.float32)
EMBEDDER = Embedder(FakeEngine())


def _detections(boxes):
    return SimpleNamespace(xyxy=np.asarray(boxes, np.float32).reshape(-1, 4))


@pytest.mark.parametrize("encoder", [supervision.DetectionEncoder(EMBEDDER), trackers.DetectionEncoder(EMBEDDER)])
def test_detections_of_a_bgr_frame(encoder):
    expected = EMBEDDER.embed([FRAME[20:80, 10:40], FRAME[5:85, 0:70]])
    assert np.array_equal(encoder.extract_detection_embeddings(BGR, _detections(BOXES)), expected)
    assert np.array_equal(encoder.extract_detection_embeddings(BGR, BOXES), expected)
    assert encoder.extract_detection_embeddings(BGR, _detections([])).shape == (0, encoder.embedding_dim)


def test_frames_may_be_rgb():
    encoder = supervision.DetectionEncoder(EMBEDDER, color="rgb")
    assert np.array_equal(encoder.extract_detection_embeddings(FRAME, BOXES), EMBEDDER.embed_boxes(FRAME, BOXES))
    with pytest.raises(UsageError, match="color 'gray' is unknown"):
        supervision.DetectionEncoder(EMBEDDER, color="gray")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ([50, 40, 53, 80], (48, 40, 56, 80)),
        ([0, 10, 2, 12], (0, 7, 8, 15)),
        ([-40, -40, 1, 1], (0, 0, 8, 8)),
        ([118, 88, 300, 300], (112, 82, 120, 90)),
        ([50, 40, 50.1, 40.1], (46, 36, 54, 44)),
        ([10, 20, 40, 80], (10, 20, 40, 80)),
    ],
)
def test_a_tiny_box_is_grown_inside_the_frame(box, pixels):
    x1, y1, x2, y2 = pixels
    found = supervision.DetectionEncoder(EMBEDDER, "rgb").extract_detection_embeddings(FRAME, [box])
    assert np.array_equal(found, EMBEDDER.embed(FRAME[y1:y2, x1:x2]))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([np.nan, 0, 5, 5], "box 1 .* is not finite"),
        ([5, 5, 5, 9], "box 1 .* has no area"),
        ([200, 5, 205, 9], "box 1 .* lies outside"),
    ],
)
def test_other_nonsense_is_refused(box, message):
    with pytest.raises(UsageError, match=message):
        supervision.DetectionEncoder(EMBEDDER).extract_detection_embeddings(FRAME, [[10, 20, 40, 80], box])


def test_features_in_the_order_of_either_version_of_trackers():
    encoder = trackers.DetectionEncoder(EMBEDDER)
    expected = encoder.extract_detection_embeddings(BGR, BOXES)
    assert np.array_equal(encoder.extract_features(BGR, _detections(BOXES)), expected)
    assert np.array_equal(encoder.extract_features(_detections(BOXES), BGR), expected)
    with pytest.raises(UsageError, match="expected a frame and detections"):
        encoder.extract_features(BGR, BOXES)


def test_features_of_files(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for index, path in enumerate(paths):
        noise(index).save(path)
    found = trackers.DetectionEncoder(EMBEDDER).extract_features_from_paths(
        [str(path) for path in paths], normalize=True
    )
    assert np.array_equal(found, EMBEDDER.embed([noise(index) for index in range(3)]))


def test_no_other_package_is_imported():
    code = (
        "import sys\n"
        "from rrid_edge.integrations import boxmot, fiftyone, supervision, trackers\n"
        "print(*({'boxmot', 'fiftyone', 'supervision', 'trackers', 'torch', 'cv2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_detections_of_the_real_package():
    package = pytest.importorskip("supervision")
    encoder = supervision.DetectionEncoder(EMBEDDER)
    found = encoder.extract_detection_embeddings(BGR, package.Detections(xyxy=BOXES))
    assert np.array_equal(found, encoder.extract_detection_embeddings(BGR, BOXES))
    none = encoder.extract_detection_embeddings(BGR, package.Detections.empty())
    assert none.shape == (0, encoder.embedding_dim)


def test_tracked_detections_of_the_real_package():
    package, detections = pytest.importorskip("trackers"), pytest.importorskip("supervision")
    tracker, encoder = package.SORTTracker(minimum_consecutive_frames=1), trackers.DetectionEncoder(EMBEDDER)
    for step in range(3):
        boxes = BOXES + np.float32(step)
        seen = detections.Detections(xyxy=boxes, confidence=np.full(2, 0.9, np.float32))
        tracked = tracker.update(seen)
        found = encoder.extract_features(tracked, BGR)
        assert found.shape == (len(tracked), encoder.embedding_dim)
    assert len(tracked) == 2
