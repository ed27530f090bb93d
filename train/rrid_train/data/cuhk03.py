"""CUHK03 (Li et al., CVPR 2014) from its original ``cuhk-03.mat``.

The file is HDF5 (MATLAB 7.3). ``labeled`` and ``detected`` are cell arrays of five camera pairs. Each pair is a cell
array of people x 10 images; the first five are from the pair's first camera. ``testsets`` holds the 20 test sets of 100
people, as (pair, person) numbers from 1.

The new protocol has 767 training and 700 test people (Zhong et al., CVPR 2017). Its authors drew them at random, so
their lists are needed: ``cuhk03_new_protocol_config_labeled.mat`` or ``..._detected.mat``.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.images import MIN_SIDE_PX
from rrid_edge.errors import DatasetError, RridEdgeError, printable, unforeseen
from rrid_edge.machine.advice import missing_package

MAT_NAME = "cuhk-03.mat"
IMAGES_A_CAMERA = 5
KINDS = ("labeled", "detected")
_MOST_PAIRS, _MOST_TEST_SETS, _MOST_CELLS = 20, 1_000, 20_000
"""Camera pairs, test sets and cells of one pair at most. The dataset has 5, 20 and 8,430."""
_MOST_PIXELS = 4_000_000
"""Width x height of a picture at most. Those of the dataset are about 60 x 160."""
_MOST_BYTES_OF_LISTS = 8 << 20
Person = tuple[int, int]
"""Camera pair and person in this pair, both numbered from 1 as in the dataset."""


@dataclass(frozen=True)
class Picture:
    """One image of the dataset.

    Attributes:
        pair: camera pair, 1 to 5.
        person: number within the pair, from 1.
        camera: 1 or 2, the pair's first or second camera.
        number: 1 to 10, position in the person's cell array.
    """

    pair: int
    person: int
    camera: int
    number: int

    @property
    def name(self) -> str:
        """File name in the lists of the new protocol, for example ``1_001_1_01.png``."""
        return f"{self.pair}_{self.person:03d}_{self.camera}_{self.number:02d}.png"


@dataclass(frozen=True)
class NewProtocol:
    """The lists of the 767/700 protocol: names of pictures."""

    train: tuple[str, ...]
    query: tuple[str, ...]
    gallery: tuple[str, ...]


class Cuhk03:
    """An open ``cuhk-03.mat``; a context manager.

    Args:
        path: the file.
        kind: ``labeled`` (boxes drawn by hand) or ``detected`` (boxes of a detector).

    Raises:
        DatasetError: there is no such file, or it is not CUHK03.
        MissingDependencyError: h5py is not installed.
    """

    def __init__(self, path: Path, kind: str) -> None:
        if not path.is_file():
            raise DatasetError(f"{printable(path)}: no such file; give CUHK03's {MAT_NAME} or the folder that holds it")
        self._path, self._kind = path, kind
        self._close = contextlib.ExitStack()
        self._h5py = _library("h5py")
        self._known_pairs: list[NDArray[Any]] | None = None
        try:
            self._file: Any = self._close.enter_context(self._h5py.File(path, "r"))
        except Exception as error:  # h5py raises many types of errors on damaged files
            raise self._wrong(f"it is not HDF5 ({unforeseen(error)})") from error
        with self._reading():
            for name in (kind, "testsets"):
                link = self._file.get(name, getlink=True)
                if link is None:
                    raise self._wrong(f"it has no {name!r}")
                if not isinstance(link, self._h5py.HardLink):
                    raise self._wrong(f"its {name!r} is a link; the data must be in this file")

    def __enter__(self) -> Cuhk03:
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    def pictures(self) -> list[Picture]:
        """All pictures, ordered by pair, person and number. Empty cells are skipped.

        Raises:
            DatasetError: the file is damaged, or holds no picture of this kind.
        """
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
        """Pixels of one picture: RGB, uint8 (height, width, 3).

        Raises:
            DatasetError: the file is damaged.
        """
        with self._reading():
            cell = self._pairs()[picture.pair - 1][picture.number - 1, picture.person - 1]
            stored = self._array(cell, 3 * _MOST_PIXELS)
        # MATLAB stores arrays column by column, so h5py reads (3, width, height).
        return np.ascontiguousarray(stored.transpose(2, 1, 0))

    def test_sets(self) -> list[list[Person]]:
        """The people of each test set of the old protocol.

        Raises:
            DatasetError: the file is damaged.
        """
        sets = []
        with self._reading():
            for reference in self._array("testsets", _MOST_TEST_SETS).ravel():
                rows = self._array(reference, _MOST_CELLS).T
                sets.append([(int(pair), int(person)) for pair, person in rows])
        return sets

    def _pairs(self) -> list[NDArray[Any]]:
        """HDF5 references to the images of each camera pair: one array (10, people) per pair."""
        if self._known_pairs is None:
            references = self._array(self._kind, _MOST_PAIRS).ravel()
            self._known_pairs = [self._array(reference, _MOST_CELLS) for reference in references]
        return self._known_pairs

    def _array(self, place: Any, most: int) -> NDArray[Any]:  # noqa: ANN401 - h5py has no types
        """An array of the file, with ``most`` values at most.

        Raises:
            DatasetError: it is larger, or its values are in another file.
        """
        stored = self._file[place]
        if stored.size > most:
            raise self._wrong(f"an array of {stored.size:,} values is in it, at most {most:,} are read")
        if stored.external or stored.is_virtual:
            raise self._wrong("values are in another file")
        return np.asarray(stored)

    def _is_picture(self, cell: Any) -> bool:  # noqa: ANN401 - h5py has no types
        """Whether a cell is a picture; other cells are empty.

        Raises:
            DatasetError: it is too small to show a person, or too large.
        """
        if len(cell.shape) != 3 or cell.shape[0] != 3 or cell.dtype != np.uint8:
            return False
        width, height = cell.shape[1:]
        if min(width, height) < MIN_SIDE_PX or width * height > _MOST_PIXELS:
            raise self._wrong(f"a picture of {width} x {height} pixels is in it")
        return True

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except RridEdgeError:
            raise
        except Exception as error:  # h5py raises many types of errors on damaged files
            raise self._wrong(f"its {self._kind!r} cannot be read ({unforeseen(error)})") from error

    def _wrong(self, what: str) -> DatasetError:
        return DatasetError(
            f"{printable(self._path)}: {what}; expected CUHK03's original {MAT_NAME}: copy or download it again"
        )


def config_name(kind: str) -> str:
    """File name of the new protocol's lists for ``labeled`` or ``detected``."""
    return f"cuhk03_new_protocol_config_{kind}.mat"


