"""Writes small datasets in the exact original layouts of public datasets."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import scipy.io
from PIL import Image

MARKET = {
    "bounding_box_train": [
        "0002_c1s1_000451_03.jpg",
        "0002_c1s1_000551_01.jpg",
        "0002_c2s1_000301_01.jpg",
        "0007_c3s3_077419_03.jpg",
        "0007_c6s2_000001_01.jpg",
        "0010_c6s4_002427_01.jpg",
        "0010_c1s4_002427_01.jpg",
    ],
    "query": ["0001_c1s1_001051_00.jpg", "0001_c2s1_000301_00.jpg", "0003_c1s6_015971_00.jpg"],
    "bounding_box_test": [
        "-1_c1s1_000401_03.jpg",
        "-1_c3s2_000701_02.jpg",
        "0000_c1s1_000151_01.jpg",
        "0000_c4s6_000151_01.jpg",
        "0001_c1s1_001051_03.jpg",
        "0001_c2s1_000301_03.jpg",
        "0001_c3s1_000551_02.jpg",
        "0003_c1s6_015996_02.jpg",
        "0003_c4s6_015641_05.jpg",
    ],
}
DUKE = {
    "bounding_box_train": [
        "0001_c2_f0046182.jpg",
        "0001_c5_f0051341.jpg",
        "0009_c1_f0079000.jpg",
        "0009_c2_f0079118.jpg",
    ],
    "query": ["0005_c2_f0046985.jpg"],
    "bounding_box_test": ["0002_c1_f0044158.jpg", "0005_c1_f0051293.jpg", "0005_c5_f0052293.jpg"],
}


def crop(seed: int, height: int = 48, width: int = 20) -> np.ndarray:
    """Return an image uint8 (height, width, 3) whose colours depend on ``seed``."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 3, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height)))


def write_market(root: Path, folders: dict[str, list[str]]) -> Path:
    """Write folders of JPEGs, with the Windows thumbnail file that the real dataset holds."""
    for folder, names in folders.items():
        (root / folder).mkdir(parents=True)
        for number, name in enumerate(names):
            person = int(name.split("_")[0])
            Image.fromarray(crop(1000 * (person + 2) + number)).save(root / folder / name, quality=90)
    (root / "bounding_box_test" / "Thumbs.db").write_bytes(b"no image")
    return root


def write_cuhk03(path: Path, *, people: tuple[int, ...] = (4, 3), splits: int = 3) -> Path:
    """Write ``cuhk-03.mat`` like MATLAB 7.3: cells are references, arrays are in column-major order.

    The second person of the first pair has no detected image. Images 5 and 10 of every person are empty cells.
    """
    with h5py.File(path, "w") as file:
        empty = file.create_dataset("#refs#/empty", data=np.zeros(2, np.uint64))
        empty.attrs["MATLAB_empty"] = np.uint8(1)
        for kind_number, kind in enumerate(("labeled", "detected")):
            pairs = []
            for pair, count in enumerate(people, start=1):
                cells = np.empty((10, count), dtype=h5py.ref_dtype)
                for person in range(count):
                    for number in range(10):
                        gone = number in (4, 9) or (kind == "detected" and pair == 1 and person == 1)
                        if gone:
                            cells[number, person] = empty.ref
                            continue
                        picture = cuhk03_pixels(pair, person + 1, number + 1, kind_number)
                        name = f"#refs#/{kind}_{pair}_{person}_{number}"
                        cells[number, person] = file.create_dataset(name, data=picture.transpose(2, 1, 0)).ref
                pairs.append(file.create_dataset(f"#refs#/{kind}_{pair}", data=cells, dtype=h5py.ref_dtype).ref)
            file.create_dataset(kind, data=np.array([pairs], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
        tests = []
        for split in range(splits):
            rows = np.array([[1, split % people[0] + 1], [1, (split + 1) % people[0] + 1]], np.float64)
            tests.append(file.create_dataset(f"#refs#/test_{split}", data=rows.T).ref)
        file.create_dataset("testsets", data=np.array([tests], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
    return path


def cuhk03_pixels(pair: int, person: int, number: int, kind: int = 0) -> np.ndarray:
    """Return the pixels of one image in the file."""
    return crop(10_000 * pair + 100 * person + number + 50_000 * kind, 40 + number, 18)


def write_new_protocol(path: Path, train: list[str], query: list[str], gallery: list[str]) -> Path:
    """Write the lists of the 767/700 protocol as a MATLAB 5 file."""
    names = sorted({*train, *query, *gallery})
    filelist = np.empty((len(names), 1), dtype=object)
    filelist[:, 0] = names
    scipy.io.savemat(
        path,
        {
            "filelist": filelist,
            **{
                key: np.array([[names.index(name) + 1] for name in chosen])
                for key, chosen in (("train_idx", train), ("query_idx", query), ("gallery_idx", gallery))
            },
            "labels": np.array([[int(name.split("_")[1])] for name in names]),
            "camId": np.array([[int(name.split("_")[2])] for name in names]),
        },
    )
    return path


def write_folders(root: Path, *, people: int = 6, cameras: int = 2, shots: int = 2) -> Path:
    """Write one folder per person. File names hold the camera."""
    for person in range(people):
        folder = root / f"person {chr(97 + person)}"
        folder.mkdir(parents=True)
        for camera in range(1, cameras + 1):
            for shot in range(shots):
                seed = 100 * person + 10 * camera + shot
                Image.fromarray(crop(seed)).save(folder / f"cam{camera}_{shot:03d}.jpg")
    return root
