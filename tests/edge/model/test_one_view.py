"""A model without its mirrored view answers as ``export --no-flip`` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from rrid_edge.engines import open_engine
from rrid_edge.errors import ModelFileError
from rrid_edge.model.one_view import write_one_view
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.operations import work_of
from rrid_edge.model.spec import ModelSpec
from rrid_edge.model.weights import check_weights, contract_file
from support.onnx_models import save_tiny_model


def images(spec: ModelSpec) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, spec.height_px, spec.width_px, 3), dtype=np.uint8)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_descriptors_are_those_of_an_export_without_mirror(tiny_export, tiny_export_without_mirror, tmp_path, runtime):
    source, exported = tiny_export / "rrid.onnx", tiny_export_without_mirror / "rrid.onnx"
    spec = write_one_view(source, tmp_path / "rrid.onnx")
    assert (spec.flip, spec.dimension) == (False, read_spec(source).dimension)
    assert len({spec.fingerprint, read_spec(source).fingerprint, read_spec(exported).fingerprint}) == 3
    assert read_spec(tmp_path / "rrid.onnx") == spec
    assert check_weights(tmp_path / "rrid.onnx") is not None
    with open_engine(tmp_path / "rrid.onnx", runtime) as one, open_engine(exported, runtime) as expected:
        pixels = images(spec)
        np.testing.assert_allclose(one.run(pixels), expected.run(pixels), atol=2e-6)
    assert 2 * work_of(tmp_path / "rrid.onnx").operations == work_of(source).operations


def test_other_forms_lose_their_mirror_too(narrow_export, planes_export, tmp_path):
    """float16, and float32 planes as input: half of the operations, and an image and its mirror differ."""
    for source in (narrow_export / "rrid.fp16.onnx", planes_export / "rrid.nchw.onnx"):
        target = tmp_path / source.name
        spec = write_one_view(source, target)
        assert 2 * work_of(target).operations == work_of(source).operations
        pixels = images(spec)
        with open_engine(source, "onnxruntime") as two, open_engine(target, "onnxruntime") as one:
            mirrored = np.ascontiguousarray(pixels[:, :, ::-1])
            np.testing.assert_allclose(two.run(pixels), two.run(mirrored), atol=3e-3)
            assert np.abs(one.run(pixels) - one.run(mirrored)).max() > 0.01


def refusal(source: Path, target: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        write_one_view(source, target)
    assert not target.exists()
    return caught.value.message


def test_what_cannot_be_changed_is_refused(tiny_export, tiny_export_without_mirror, tmp_path):
    """One view already; views that are joined in another way; a shape that other nodes use too."""
    target = tmp_path / "target.onnx"
    assert "one view already" in refusal(tiny_export_without_mirror / "rrid.onnx", target)
    assert "0 places where an image and its mirror" in refusal(save_tiny_model(tmp_path / "tiny.onnx"), target)
    spec, model = read_spec(tiny_export / "rrid.onnx"), onnx.load(tiny_export / "rrid.onnx")
    shape = next(
        one.name for one in model.graph.initializer if numpy_helper.to_array(one).tolist() == [-1, 2, spec.dimension]
    )
    model.graph.node.append(helper.make_node("Identity", [shape], ["another_use"]))
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(contract_file(model.SerializeToString(), spec))
    message = refusal(changed, target)
    assert "2 places where features are parted by views" in message
    assert message.endswith("make the model with: rrid-edge export CHECKPOINT --no-flip")
