"""BoxMOT's appearance encoder: with stand-ins of its records, and with the package where it is installed."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from rrid_edge.embedding.embedder import Embedder
from rrid_edge.engines.fake import FakeEngine
from rrid_edge.errors import MissingDependencyError, UsageError
from rrid_edge.integrations.boxmot import AppearanceEncoder

torch = pytest.importorskip("torch")
FRAME = np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)
BOXES = np.array([[10, 20, 40, 80], [60, 5, 64, 85]], np.float32)
EMBEDDER = Embedder(FakeEngine())


def _image():
    return torch.from_numpy(FRAME).permute(2, 0, 1).contiguous()


def _frame(sample_id="a"):
    return SimpleNamespace(image=_image(), sample_id=sample_id)


def _detections(boxes=BOXES, sample_id="a", *, is_obb=False):
    values = torch.from_numpy(np.asarray(boxes, np.float32).reshape(-1, 4))
    scores = torch.ones(len(values))
    return SimpleNamespace(geometry=SimpleNamespace(values=values), scores=scores, sample_id=sample_id, is_obb=is_obb)


def test_each_frame_gets_a_tensor_of_its_detections():
    encoder = AppearanceEncoder(EMBEDDER)
    assert encoder.embedding_dim == EMBEDDER.spec.dimension
    found = encoder.encode([_frame("a"), _frame("b")], [_detections(sample_id="a"), _detections([], sample_id="b")])
    expected = EMBEDDER.embed([FRAME[20:80, 10:40], FRAME[5:85, 58:66]])  # the second box is grown to 8 pixels
    assert [tuple(tensor.shape) for tensor in found] == [(2, encoder.embedding_dim), (0, encoder.embedding_dim)]
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in found)
    assert np.array_equal(found[0].numpy(), expected)
    assert encoder.encode([], []) == []


@pytest.mark.parametrize(
    ("frames", "detections", "message"),
    [
        ([_frame()], [], "1 frames and 0 detections"),
        ([_frame("a")], [_detections(sample_id="b")], "frame 'a' with detections of 'b'"),
        ([_frame()], [_detections(is_obb=True)], "frame 'a': oriented boxes"),
    ],
)
def test_what_does_not_fit_is_refused(frames, detections, message):
    with pytest.raises(UsageError, match=message):
        AppearanceEncoder(EMBEDDER).encode(frames, detections)


def test_requirements_come_from_the_package(monkeypatch):
    class EncoderRequirements:
        masks = False

    monkeypatch.setitem(sys.modules, "boxmot", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "boxmot.reid", SimpleNamespace(EncoderRequirements=EncoderRequirements))
    assert isinstance(AppearanceEncoder(EMBEDDER).requirements, EncoderRequirements)
    for older in (SimpleNamespace(), None):
        monkeypatch.setitem(sys.modules, "boxmot.reid", older)
        with pytest.raises(MissingDependencyError, match="pip install 'boxmot>=25'"):
            _ = AppearanceEncoder(EMBEDDER).requirements


def test_the_protocol_and_pipeline_of_the_real_package():
    reid, structures = pytest.importorskip("boxmot.reid"), pytest.importorskip("boxmot.structures")
    perception = pytest.importorskip("boxmot.pipelines.perception")
    encoder = AppearanceEncoder(EMBEDDER)
    assert isinstance(encoder, reid.AppearanceEncoder)
    frame = structures.Frame(_image(), "a")
    detections = structures.Detections(
        structures.Boxes(torch.from_numpy(BOXES)), torch.ones(2), torch.zeros(2, dtype=torch.int64), "a"
    )
    pipeline = perception.PerceptionPipeline(reid=encoder, outputs=perception.PipelineOutputs(embeddings=True))
    (enriched,) = pipeline.enrich([frame], [detections])
    assert np.array_equal(enriched.embeddings.numpy(), encoder.encode([frame], [detections])[0].numpy())
