"""``adopt --suggest``: a trained network whose right preprocessing is known, and crops that cannot tell."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rrid_edge.errors import ModelFileError, UsageError
from rrid_edge.model.onnx_header import read_spec
from rrid_export.adopt.facts import Choices
from rrid_export.adopt.findings import findings_of
from rrid_export.adopt.foreign import read_foreign
from rrid_export.adopt.labelled import labelled_files
from rrid_export.adopt.orders import OrderMeasures, OrderVerdict
from rrid_export.adopt.suggest import Suggester, SuggestSettings
from rrid_export.adopt.trials import Trial
from rrid_export.adopt.variants import Scaling, Space, Variant
from rrid_train.demo.config import DemoConfig
from rrid_train.demo.plan import is_test, plan_demo
from support.commands import refused, rrid_edge
from support.foreign import ForeignFile
from support.pictures import save_crops
from support.progress import CountedProgress

TRAINED = Path(__file__).parents[2] / "data" / "adopt" / "drawn_people.onnx"
"""A small ResNet, trained for a minute on the 80 people of ``demo-data --seed 5``, fed with RGB and ImageNet's mean and
std. Its weights are stored as float16."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BYTE_MEAN = (123.675, 116.28, 103.53)
NONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """40 drawn people whom the network does not know, each once in two of the cameras that it knows."""
    folder = tmp_path_factory.mktemp("people")
    plan = plan_demo(DemoConfig(seed=5))
    seen = set()
    for shot in plan.images:
        if is_test(plan.config, shot) and shot.camera < 2 and shot.label not in seen:
            seen.add(shot.label)
            (folder / Path(shot.name).name).write_bytes(plan.draw(shot))
    return folder


def _behind(path, nodes, constants, shape=None):
    """The trained network behind other nodes, which take ``fed`` and give ``images``."""
    model = onnx.load_model(str(TRAINED))
    graph = model.graph
    entry = graph.input[0]
    taken = entry.name
    made = [helper.make_node(kind, inputs, outputs, **more) for kind, inputs, outputs, more in nodes]
    made[-1].output[0] = taken
    for node in reversed(made):
        graph.node.insert(0, node)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    entry.CopyFrom(
        helper.make_tensor_value_info(
            "fed", TensorProto.FLOAT, shape or [axis.dim_value for axis in entry.type.tensor_type.shape.dim]
        )
    )
    onnx.save_model(model, str(path))
    return path


def _normalising(path, *, order):
    """The trained network for pixels of 0 to 255 in this order of channels: it normalises them itself."""
    planes = [np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (BYTE_MEAN, np.multiply(STD, 255))]
    nodes = [
        ("Gather", ["fed", "order"], ["turned"], {"axis": 1}),
        ("Sub", ["turned", "byte_mean"], ["centred"], {}),
        ("Div", ["centred", "byte_std"], ["images"], {}),
    ]
    constants = {"order": np.int64(order), "byte_mean": planes[0], "byte_std": planes[1]}
    return _behind(path, nodes, constants)


def _suggested(path, crops, flip=False, **choices):
    settings = SuggestSettings(labelled_files(crops, None), Choices(**choices), flip)
    return Suggester(read_foreign(path), settings).run()


def test_networks_that_normalise_themselves_are_not_normalised_twice(crops, tmp_path):
    found = _suggested(_normalising(tmp_path / "net.onnx", order=(2, 1, 0)), crops)
    best = found.trials[0].facts.preprocessing
    assert (best.color, best.scale, best.mean, best.std) == ("bgr", 1, *NONE)
    assert {finding.fact: finding.settled for finding in found.findings} == {
        "color": True, "scale": True, "mean and std": True,
    }  # fmt: skip


