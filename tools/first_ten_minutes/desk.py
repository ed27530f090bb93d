"""A folder with everything that the pages name: small, without PyTorch, and the same on every machine."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

_PEOPLE = 12
_ALONE = ("rrid.onnx", "rrid.goldens.npz")
_FOREIGN = ("osnet_x1_0.onnx", "osnet.onnx", "net.onnx")
_CHECKPOINTS = (
    "CHECKPOINT",
    "runs/best.safetensors",
    "runs/demo/best.safetensors",
    "runs/market/best.safetensors",
    "runs/market/last.safetensors",
    "runs/mine/last.safetensors",
)
_DATASETS = ("DATA", "DATASET", "path/to/market1501", "data/mine")
_CROPS = ("crops", "some/crops", "CROPS")
_RAW = "Market-1501-v15.09.15"


def furnish(desk: Path, recorded: Path, environment: Mapping[str, str]) -> None:
    """Fill an empty folder.

    Args:
        desk: to fill; it exists.
        recorded: folder with the tiny models that the repository keeps.
        environment: in which ``rrid-edge`` is found; it draws the people.
    """
    command = ["rrid-edge", "demo-data", "demo", "--people", str(_PEOPLE)]
    subprocess.run(command, cwd=desk, env=dict(environment), check=True, capture_output=True)
    shutil.copytree(recorded / "models", desk / "models")
    (desk / "demo" / "models").mkdir()
    for name in _ALONE:
        shutil.copy(recorded / "models" / name, desk / "demo" / "models" / name)
    _write_galleries(desk)
    for name in _FOREIGN:
        shutil.copy(recorded / "foreign.onnx", desk / name)
    for name in _CHECKPOINTS:
        _write_checkpoint(desk / name)
    for name in _DATASETS:
        shutil.copytree(desk / "demo", desk / name, ignore=shutil.ignore_patterns("models", "gallery"))
    _write_raw_dataset(desk)


def _write_galleries(desk: Path) -> None:
    crops = sorted((desk / "demo" / "gallery").glob("*.jpg"))
    for name in _CROPS:
        shutil.copytree(desk / "demo" / "gallery", desk / name)
    # The pages speak of person 0082, and of a camera in the lobby.
    (desk / "gallery").mkdir()
    for crop in crops:
        person, rest = crop.name.split("_", 1)
        shutil.copy(crop, desk / "gallery" / f"{'0082' if person == '0008' else person}_{rest}")
    for number, crop in enumerate(crops[-3:]):  # of long ago, whenever the walk runs
        folder = desk / "gallery" / ("0082" if number < 2 else "0083")
        folder.mkdir(exist_ok=True)
        (desk / "gallery" / crop.name).rename(folder / f"lobby_20240511T07300{number}Z.jpg")
    (desk / "queries").mkdir()
    for number, crop in enumerate(crops[::8]):
        shutil.copy(crop, desk / "queries" / f"person{number}.jpg")
    for name in ("front.jpg", "side.jpg", "query.jpg"):
        shutil.copy(_query(desk), desk / name)


def _query(desk: Path) -> Path:
    """The drawn query; later demo data may name it by its person."""
    return next(iter(sorted((desk / "demo").glob("query*.jpg")) + sorted((desk / "demo" / "query").glob("*.jpg"))))


def _write_checkpoint(path: Path) -> None:
    """Write a file of the form safetensors with one number: enough for commands that stop for want of PyTorch."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))


def _write_raw_dataset(desk: Path) -> None:
    """Write a folder as Market-1501 is unpacked: its folders, two cameras, a few people in each."""
    crops = sorted((desk / "demo" / "gallery").glob("*.jpg"))
    parts = {"bounding_box_train": (1, 4), "query": (5, 8), "bounding_box_test": (5, 8)}
    for part, (first, last) in parts.items():
        folder = desk / _RAW / part
        folder.mkdir(parents=True)
        for person in range(first, last + 1):
            for camera in (1,) if part == "query" else (1, 2):
                number = 100 * person + camera + (50 if part == "query" else 0)
                source = crops[(3 * person + camera) % len(crops)]
                shutil.copy(source, folder / f"{person:04d}_c{camera}s1_{number:06d}_00.jpg")
