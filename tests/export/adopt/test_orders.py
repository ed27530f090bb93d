"""The order of channels: colour casts, stored statistics, and a trained network on cameras that it does not know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from rrid_edge.progress import NO_PROGRESS
from rrid_export.adopt.casts import with_casts, without_casts
from rrid_export.adopt.facts import Choices
from rrid_export.adopt.foreign import read_foreign
from rrid_export.adopt.labelled import labelled_files
from rrid_export.adopt.orders import OrderMeasures, OrderVerdict
from rrid_export.adopt.stored import StoredStatistics
from rrid_export.adopt.suggest import Suggester, SuggestSettings
from rrid_export.adopt.variants import Scaling, Variant
from rrid_train.demo.config import DemoConfig
from rrid_train.demo.plan import plan_demo
from support.foreign import HEIGHT_PX, WIDTH_PX, ForeignFile, convolved

TRAINED = Path(__file__).parents[2] / "data" / "adopt" / "drawn_people.onnx"


def test_casts_of_cameras_are_taken_off():
    generator = np.random.default_rng(8)
    plain = generator.integers(60, 120, (6, 8, 4, 3)).astype(np.uint8)
    plain[3:] = plain[:3]
    cameras = np.array([1, 1, 1, 2, 2, 2])
    casted = plain.copy()
    casted[3:] = np.rint(plain[3:] * [1.6, 1.0, 0.5])
    balanced = without_casts(casted, cameras).astype(np.float64)
    for channel in range(3):
        means = [balanced[cameras == camera, ..., channel].mean() for camera in (1, 2)]
        assert means == pytest.approx([casted[..., channel].mean()] * 2, abs=0.5)
    assert np.abs(balanced[:3] - balanced[3:]).max() <= 3  # the same pixels again, but for rounding
    assert without_casts(np.zeros((2, 8, 4, 3), np.uint8), cameras[2:4]).max() == 0


def test_other_casts_are_put_on_whole_cameras():
    crops = np.full((4, 8, 4, 3), 120, np.uint8)
    cameras = np.array([1, 1, 2, 2])
    recast = with_casts(crops, cameras, seed=0)
    assert (recast[0] == recast[1]).all()
    assert (recast[2] == recast[3]).all()
    assert (recast[0] != recast[2]).any()
    assert (recast != with_casts(crops, cameras, seed=1)).any()
    assert np.abs(recast.astype(int) - 120).max() <= 12  # a tenth


def _distances(path, images, color="rgb"):
    network = read_foreign(path)
    statistics = StoredStatistics.of(network)
    facts = Variant(color, Scaling("0.5", 255.0, (0.5, 0.5, 0.4), (0.5, 0.4, 0.5)), (HEIGHT_PX, WIDTH_PX), flip=True)
    return None if statistics is None else statistics.distances(images, facts.facts(network, Choices()))


@pytest.mark.parametrize("batch", [None, 2], ids=["any-batch", "batch-2"])
def test_distances_from_stored_statistics_are_those_of_slow_layers(batch, tmp_path):
    images = np.random.default_rng(4).integers(0, 256, (5, HEIGHT_PX, WIDTH_PX, 3)).astype(np.uint8)
    file = ForeignFile(batch=batch)
    found = _distances(file.write(tmp_path / "net.onnx"), images, "bgr")
    given = {name: values.astype(np.float64) for name, values in file.weights().items()}
    pixels = (images[..., ::-1] / 255 - [0.5, 0.5, 0.4]) / [0.5, 0.4, 0.5]
    stem = convolved(pixels.transpose(0, 3, 1, 2), given["stem"], 2) + given["stem_bias"][:, None, None]
    middle = convolved(np.maximum(stem, 0), given["middle"], 1)
    shift = middle.mean((0, 2, 3)) - given["mean"]
    # The stem has a bias and no normalisation behind it, as if folded; the middle has stored statistics.
    assert found == pytest.approx(
        [np.mean(stem.mean((0, 2, 3)) ** 2), np.mean(shift**2 / (given["var"] + 1e-5))], rel=1e-4
    )


def test_statistics_of_rows_and_of_other_normalisations(tmp_path):
    """The row of a head is normalised too; a convolution beside another normalisation is not taken for a folded one."""
    file = ForeignFile()
    model = file.model()
    kept = [node for node in model.graph.node if node.op_type != "BatchNormalization"]
    for node in kept:
        node.input[:] = ["c" if name == "d" else "raw" if name == "features" else name for name in node.input]
        node.output[:] = ["raw" if name == "features" else name for name in node.output]
    numbers = np.random.default_rng(6).uniform(0.5, 2, (4, 12)).astype(np.float32)
    kept.append(helper.make_node("BatchNormalization", ["raw", "n0", "n1", "n2", "n3"], ["features"]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(row, f"n{place}") for place, row in enumerate(numbers))
    onnx.save_model(model, str(tmp_path / "neck.onnx"))
    images = np.random.default_rng(4).integers(0, 256, (3, HEIGHT_PX, WIDTH_PX, 3)).astype(np.uint8)
    found = _distances(tmp_path / "neck.onnx", images)
    assert found.shape == (2,)  # the stem and the row
    shown = next(node for node in model.graph.node if node.op_type == "Conv")
    model.graph.node.insert(1, helper.make_node("InstanceNormalization", ["before", "gamma", "beta"], ["a"]))
    shown.output[0] = "before"
    onnx.save_model(model, str(tmp_path / "other.onnx"))
    assert _distances(tmp_path / "other.onnx", images) == pytest.approx(
        [_row_distance(tmp_path / "other.onnx", images, numbers)], rel=1e-4
    )


def _row_distance(path, images, numbers):
    """Distance of the rows before the last layer, undone from the network's own output."""
    pixels = (images / 255 - [0.5, 0.5, 0.4]) / [0.5, 0.4, 0.5]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    planes = pixels.transpose(0, 3, 1, 2).astype(np.float32)
    scale, shift, mean, variance = numbers.astype(np.float64)
    rows = (session.run(None, {"pixels": planes})[0] - shift) / scale * np.sqrt(variance + 1e-5) + mean
    return float(np.mean((rows.mean(0) - mean) ** 2 / (variance + 1e-5)))


