"""The diagnosis names every usual mistake. The tests make each one in PyTorch, not as the diagnosis imitates it."""

from __future__ import annotations

import functools
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from rrid_edge.crops.images import load_rgb, read_image
from rrid_edge.engines import open_engine
from rrid_edge.engines.onnxruntime.cpu import MemorySession, OnnxRuntimeEngine
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.parity.diagnosis import MISTAKES, diagnose, pixel_mistake
from rrid_edge.parity.goldens import Goldens, save_goldens
from rrid_edge.ranking.labels import Labels
from rrid_export import layer_scales, mistakes
from rrid_export.mistakes import mistaken_networks
from rrid_train.model import RRID
from support.commands import refused, rrid_edge
from support.pictures import noise

MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
COUNT = 6


@pytest.fixture(autouse=True, scope="module")
def _every_answer_is_computed_once():
    """Build the network and the layers' directions of each file once, and run each network on the same images once.

    The cases differ in the reference only: the engine and the networks see the same images in all of them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnnxRuntimeEngine, "_run_batch", _remembered(OnnxRuntimeEngine._run_batch))
        patch.setattr(mistakes, "_runner", lambda model: _remembered(MemorySession(model.SerializeToString()).run))
        patch.setattr(mistakes, "mistaken_networks", functools.cache(mistaken_networks))
        patch.setattr(layer_scales, "layer_directions", _remembered_by_file(layer_scales.layer_directions))
        yield


def _remembered(run):
    """``run`` with a memory of its answers, by the model file of the engine if there is one, and the images."""
    answers = {}

    def answer(*arguments):
        *engine, images = arguments
        key = (tuple(one._path for one in engine), images.shape, images.tobytes())
        if key not in answers:
            answers[key] = run(*arguments)
        return answers[key].copy()

    return answer


def _remembered_by_file(directions):
    answers = {}

    def answer(path, images, only=None):
        key = (path, images.tobytes(), None if only is None else tuple(sorted(only)))
        if key not in answers:
            answers[key] = directions(path, images, only)
        return answers[key]

    return answer


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_export):
    """An export of the published network with random weights, and crops that are larger than its input."""
    folder = tmp_path_factory.mktemp("diagnosis")
    shutil.copytree(tiny_export, folder / "m")
    (folder / "crops").mkdir()
    for index in range(COUNT):
        grain = np.random.default_rng(index).integers(-60, 61, (210 + 9 * index, 100, 3), dtype=np.int16)
        picture = np.asarray(noise(index, *grain.shape[:2]), dtype=np.int16) + grain
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / "crops" / f"{index:02d}.png")
    return folder


@pytest.fixture(scope="module")
def network(folder):
    return RRID.from_state_dict(torch.load(folder / "m" / "tiny.pth"), height_px=96, width_px=32).eval()


def _paths(folder):
    return sorted((folder / "crops").iterdir())


def _pixels(folder) -> np.ndarray:
    return np.stack([read_image(path, 96, 32) for path in _paths(folder)])


def _tensor(images) -> torch.Tensor:
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float()


@torch.inference_mode()
def _answer(network, pixels, *, mirror=True, scale=True, blocks_first=True):
    """Descriptors as in the published evaluation: two passes, mean, L2 norm. ``pixels`` are normalised."""
    features = network(pixels).blocks
    if mirror:
        features = (features + network(pixels.flip(3)).blocks) / 2
    if not blocks_first:
        features = features.transpose(1, 2)
    flat = features.flatten(1)
    return (F.normalize(flat) if scale else flat).numpy()


def _normalised(images) -> torch.Tensor:
    return (_tensor(images) / 255 - MEAN) / STD


def _opened(folder) -> list[Image.Image]:
    pictures = []
    for path in _paths(folder):
        with Image.open(path) as picture:
            pictures.append(picture.copy())
    return pictures


def _by_pillow(folder, how) -> torch.Tensor:
    return _normalised(np.stack([np.asarray(how(picture)) for picture in _opened(folder)]))


def _by_torch(folder, mode, **options) -> torch.Tensor:
    resized = [
        F.interpolate(_tensor(np.asarray(picture)[None]), (96, 32), mode=mode, **options) for picture in _opened(folder)
    ]
    return (torch.cat(resized).round() / 255 - MEAN) / STD


def _letterboxed(picture):
    share = min(96 / picture.height, 32 / picture.width)
    size = (round(picture.width * share), round(picture.height * share))
    canvas = Image.new("RGB", (32, 96))
    canvas.paste(picture.resize(size, Image.Resampling.BILINEAR), ((32 - size[0]) // 2, (96 - size[1]) // 2))
    return canvas


def _reference(mistake, folder, network) -> np.ndarray:
    images = _pixels(folder)
    made = {
        "bgr": lambda: _answer(network, _normalised(images[..., ::-1])),
        "missing-scaling": lambda: _answer(network, (_tensor(images) - MEAN) / STD),
        "double-scaling": lambda: _answer(network, (_tensor(images) / 255 / 255 - MEAN) / STD),
        "missing-normalisation": lambda: _answer(network, _tensor(images) / 255),
        "other-normalisation": lambda: _answer(network, (_tensor(images) / 255 - 0.5) / 0.5),
        "missing-mirror": lambda: _answer(network, _normalised(images), mirror=False),
        "unnormalised": lambda: _answer(network, _normalised(images), scale=False),
        "interleaved-blocks": lambda: _answer(network, _normalised(images), blocks_first=False),
        # OpenCV's resize takes (width, height). With (height, width) the picture is resized, then transposed.
        "swapped-size": lambda: _answer(
            network,
            _by_pillow(folder, lambda picture: picture.resize((96, 32), Image.Resampling.BILINEAR)).transpose(2, 3),
        ),
        "misread-size": lambda: _answer(
            network,
            _by_pillow(folder, lambda picture: picture.resize((96, 32), Image.Resampling.BILINEAR))
            .permute(0, 2, 3, 1)
            .reshape(-1, 96, 32, 3)
            .permute(0, 3, 1, 2),
        ),
        "nearest-resize": lambda: _answer(network, _by_torch(folder, "nearest-exact")),
        "no-antialias": lambda: _answer(network, _by_torch(folder, "bilinear", align_corners=False)),
        "bicubic-resize": lambda: _answer(
            network, _by_pillow(folder, lambda picture: picture.resize((32, 96), Image.Resampling.BICUBIC))
        ),
        "letterbox": lambda: _answer(network, _by_pillow(folder, _letterboxed)),
        "squashed-224": lambda: _answer(
            network,
            _by_pillow(
                folder,
                lambda picture: picture.resize((224, 224), Image.Resampling.BILINEAR).resize(
                    (32, 96), Image.Resampling.BILINEAR
                ),
            ),
        ),
        "shuffled-blocks": lambda: np.roll(_answer(network, _normalised(images)), 8, axis=1),
        "shuffled-rows": lambda: _answer(network, _normalised(images))[::-1].copy(),
    }
    return made[mistake]()


MADE = [
    "bgr",
    "missing-scaling",
    "double-scaling",
    "missing-normalisation",
    "other-normalisation",
    "missing-mirror",
    "unnormalised",
    "interleaved-blocks",
    "swapped-size",
    "misread-size",
    "nearest-resize",
    "no-antialias",
    "bicubic-resize",
    "letterbox",
    "squashed-224",
    "shuffled-blocks",
    "shuffled-rows",
]


def _save_goldens(folder, descriptors, images=None):
    names = tuple(path.name for path in _paths(folder))
    unknown = Labels(np.full(COUNT, -1), np.full(COUNT, -1))
    fingerprint = read_spec(folder / "m" / "rrid.onnx").fingerprint
    path = folder / "reference.npz"
    save_goldens(path, Goldens(_pixels(folder) if images is None else images, descriptors, names, fingerprint, unknown))
    return path


@pytest.mark.parametrize("mistake", MADE)
def test_the_diagnosis_names_the_mistake(folder, network, mistake):
    path = _save_goldens(folder, _reference(mistake, folder, network))
    report = folder / "report.json"
    outcome = rrid_edge(
        "parity", folder / "m" / "rrid.onnx", "--reference", path, "--images", folder / "crops",
        "--runtime", "onnxruntime", "--output", report,
    )  # fmt: skip
    refused(outcome, 1, "parity failed", f"({mistake}: {MISTAKES[mistake]}")
    assert f"cause      {mistake}: " in outcome.out
    facts = json.loads(report.read_text())
    assert [cause["mistake"] for cause in facts["diagnosis"]["causes"]] == [mistake]
    with Image.open(report.with_suffix(".png")) as chart:
        assert chart.size == (1120, 560)


def test_the_correct_reference_passes(folder, network):
    path = _save_goldens(folder, _answer(network, _normalised(_pixels(folder))))
    outcome = rrid_edge(
        "parity",
        folder / "m" / "rrid.onnx",
        "--reference",
        path,
        "--images",
        folder / "crops",
        "--runtime",
        "onnxruntime",
    )
    assert outcome.code == 0, outcome
    assert "cause" not in outcome.out


def test_missing_normalisation_is_named_beside_another_mistake(folder, network):
    images = _pixels(folder)
    both = _answer(network, _normalised(images[..., ::-1]), scale=False)
    with open_engine(folder / "m" / "rrid.onnx", "onnxruntime") as engine:
        found = diagnose(engine, images, both)
    assert [cause.mistake for cause in found.causes] == ["bgr", "unnormalised"]


def test_an_unusual_mistake_gets_no_name(folder, network):
    other = _answer(network, _normalised(np.roll(_pixels(folder), 29, axis=1)))
    outcome = rrid_edge(
        "parity", folder / "m" / "rrid.onnx", "--reference", _save_goldens(folder, other), "--runtime", "onnxruntime"
    )
    refused(outcome, 1, "none of the usual mistakes explains the difference")
    assert "not tried: resize mistakes (they need goldens" in outcome.err


def test_wrong_input_of_the_engine_is_found_from_the_files(folder, network):
    """The reference has the right pixels; the engine was given wrong ones."""
    pictures = [load_rgb(path) for path in _paths(folder)]
    wrong = np.stack([np.asarray(picture.resize((32, 96), Image.Resampling.NEAREST)) for picture in pictures])
    right = _answer(network, _normalised(_pixels(folder)))
    with open_engine(folder / "m" / "rrid.onnx", "onnxruntime") as engine:
        found = diagnose(engine, wrong, right, sources=pictures)
    assert [cause.mistake for cause in found.causes] == ["other-pixels"]
    assert pixel_mistake(_pixels(folder), pictures) is None
    words = pixel_mistake(wrong, pictures)
    assert words == (
        f"{COUNT} of {COUNT} images differ from what this package reads from the files: nearest-resize: "
        + MISTAKES["nearest-resize"]
    )


def test_goldens_with_wrong_pixels_fail_even_if_the_engine_agrees(folder, network):
    wrong = _pixels(folder)[..., ::-1].copy()
    path = _save_goldens(folder, _answer(network, _normalised(wrong)), wrong)
    arguments = ("parity", folder / "m" / "rrid.onnx", "--reference", path, "--runtime", "onnxruntime")
    assert rrid_edge(*arguments).code == 0  # without the files the pixels cannot be checked
    outcome = rrid_edge(*arguments, "--images", folder / "crops")
    refused(outcome, 1, "the goldens do not belong to", f"{COUNT} of {COUNT} images", "bgr: ")
    assert not json.loads((folder / "m" / "parity.json").read_text())["passed"]


def test_goldens_of_another_folder_are_refused(folder, network, tmp_path):
    path = _save_goldens(folder, _answer(network, _normalised(_pixels(folder))))
    outcome = rrid_edge("parity", folder / "m" / "rrid.onnx", "--reference", path, "--images", tmp_path)
    refused(outcome, 2, f"{COUNT} of {COUNT} images of the goldens are missing, the first is 00.png")


def test_missing_mirror_is_not_tried_on_a_network_without_mirror(tiny_export, tiny_export_without_mirror):
    assert "missing-mirror" not in mistaken_networks(tiny_export_without_mirror / "rrid.onnx")
    assert "missing-mirror" in mistaken_networks(tiny_export / "rrid.onnx")
