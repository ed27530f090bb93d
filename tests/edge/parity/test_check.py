"""Parity: numbers computed by hand, the verdict, the command, and goldens on a machine without PyTorch."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from rrid_edge.crops.folder import list_images
from rrid_edge.crops.images import read_image
from rrid_edge.engines import FakeEngine, open_engine
from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import FingerprintMismatchError, ModelFileError, UsageError
from rrid_edge.parity.agreement import compare
from rrid_edge.parity.check import batch_invariance, check_parity
from rrid_edge.parity.goldens import Goldens, load_goldens, save_goldens
from rrid_edge.parity.rankings import rankings
from rrid_edge.parity.reference import read_crops
from rrid_edge.ranking.labels import Labels
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import noise, save_crops

SPEC = fake_spec(block_width=4)
UNKNOWN = Labels(np.full(12, -1), np.full(12, -1))


def _unit(values):
    values = np.asarray(values, np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def _random(count=12, seed=0):
    return _unit(np.random.default_rng(seed).standard_normal((count, SPEC.dimension)))


def _images(count=12):
    return np.random.default_rng(3).integers(0, 256, (count, SPEC.height_px, SPEC.width_px, 3), dtype=np.uint8)


def test_equal_descriptors_agree_in_everything():
    found = compare(_random(), _random(), SPEC.blocks)
    assert found.min_cosine == pytest.approx(1)
    assert found.max_abs_difference == 0
    assert (found.top1_agreement, found.top10_agreement, found.kendall_tau) == (1, 1, 1)
    assert found.top10_identical


def test_numbers_are_those_computed_by_hand():
    """Four images in two dimensions. The third one is rotated by 90 degrees."""
    reference = _unit([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    other = reference.copy()
    other[2] = [1, 0]
    found = compare(reference, other, ("one", "two"))
    assert found.min_cosine == pytest.approx(0, abs=1e-7)
    assert found.mean_cosine == pytest.approx(0.75)
    assert found.worst_image == 2
    assert found.max_abs_difference == pytest.approx(1)
    # Nearest neighbours before: 1, 0, 3, 2. After, image 2 equals image 0: 2, 0 or 2 (a tie, index 0 wins), 0, 1.
    assert found.top1_agreement == pytest.approx(0.25)
    assert not found.top10_identical


def test_kendall_tau_equals_a_count_of_pairs():
    one, two = _random(9, 1), _random(9, 2)
    taus = []
    for first, second in zip(rankings(one), rankings(two), strict=True):
        position = {item: index for index, item in enumerate(second)}
        pairs = [(a, b) for index, a in enumerate(first) for b in first[index + 1 :]]
        good = sum(position[a] < position[b] for a, b in pairs)
        taus.append(2 * good / len(pairs) - 1)
    assert compare(one, two, SPEC.blocks).kendall_tau == pytest.approx(np.mean(taus))


def test_the_worst_block_is_named():
    other = _random().copy()
    other[:, 7 * 4 : 8 * 4] *= -1
    assert compare(_random(), other, SPEC.blocks).worst_block == SPEC.blocks[7]


def test_equal_crops_count_as_a_tie():
    reference = np.repeat(_random(3), 4, axis=0)
    noisy = _unit(reference + np.random.default_rng(1).uniform(-1e-8, 1e-8, reference.shape))
    assert compare(reference, noisy, SPEC.blocks).top1_agreement == 1


@pytest.mark.parametrize("bad", [_random(5), _random()[:, :8], np.full_like(_random(), np.nan)])
def test_other_shapes_and_nan_are_refused(bad):
    with pytest.raises(UsageError):
        compare(_random(), bad, SPEC.blocks)


class _WrongEngine(FakeEngine):
    """Adds noise to descriptors, or an offset that grows with the batch size."""

    def __init__(self, noise=0.0, batch_offset=0.0):
        super().__init__(SPEC)
        self.noise, self.batch_offset = noise, batch_offset

    def _run_batch(self, images):
        right = super()._run_batch(images)
        seeds = images.reshape(len(images), -1)[:, :8].sum(1)
        noise = np.stack([np.random.default_rng(seed).standard_normal(right.shape[1]) for seed in seeds])
        offset = self.batch_offset * (len(images) - 1)
        return _unit(right + np.float32(self.noise) * noise.astype(np.float32) + np.float32(offset))


def _check(engine, labels=UNKNOWN, fingerprint=SPEC.fingerprint):
    images = _images()
    goldens = Goldens(images, FakeEngine(SPEC).run(images), ("x.jpg",) * len(images), fingerprint, labels)
    return check_parity(engine, goldens, reference_name="truth")


def test_a_correct_engine_passes():
    report = _check(FakeEngine(SPEC))
    assert report.passed
    assert report.batch_min_cosine == pytest.approx(1)


def test_a_wrong_engine_fails_with_reasons():
    report = _check(_WrongEngine(noise=0.1))
    assert not report.passed
    assert any(line.startswith("minimum cosine 0.") for line in report.failures)


def test_an_engine_that_depends_on_the_batch_is_found():
    engine = _WrongEngine(batch_offset=0.05)
    assert batch_invariance(engine, _images()) < 0.99
    assert any("change with the batch" in line for line in _check(engine).failures)


def test_few_images_are_not_run_in_the_same_batch_again(monkeypatch):
    engine, sizes = _WrongEngine(batch_offset=0.05), list[int]()
    run = engine.run

    def counted(images):
        sizes.append(len(images))
        return run(images)

    monkeypatch.setattr(engine, "run", counted)
    assert batch_invariance(engine, _images(3)) < 0.99
    assert sizes == [1] * 3 + [2] * 2 + [3] * 3  # a batch of five would hold the same three images


def test_the_arithmetic_decides_the_tolerance():
    engine = _WrongEngine(noise=0.004)
    strict = _check(engine)
    engine.arithmetic = "int8"
    loose = _check(engine)
    assert (strict.tolerance.min_cosine, loose.tolerance.min_cosine) == (1 - 1e-7, 0.98)
    assert not strict.passed


def test_labels_add_the_change_of_map():
    persons, cameras = np.arange(12) % 4 + 1, np.arange(12) // 4
    report = _check(_WrongEngine(noise=3.0), labels=Labels(persons, cameras))
    assert report.map_reference is not None
    assert report.map_engine is not None
    assert _check(FakeEngine(SPEC), labels=UNKNOWN).map_engine is None


def test_distractors_are_wrong_answers_and_no_queries():
    persons, cameras = [1, 2, 3, 1, 2, 3, 0, 0, 0, -1, -1, 4], [1, 1, 1, 2, 2, 2, 1, 2, 3, 1, 2, 3]
    cosines = np.asarray(FakeEngine(SPEC).run(_images()), np.float64)
    cosines = cosines @ cosines.T
    precisions, first = [], []
    for query in range(6):
        others = [row for row in range(12) if persons[row] >= 0 and row != query]
        ranked = [persons[row] == persons[query] for row in sorted(others, key=lambda row: -cosines[query, row])]
        precisions.append(1 / (ranked.index(True) + 1))  # each query has one right answer
        first.append(ranked[0])
    report = _check(FakeEngine(SPEC), labels=Labels.of(persons, cameras))
    assert report.map_reference == pytest.approx(np.mean(precisions))
    assert report.rank1_reference == pytest.approx(np.mean(first))


def test_another_network_is_refused():
    with pytest.raises(FingerprintMismatchError, match=r"the reference is another network \("):
        _check(FakeEngine(SPEC), fingerprint="0" * 64)


def test_goldens_come_back_and_damage_is_found(tmp_path):
    goldens = Goldens(
        _images(3), _random(3), ("a.jpg", "b.jpg", "c.jpg"), SPEC.fingerprint, Labels(np.arange(3), np.arange(3))
    )
    save_goldens(tmp_path / "g.npz", goldens)
    again = load_goldens(tmp_path / "g.npz")
    np.testing.assert_array_equal(again.images, goldens.images)
    np.testing.assert_array_equal(again.descriptors, goldens.descriptors)
    assert (again.names, again.fingerprint) == (goldens.names, goldens.fingerprint)
    data = (tmp_path / "g.npz").read_bytes()
    (tmp_path / "g.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelFileError, match="not a goldens file, or damaged"):
        load_goldens(tmp_path / "g.npz")
    with pytest.raises(UsageError, match="no such goldens file"):
        load_goldens(tmp_path / "none.npz")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model with goldens of eight crops."""
    monkeypatch.chdir(tmp_path)
    save_crops(tmp_path / "crops", 8)
    path = save_tiny_model(tmp_path / "models" / "rrid.onnx")
    names = tuple(image.name for image in list_images(tmp_path / "crops"))
    with open_engine(path, "onnxruntime") as engine:
        images = np.stack([read_image(tmp_path / "crops" / name, 192, 64) for name in names])
        goldens = Goldens(
            images, engine.run(images), names, engine.spec.fingerprint, Labels(np.full(8, -1), np.full(8, -1))
        )
    save_goldens(tmp_path / "models" / "rrid.goldens.npz", goldens)
    return tmp_path