def read_new_protocol(path: Path) -> NewProtocol:
    """Read the lists of the 767/700 protocol from a MATLAB 5 file.

    Raises:
        DatasetError: there is no such file, or it holds other content.
        MissingDependencyError: scipy is not installed.
    """
    if not path.is_file():
        raise DatasetError(
            f"{printable(path)}: no such file; the new protocol needs it beside {MAT_NAME}: copy it there (its authors "
            "publish it with the re-ranking code), or use the old protocol",
            parameter="protocol",
        )
    if path.stat().st_size > _MOST_BYTES_OF_LISTS:
        raise DatasetError(
            f"{printable(path)}: larger than {_MOST_BYTES_OF_LISTS:,} bytes; expected lists of the new protocol: copy "
            "the file again"
        )
    keys = ("train_idx", "query_idx", "gallery_idx")
    loader: Callable[..., Mapping[str, Any]] = _library("scipy.io").loadmat
    try:
        content = loader(path, squeeze_me=True, variable_names=("filelist", *keys))
        names = [str(name).rsplit("/", 1)[-1] for name in np.atleast_1d(content["filelist"])]
        lists = [tuple(_numbered(names, number) for number in np.atleast_1d(content[key])) for key in keys]
    except Exception as error:  # scipy raises many types of errors on damaged files
        raise DatasetError(
            f"{printable(path)}: cannot be read as lists of the new protocol ({unforeseen(error)}); copy the file again"
        ) from error
    return NewProtocol(*lists)


def _numbered(names: Sequence[str], number: Any) -> str:  # noqa: ANN401 - any MATLAB value
    """A name by its number from 1.

    Raises:
        IndexError: there is no such name.
    """
    if not 1 <= number <= len(names) or int(number) != number:
        raise IndexError(f"{number} is no number of a name, expected 1 to {len(names)}")
    return names[int(number) - 1]


def _library(name: str) -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise missing_package(name.split(".")[0], "train", "reading CUHK03") from error
