"""CUHK03 (Li et al., CVPR 2014) from its original ``cuhk-03.mat``.

The file is HDF5 (MATLAB 7.3). ``labeled`` and ``detected`` are cells of five camera pairs; each pair is a cell of people x
10 images, the first five from the pair's first camera. ``testsets`` holds the 20 test sets of 100 people as (pair, person)
numbers from 1. The new protocol (767 training and 700 test people, Zhong et al., CVPR 2017) is a file of its own,
``cuhk03_new_protocol_config_labeled.mat`` or ``..._detected.mat``: its authors drew the people, so it cannot be derived.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import DatasetError, MissingDependencyError, printable

MAT_NAME = "cuhk-03.mat"
IMAGES_A_CAMERA = 5
KINDS = ("labeled", "detected")
Person = tuple[int, int]
"""Camera pair and person within it, both from 1, as the dataset counts."""


@dataclass(frozen=True)
class Picture:
    """One image of the dataset.

    Attributes:
        pair: camera pair, 1 to 5.
        person: number within the pair, from 1.
        camera: 1 or 2, the pair's first or second camera.
        number: 1 to 10, its place in the person's cell.
    """

    pair: int
    person: int
    camera: int
    number: int

    @property
    def name(self) -> str:
        """Its name in the lists of the new protocol: ``1_001_1_01.png``."""
        return f"{self.pair}_{self.person:03d}_{self.camera}_{self.number:02d}.png"


@dataclass(frozen=True)
class NewProtocol:
    """The lists of the 767/700 protocol, by names of pictures."""

    train: tuple[str, ...]
    query: tuple[str, ...]
    gallery: tuple[str, ...]


class Cuhk03:
    """An open ``cuhk-03.mat``; a context manager.

    Args:
        path: the file.
        kind: ``labeled`` (boxes by hand) or ``detected``.

    Raises:
        DatasetError: no such file, or not this dataset.
        MissingDependencyError: h5py is not installed.
    """

    def __init__(self, path: Path, kind: str) -> None:
        if not path.is_file():
            raise DatasetError(
                f"{printable(path)}: no such file; expected CUHK03's {MAT_NAME} or the folder that holds it"
            )
        self._path, self._kind = path, kind
        self._close = contextlib.ExitStack()
        try:
            self._file: Any = self._close.enter_context(_library("h5py").File(path, "r"))
        except OSError as error:
            raise self._wrong(f"it is not HDF5 ({error})") from error
        for name in (kind, "testsets"):
            if name not in self._file:
                raise self._wrong(f"it has no {name!r}")

    def __enter__(self) -> Cuhk03:
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    def pictures(self) -> list[Picture]:
        """All pictures in the order of pair, person and number; empty cells are none."""
        found = []
        with self._reading():
            for pair, people in enumerate(self._pairs(), start=1):
                for person in range(people.shape[1]):
                    for number in range(people.shape[0]):
                        if self._is_picture(self._file[people[number, person]]):
                            camera = 1 if number < IMAGES_A_CAMERA else 2
                            found.append(Picture(pair, person + 1, camera, number + 1))
        if not found:
            raise self._wrong(f"{self._kind!r} holds no image")
        return found

    def pixels(self, picture: Picture) -> NDArray[np.uint8]:
        """RGB of one picture: uint8 (height, width, 3)."""
        with self._reading():
            cell = self._pairs()[picture.pair - 1][picture.number - 1, picture.person - 1]
            stored = np.asarray(self._file[cell])
        # MATLAB writes column by column: (3, width, height) here.
        return np.ascontiguousarray(stored.transpose(2, 1, 0))

    def test_sets(self) -> list[list[Person]]:
        """The people of every test set of the old protocol."""
        sets = []
        with self._reading():
            for reference in np.asarray(self._file["testsets"]).ravel():
                rows = np.asarray(self._file[reference]).T
                sets.append([(int(pair), int(person)) for pair, person in rows])
        return sets

    def _pairs(self) -> list[NDArray[Any]]:
        """Of every camera pair the references to its images: (10, people)."""
        return [np.asarray(self._file[reference]) for reference in np.asarray(self._file[self._kind]).ravel()]

    def _is_picture(self, cell: Any) -> bool:  # noqa: ANN401 - h5py has no types
        return len(cell.shape) == 3 and cell.shape[0] == 3 and cell.dtype == np.uint8

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
            raise self._wrong(f"its {self._kind!r} cannot be read ({error})") from error

    def _wrong(self, what: str) -> DatasetError:
        return DatasetError(
            f"{printable(self._path)}: {what}; expected CUHK03's original {MAT_NAME}: copy or download it again"
        )


def config_name(kind: str) -> str:
    """File name of the new protocol's lists."""
    return f"cuhk03_new_protocol_config_{kind}.mat"


def read_new_protocol(path: Path) -> NewProtocol:
    """Read the lists of the 767/700 protocol, a MATLAB 5 file.

    Raises:
        DatasetError: no such file, or not these lists.
        MissingDependencyError: scipy is not installed.
    """
    if not path.is_file():
        raise DatasetError(
            f"{printable(path)}: no such file; the new protocol needs it beside {MAT_NAME} (its authors publish it with the "
            "re-ranking code): copy it there, or take the protocol old",
            parameter="protocol",
        )
    loader: Callable[..., Mapping[str, Any]] = _library("scipy.io").loadmat
    try:
        content = loader(path, squeeze_me=True)
        names = [str(name).rsplit("/", 1)[-1] for name in np.atleast_1d(content["filelist"])]
        lists = [
            # Numbers count from 1.
            tuple(names[int(number) - 1] for number in np.atleast_1d(content[key]))
            for key in ("train_idx", "query_idx", "gallery_idx")
        ]
    except Exception as error:  # scipy raises many kinds on files that are not what they seem
        raise DatasetError(
            f"{printable(path)}: cannot be read as lists of the new protocol ({type(error).__name__}: {error}); "
            "copy the file again"
        ) from error
    return NewProtocol(*lists)


def _library(name: str) -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingDependencyError.for_package(name.split(".")[0], "train", "reading CUHK03") from error
