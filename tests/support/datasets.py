"""Writes tiny datasets in the RRID layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from support.pictures import noise


def write_dataset(
    root: Path, *, train: int = 4, test: int = 3, cameras: int = 2, shots: int = 2, size: tuple[int, int] = (64, 24)
) -> Path:
    """Write ``train`` + ``test`` persons of noisy pictures. Only pictures of the same person are similar."""
    (root / "images").mkdir(parents=True)
    persons: list[list[list[str]]] = []
    for person in range(train + test):
        base = np.asarray(noise(500 + person, *size), dtype=np.int16)
        persons.append([])
        for camera in range(cameras):
            names = []
            for shot in range(shots):
                jitter = np.random.default_rng([person, camera, shot]).integers(-25, 26, base.shape, dtype=np.int16)
                name = f"{person:08d}_{camera:02d}_{shot:04d}.jpg"
                Image.fromarray(np.clip(base + jitter, 0, 255).astype(np.uint8)).save(root / "images" / name)
                names.append(name)
            persons[-1].append(names)
    held = range(train, train + test)
    rows: list[list[Any]] = [
        [name, person, camera] for person in held for camera, names in enumerate(persons[person]) for name in names
    ]
    query = [row for row in rows if row[0].endswith("_0000.jpg")]
    gallery = [row for row in rows if not row[0].endswith("_0000.jpg")]
    contents = {
        "meta.json": {"name": "tiny", "identities": persons},
        "splits.json": [{"trainval": list(range(train)), "query": list(held), "gallery": list(held)}],
        "test.json": [{"query": query, "gallery": gallery}],
    }
    for file, content in contents.items():
        (root / file).write_text(json.dumps(content))
    return root