def test_the_best_command_adopts_the_network(crops, tmp_path):
    model = shutil.copy(TRAINED, tmp_path / "my net.onnx")
    before = sorted(tmp_path.iterdir())
    outcome = rrid_edge("adopt", model, "-o", tmp_path / "out", "--name", "people", "--suggest", crops, "--json")
    assert outcome.code == 0, outcome.err
    assert sorted(tmp_path.iterdir()) == before
    found = json.loads(outcome.out)
    best = next(variant for variant in found["variants"] if not variant["flip"])
    assert (best["color"], best["scale"], best["mean"]) == ("rgb", 255, list(MEAN))
    assert best["std"] == pytest.approx(STD, abs=0.004)  # TAO's std differs by less than these crops can tell
    (imagenet,) = (one for one in found["variants"] if one["std"] == list(STD) and not one["flip"])
    assert imagenet["families"] == ["torchreid", "boxmot"]
    order = [
        (variant["color"] == "rgb", round(variant["mean_ap"], 3), round(variant["separation"], 3))
        for variant in found["variants"]
    ]
    assert order == sorted(order, reverse=True)
    assert len(found["variants"]) == 2 * 6 + 1  # colours and scalings, and the mirror with the best
    settled = {finding["fact"]: (finding["value"], finding["settled"]) for finding in found["findings"]}
    assert settled["color"] == ("rgb", True)
    assert settled["scale"] == ("255", True)
    assert "flip" in settled
    program, command, *arguments = shlex.split(best["command"])
    assert (program, command) == ("rrid-edge", "adopt")
    outcome = rrid_edge("adopt", *arguments)
    assert outcome.code == 0, outcome.err
    spec = read_spec(tmp_path / "out" / "people.fp16.onnx")
    assert spec.preprocessing is not None
    assert (spec.preprocessing.color, spec.preprocessing.mean, spec.flip) == ("rgb", MEAN, False)


def test_what_is_given_is_not_varied(crops):
    found = _suggested(TRAINED, crops, color="bgr", scale=1.0, std=(58.395, 57.12, 57.375))
    given = [trial.facts.preprocessing for trial in found.trials]
    assert {(one.color, one.scale, one.std) for one in given} == {("bgr", 1.0, (58.395, 57.12, 57.375))}
    means = {one.mean for one in given}
    assert means == {(0.0, 0.0, 0.0), BYTE_MEAN[::-1], (127.5, 127.5, 127.5)}
    assert [finding.fact for finding in found.findings] == ["mean and std"]


def test_colours_that_do_not_matter_are_not_settled(crops, tmp_path):
    grey = [
        ("ReduceMean", ["fed"], ["grey"], {"axes": [1], "keepdims": 1}),
        ("Concat", ["grey"] * 3, [""], {"axis": 1}),
    ]
    path = _behind(tmp_path / "net.onnx", grey, {})
    found = _suggested(path, crops, scale=255.0, mean=MEAN, std=(0.226, 0.226, 0.226))
    (finding,) = found.findings
    assert (finding.fact, finding.settled) == ("color", False)
    outcome = rrid_edge(
        "adopt", path, "--suggest", crops, "--scale", 255, "--mean", "0.4,0.4,0.4", "--std", "0.2,0.2,0.2", "--no-flip"
    )
    assert outcome.code == 0, outcome.err
    assert "not settled: color rgb, or bgr" in outcome.out
    assert "within the noise of 40 people" in outcome.out


def _trial(color, precision, distance, **changes):
    variant = Variant(color, Scaling("none", 1.0, *NONE), (24, 16), **changes)
    return Trial(variant, None, float(np.mean(precision)), 0.5, distance, np.asarray(precision))  # type: ignore[arg-type]


def _order(best, rival, distances=None):
    """A comparison of orders whose recoloured forms measure what the crops do."""
    one, other = distances or (None, None)
    return OrderVerdict.of(
        OrderMeasures("rgb", best.separation, best.person_ap, None if one is None else np.array(one)),
        OrderMeasures("bgr", rival.separation, rival.person_ap, None if other is None else np.array(other)),
    )