def test_command_against_goldens(folder):
    outcome = rrid_edge("parity", "--runtime", "openvino", "--precision", "fp32")
    assert outcome.code == 0, outcome
    assert outcome.out.splitlines()[-1].startswith("PASSED")
    assert json.loads((folder / "models" / "parity.json").read_text())["passed"]


def test_command_against_another_model_file(folder):
    save_tiny_model(folder / "same.onnx")
    arguments = ("parity", "models/rrid.onnx", "--runtime", "onnxruntime", "--output", "p.json", "--json")
    outcome = rrid_edge(*arguments, "--reference", "same.onnx", "--images", "crops")
    assert outcome.code == 0, outcome
    assert json.loads(outcome.out)["agreement"]["images"] == 8
    save_tiny_model(folder / "other.onnx", dataclasses.replace(fake_spec(), fingerprint="1" * 64))
    refused(rrid_edge(*arguments, "--reference", "other.onnx", "--images", "crops"), 4, "another network (other.onnx")


def test_command_fails_with_1_and_says_why(folder):
    save_tiny_model(folder / "models" / "rrid.onnx", seed=5)  # the same metadata, other weights
    outcome = rrid_edge("parity")
    refused(outcome, 1, "parity failed: minimum cosine", "do not deploy")
    assert outcome.out.splitlines()[-1].startswith("FAILED")
    assert not json.loads((folder / "models" / "parity.json").read_text())["passed"]