def test_networks_without_statistics_have_none(tmp_path):
    model = ForeignFile().model()
    kept = [node for node in model.graph.node if node.op_type != "BatchNormalization"]
    for node in kept:
        node.input[:] = ["c" if name == "d" else name for name in node.input if name != "stem_bias"]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    onnx.save_model(model, str(tmp_path / "net.onnx"))
    network = read_foreign(tmp_path / "net.onnx")
    assert StoredStatistics.of(network) is None
    plain = read_foreign(ForeignFile().write(tmp_path / "plain.onnx"))
    assert StoredStatistics.of(plain) is not None
    assert StoredStatistics.of(replace(plain, path=tmp_path / "net.xml")) is None


def _measures(color, separation, distances=None):
    return OrderMeasures(color, separation, np.zeros(3), None if distances is None else np.array(distances))


def test_the_better_order_leads_by_separation_and_fit():
    one, other = _measures("rgb", 2.0, [0.01, 0.02]), _measures("bgr", 2.1, [0.02, 0.01 * np.sqrt(2)])
    verdict = OrderVerdict.of(other, one)
    assert verdict.best is one
    assert verdict.fit == pytest.approx(np.sqrt(np.sqrt(2)))  # geometric mean of 2 and 1 / sqrt(2)
    assert verdict.lead == pytest.approx(np.log(2 / 2.1) + 0.3 * np.log(2) / 4, abs=1e-7)
    far = OrderVerdict.of(_measures("rgb", 2.0, [0.001]), _measures("bgr", 2.0, [0.02]))
    assert far.lead == pytest.approx(0.3 * 0.5)  # a fit counts up to a logarithm of 0.5
    misfit = OrderVerdict.of(_measures("rgb", 2.0, [0.5]), _measures("bgr", 2.1, [0.9]))
    assert (misfit.fit, misfit.best.color) == (None, "bgr")  # both lie far from what the network stores
    tie = OrderVerdict.of(_measures("rgb", 2.0), _measures("bgr", 2.0 + 1e-9))
    assert tie.best.color == "rgb"


@pytest.mark.parametrize(("seed", "people", "cameras"), [(0, 24, 6), (7, 20, 3)])
def test_the_order_is_found_on_cameras_that_the_network_does_not_know(seed, people, cameras, tmp_path):
    """On these people the wrong order has the higher mAP, because of the casts of their cameras."""
    plan = plan_demo(DemoConfig(seed=seed, people=people, cameras=cameras, images_per_camera=2))
    for shot in plan.images:
        if shot.number == 0:
            (tmp_path / Path(shot.name).name).write_bytes(plan.draw(shot))
    choices = Choices(scale=255.0, std=(0.226, 0.226, 0.226))
    settings = SuggestSettings(labelled_files(tmp_path, None), choices, flip=False)
    found = Suggester(read_foreign(TRAINED), settings).run(NO_PROGRESS)
    precision = {
        color: max(one.mean_ap for one in found.trials if one.variant.color == color) for color in ("rgb", "bgr")
    }
    assert precision["bgr"] > precision["rgb"]
    assert found.trials[0].variant.color == "rgb"
    assert {one.variant.color for one in found.trials[:3]} == {"rgb"}
    assert found.findings[0].fact == "color"
    assert not found.findings[0].settled  # so few people cannot show it