def test_an_order_is_settled_only_if_all_measures_agree():
    ahead = np.linspace(0.5, 0.9, 20)
    best = _trial("rgb", ahead, 2.0)
    rival = _trial("bgr", ahead - 0.1, 1.6)

    def finding(other, distances=None):
        (found,) = findings_of(best, [other, best], _order(best, other, distances))
        return found

    assert finding(rival).settled
    assert finding(rival).describe(20) == "settled: color rgb, not bgr (mAP -10.0 points, d' -0.40)"
    (without,) = findings_of(best, [rival, best])
    assert not without.settled
    near = _trial("bgr", ahead - 0.1, 1.7)  # ln(2 / 1.7) is 0.16
    assert finding(near).describe(20).endswith("too small a difference to be sure")
    assert finding(near, ([0.01, 0.02], [0.02, 0.04])).describe(20) == (
        "settled: color rgb, not bgr (mAP -10.0 points, d' -0.30, 2.00 times as far from the statistics in the network)"
    )
    assert finding(near, ([0.01], [0.0125])).describe(20).endswith("too small a difference to be sure")
    assert finding(near, ([0.01], [0.009])).describe(20).endswith("the measures disagree")
    assert finding(_trial("bgr", ahead - 0.1, 2.1), ([0.01], [0.02])).describe(20).endswith("the measures disagree")
    noise = np.where(np.arange(20) % 2, 0.2, -0.19)
    assert finding(_trial("bgr", ahead - noise, 1.6)).describe(20).endswith("within the noise of 20 people")


def test_other_facts_are_compared_within_the_better_order():
    ahead = np.linspace(0.5, 0.9, 20)
    best, rival = _trial("rgb", ahead, 2.0), _trial("bgr", ahead + 0.1, 1.6)
    mirrored = _trial("rgb", ahead + 0.05, 2.2, flip=True)
    facts = {one.fact: one.value for one in findings_of(best, [rival, best, mirrored], _order(best, rival))}
    assert facts == {"color": "rgb", "flip": "on"}


def _named(folder, names):
    """Copies of one crop under these names."""
    (source,) = save_crops(folder / "source", 1)
    for name in names:
        shutil.copy(source, folder / name)
    shutil.rmtree(folder / "source")
    return folder


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([f"image{number}.jpg" for number in range(12)], "no crop has a known person and camera"),
        ([f"{person:04d}_c1s1_{place:06d}_00.jpg" for person in range(1, 13) for place in (1, 2)], "of one camera"),
        ([f"{person:04d}_c{person % 2 + 1}s1_000001_00.jpg" for person in range(1, 13)], "nobody is in two cameras"),
        ([f"{person:04d}_c{camera}s1_000001_00.jpg" for person in range(1, 10) for camera in (1, 2)], "9 people with"),
        (["0001_c1s1_000001_00.jpg"], "expected at least 2 crops"),
    ],
    ids=["unlabelled", "one-camera", "nobody-in-two", "nine-people", "one-crop"],
)
def test_crops_that_cannot_tell_are_refused(names, words, tmp_path):
    model = ForeignFile().write(tmp_path / "net.onnx")
    folder = _named(tmp_path / "crops", names)
    refused(rrid_edge("adopt", model, "-o", tmp_path / "out", "--suggest", folder), 2, words)
    assert not (tmp_path / "out").exists()


def test_a_missing_fact_names_the_way_to_suggest_it(tmp_path):
    model = ForeignFile().write(tmp_path / "net.onnx")
    refused(rrid_edge("adopt", model, "-o", tmp_path), 2, "is not known (color, scale, mean, std)", "--suggest")


def _of_any_size(path, **changes):
    file = ForeignFile(**changes)
    entry = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, "rows", "columns"])
    return file.write(path, inputs=[entry])


def test_sizes_are_tried_where_the_file_leaves_them_open(tmp_path):
    path = _of_any_size(tmp_path / "net.onnx")
    save_crops(tmp_path / "crops", 24, persons=12, cameras=8)
    counted = CountedProgress()
    settings = SuggestSettings(
        labelled_files(tmp_path / "crops", None), Choices(color="rgb", scale=255.0, mean=MEAN, std=STD), flip=True
    )
    suggester = Suggester(read_foreign(path), settings)
    most = suggester.most_images
    found = suggester.run(counted)
    sizes = {(trial.facts.height_px, trial.facts.width_px) for trial in found.trials}
    assert sizes == {(256, 128), (384, 128), (224, 224), (160, 64), (128, 64)}
    assert all(trial.facts.flip for trial in found.trials)
    assert counted.done <= most
    entry = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, 160, "columns"])
    network = read_foreign(ForeignFile().write(tmp_path / "rows.onnx", inputs=[entry]))
    assert Space.of(network, Choices(), None).sizes == ((160, 64),)
    entry = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, 161, "columns"])
    network = read_foreign(ForeignFile().write(tmp_path / "rows.onnx", inputs=[entry]))
    with pytest.raises(UsageError, match=r"161 x \? px, which no usual size fits"):
        Space.of(network, Choices(), None)


