"""Sound artefacts of all kinds, made once; the fuzzer copies and damages them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from fuzzing.foreign_files import write_foreign_files
from rrid_edge.engines.fake import fake_spec
from support.commands import rrid_edge
from support.datasets import write_dataset
from support.onnx_models import save_tiny_model
from support.originals import MARKET, write_cuhk03, write_folders, write_market
from support.pictures import save_crops

MODEL_SPEC: Final = fake_spec(block_width=4)
PLAN: Final = b"no plan that TensorRT would read"
RUN: Final[dict[str, Any]] = {
    "preset": "demo",
    "dataset_path": "data",
    "exp_dir": "run",
    "backbone": "resnet18",
    "height": 32,
    "width": 32,
    "stripes": [2],
    "block_width": 8,
    "backbone_weights": "none",
    "num_val": 1,
    "epochs": 1,
    "batch_size": 8,
    "num_workers": 0,
    "threads": 1,
}
"""Settings of a training that is over before a test notices it."""


def make_world(folder: Path, *, whole: bool) -> None:
    """Write sound artefacts into an empty folder.

    Args:
        folder: the folder.
        whole: also write a whole network and a finished training, which take 300 MB.
    """
    with _working_in(folder):
        save_tiny_model(Path("rrid.onnx"), MODEL_SPEC)
        save_crops(Path("crops"), 6)
        write_dataset(Path("data"))
        write_market(Path("market"), MARKET)
        write_folders(Path("people"), people=4)
        write_cuhk03(Path("cuhk-03.mat"), people=(3, 2), splits=2)
        shutil.copy("crops/0001_c1s1_000000_00.jpg", "query.jpg")
        _expect_success("index", "crops", "--model", "rrid.onnx", "--runtime", "onnxruntime")
        _expect_success("evaluate", "rrid.onnx", "--dataset", "data", "--fpr", "0.2", "--runtime", "onnxruntime")
        _write_goldens()
        _write_engine()
        _write_settings()
        Path("kept").mkdir()
        facts = {"pattern": "auto", "time_from": "name", "retention_s": "", "model": "rrid.onnx"}
        Path("kept/kept.json").write_text(json.dumps({"facts": facts, "forgotten": ""}))
        _write_few_weights()
        write_foreign_files()
        if whole:
            _write_networks()


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _expect_success(*arguments: str) -> None:
    outcome = rrid_edge(*arguments)
    if outcome.code:
        raise RuntimeError(f"{arguments}: {outcome.err}")


def _write_goldens() -> None:
    from rrid_edge.crops.images import read_image
    from rrid_edge.engines import open_engine
    from rrid_edge.parity.goldens import Goldens, save_goldens
    from rrid_edge.ranking.labels import Labels

    paths = sorted(Path("crops").glob("*.jpg"))
    images = np.stack([read_image(path, MODEL_SPEC.height_px, MODEL_SPEC.width_px) for path in paths])
    with open_engine(Path("rrid.onnx"), "onnxruntime") as engine:
        descriptors = engine.run(images)
    labels = Labels(np.arange(len(paths)) % 4, np.arange(len(paths)) % 3)
    names = tuple(path.name for path in paths)
    save_goldens(Path("rrid.goldens.npz"), Goldens(images, descriptors, names, MODEL_SPEC.fingerprint, labels))


def _write_engine() -> None:
    from rrid_edge.model import engine_sidecar

    flags = engine_sidecar.BuildFlags(True, False, False, False, False, 512, None)
    sidecar = engine_sidecar.EngineSidecar(
        spec=MODEL_SPEC.with_precision("fp16"),
        machine=engine_sidecar.Machine("10.3.0", "Orin", "8.7"),
        profile=engine_sidecar.Profile(1, 8, 32),
        onnx_name="rrid.fp16.onnx",
        onnx_sha256="a" * 64,
        plan_sha256=hashlib.sha256(PLAN).hexdigest(),
        plan_bytes=len(PLAN),
        build_s=12.5,
        flags=flags,
        proof=engine_sidecar.PrecisionProof(50, 0, 6, 2),
    )
    Path("rrid.fp16.engine").write_bytes(PLAN)
    sidecar.write(Path("rrid.fp16.engine"))


def _write_settings() -> None:
    """A TOML file of all settings whose dataset is missing, so that a training ends before it begins."""
    values = {name: value for name, value in RUN.items() if name != "preset"} | {"dataset_path": "nowhere", "lr": 0.01}
    Path("settings.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))


def _write_few_weights() -> None:
    """Weight files of the smallest tensors of a network: in every container, and quick to read."""
    import torch

    tensors = {f"stripe.{index}.weight": torch.full((4, index + 1), 0.5) for index in range(6)}
    torch.save(tensors, "few.pth")
    torch.save({"state_dict": tensors, "epoch": 3}, "few-old.pth", _use_new_zipfile_serialization=False)
    header: dict[str, object] = {}
    body = b""
    for name, tensor in tensors.items():
        data = tensor.numpy().tobytes()
        places = [len(body), len(body) + len(data)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": places}
        body += data
    text = json.dumps(header).encode()
    Path("few.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)


def _write_networks() -> None:
    """A whole network in two containers, and a finished training."""
    import torch

    from rrid_train.checkpoint import Checkpoint, save_checkpoint
    from support.networks import TINY, tiny_network

    network = tiny_network()
    save_checkpoint(Path("tiny.safetensors"), network, Checkpoint(TINY, 5, "demo", 1, {}))
    torch.save(network.state_dict(), "tiny.pth")
    options = [(f"--{name.replace('_', '-')}", str(value).strip("[]")) for name, value in RUN.items()]
    _expect_success("train", *[text for option in options for text in option])