def test_command_refusals(folder):
    refused(rrid_edge("parity", "--images", "models"), 2, "8 of 8 images of the goldens are missing")
    refused(rrid_edge("parity", "--reference", "models/rrid.onnx"), 2, "needs crops to compare on")
    refused(rrid_edge("parity", "--reference", "a.txt", "--images", "crops"), 2, "a.txt: not a reference")
    (folder / "one").mkdir()
    refused(rrid_edge("parity", "--reference", "models/rrid.onnx", "--images", "one"), 2, "0 readable image(s)")
    (folder / "crops" / "0001_c1s1_000090_00.jpg").write_text("words")
    outcome = rrid_edge("parity", "--reference", "models/rrid.onnx", "--images", "crops")
    assert outcome.code == 0
    assert "left out crops/0001_c1s1_000090_00.jpg" in outcome.err
    (folder / "models" / "rrid.goldens.npz").unlink()
    refused(rrid_edge("parity"), 2, "no such goldens file")


def test_without_torch_goldens_work_and_checkpoints_name_the_extra(folder):
    code = textwrap.dedent(
        """
        import sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {"torch", "torchvision", "onnx", "safetensors"}:
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Blocker())
        from rrid_edge.cli.app import run
        import rrid_edge.cli
        codes = [run(["parity"]), run(["parity", "--reference", "x.safetensors", "--images", "crops"])]
        print(codes)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[0, 3]"
    assert "pip install 'rrid-edge[export]'" in done.stderr


def test_models_of_one_folder_have_their_own_goldens_and_reports(tmp_path):
    for number, name in enumerate(("person.v2", "person.v3")):
        spec = dataclasses.replace(fake_spec(), fingerprint=str(number) * 64)
        with open_engine(save_tiny_model(tmp_path / f"{name}.onnx", spec, seed=number), "onnxruntime") as engine:
            images, unknown = _images(4), np.full(4, -1)
            goldens = Goldens(images, engine.run(images), ("x",) * 4, spec.fingerprint, Labels(unknown, unknown))
        save_goldens(tmp_path / f"{name}.goldens.npz", goldens)
        save_tiny_model(tmp_path / f"{name}.int8.onnx", spec.with_precision("int8"), seed=number)
    models = sorted(tmp_path.glob("*.onnx"))
    for path in models:
        outcome = rrid_edge("parity", path, "--runtime", "onnxruntime")
        assert outcome.code == 0, outcome
    for path in models:
        verdict = json.loads((tmp_path / f"{path.name}.parity.json").read_text())["verdict"]
        assert verdict == ("not decided" if "int8" in path.name else "passed")  # four crops decide only float32
        assert (tmp_path / f"{path.name}.parity.png").is_file()
    before = models[0].read_bytes()
    for name in ("report.png", models[0].name):  # it would replace its chart, and the model
        outcome = rrid_edge("parity", models[0], "--runtime", "onnxruntime", "--output", tmp_path / name)
        refused(outcome, 2, f"{name}: a parity report is a JSON file; end its name in .json")
    assert models[0].read_bytes() == before


def test_links_that_lead_out_of_the_crops_are_followed_only_if_asked(folder):
    noise(40).save(folder / "private.jpg")
    (folder / "crops" / "0001_c1s1_000091_00.jpg").symlink_to(folder / "private.jpg")
    (folder / "crops" / "a.heic").touch()
    spec = fake_spec()
    assert len(read_crops(folder / "crops", spec, 100).names) == 8
    assert "0001_c1s1_000091_00.jpg" in read_crops(folder / "crops", spec, 100, follow_links=True).names
    save_tiny_model(folder / "same.onnx")
    arguments = ("parity", "models/rrid.onnx", "--reference", "same.onnx", "--images", "crops", "--json")
    outcome = rrid_edge(*arguments, "--runtime", "onnxruntime", "--follow-links", "--output", "p.json")
    assert json.loads(outcome.out)["agreement"]["images"] == 9
    assert "left out: 1 file with other endings (.heic 1)" in outcome.err
    assert "links" not in outcome.err