def test_sizes_that_cannot_be_run_are_left_out(tmp_path):
    """The head takes the map of one size only, whatever the file declares."""
    file = ForeignFile()
    model = file.model(inputs=[helper.make_tensor_value_info("pixels", 1, ["N", 3, "rows", "columns"])])
    kept = [node for node in model.graph.node if node.op_type != "GlobalAveragePool"]
    next(node for node in kept if node.op_type == "Flatten").input[0] = "f"
    del model.graph.node[:]
    model.graph.node.extend(kept)
    head = next(tensor for tensor in model.graph.initializer if tensor.name == "head")
    wide = np.random.default_rng(0).normal(0, 1, (12, 6 * 80 * 32)).astype(np.float32)
    head.CopyFrom(numpy_helper.from_array(wide, "head"))
    onnx.save_model(model, str(tmp_path / "net.onnx"))
    save_crops(tmp_path / "crops", 24, persons=12, cameras=8)
    found = _suggested(tmp_path / "net.onnx", tmp_path / "crops", color="rgb", scale=255.0, mean=MEAN, std=STD)
    assert [(trial.facts.height_px, trial.facts.width_px) for trial in found.trials] == [(160, 64)]
    assert "left out 256 x 128 px: the network cannot be run at this size" in found.remarks
    with pytest.raises(ModelFileError, match="cannot run it"):
        _suggested(tmp_path / "net.onnx", tmp_path / "crops", size=(64, 32))


def test_variants_that_are_not_finite_are_left_out(tmp_path):
    model = ForeignFile(unit=True).model()
    model.graph.node[0].input[0] = "rooted"
    model.graph.node.insert(0, helper.make_node("Sqrt", ["pixels"], ["rooted"]))
    onnx.save_model(model, str(tmp_path / "net.onnx"))
    save_crops(tmp_path / "crops", 24, persons=12, cameras=8)
    found = _suggested(tmp_path / "net.onnx", tmp_path / "crops", color="rgb")
    assert {(*trial.facts.preprocessing.mean, trial.facts.preprocessing.scale) for trial in found.trials} == {
        (0, 0, 0, 255), (0, 0, 0, 1),
    }  # fmt: skip
    assert {trial.facts.preprocessing.normalise for trial in found.trials} == {"none"}  # it has unit length already
    assert sum("are not finite" in line for line in found.remarks) == 4
    with pytest.raises(UsageError, match="not 1, though the choice none says so"):
        _suggested(ForeignFile().write(tmp_path / "raw.onnx"), tmp_path / "crops", normalise="none")
    with pytest.raises(ModelFileError, match="not finite with any usual preprocessing"):
        _suggested(tmp_path / "net.onnx", tmp_path / "crops", mean=(9.0, 9.0, 9.0), scale=255.0)


def test_bgr_turns_only_what_is_not_given(tmp_path):
    network = read_foreign(ForeignFile().write(tmp_path / "net.onnx"))

    def scalings(**choices) -> list[Scaling]:
        space = Space.of(network, Choices(color="bgr", **choices), flip=False)
        return [variant.scaling for variant in space.at(space.sizes[0])]

    assert replace(scalings()[0], name="") == replace(scalings(mean=MEAN[::-1], std=STD[::-1], scale=255.0)[0], name="")
    (given,) = scalings(mean=MEAN, std=STD, scale=255.0)
    assert (given.mean, given.std) == (MEAN, STD)
    assert {item.name for item in scalings(scale=128.0)} == {"none", "ImageNet", "0.5", "TAO"}
    preset = Space.of(network, Choices(preset="omz-retail"), flip=None)
    assert (preset.colors, len(preset.scalings), preset.flips) == (("bgr",), 1, (False, True))
