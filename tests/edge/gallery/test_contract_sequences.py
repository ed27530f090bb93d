"""One contract, several stores: random sequences of writes, compared with a dictionary after every step."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from rrid_edge.gallery import GalleryStore, NewRow
from rrid_edge.gallery.opening import open_store
from support.galleries import SPEC, plain, vectors

SOURCES = ("local", "box")
STEPS = 30
CONTENTS = [f"{number:064x}" for number in range(12)]


class Model:
    """What a store must hold, changed together with it: rows and vectors by id, and forgotten contents."""

    def __init__(self, store: GalleryStore, generator: random.Random) -> None:
        self._store, self._generator = store, generator
        self._stored: dict[int, tuple[NewRow, np.ndarray]] = {}
        self._kept_out: set[str] = set()

    def step(self, number: int) -> None:
        actions = [self._add, self._add, self._add_memory, self._label, self._remove, self._forget, self._unforget]
        self._generator.choice(actions)(number)
        self.check(self._store)

    def _chosen(self) -> list[int]:
        return self._generator.sample(sorted(self._stored), min(2, len(self._stored)))

    def _add(self, step: int) -> None:
        files = self._generator.sample([(source, f"{number}.jpg") for source in SOURCES for number in range(5)], 3)
        given = [NewRow(path, self._generator.choice(CONTENTS), step, source=source) for source, path in files]
        values = vectors(3, seed=100 + step)
        ids_of_files = {(row.source, row.path): number for number, (row, _) in self._stored.items()}
        for row, vector, number in zip(given, values, self._store.add(given, values), strict=True):
            old, label = ids_of_files.get((row.source, row.path)), None
            if old is not None:
                before = self._stored.pop(old)[0]
                assert (old == number) == (before.sha256 == row.sha256)
                label = before.label if old == number else None
            self._stored[number] = (dataclasses.replace(row, label=label), _rounded(vector))

    def _add_memory(self, step: int) -> None:
        row, value = NewRow(None, camera="lobby", time=step), vectors(1, seed=100 + step)
        (number,) = self._store.add([row], value)
        self._stored[number] = (row, _rounded(value[0]))

    def _label(self, step: int) -> None:
        chosen, label = self._chosen(), f"person {step}"
        self._store.update([dataclasses.replace(row, label=label) for row in self._store.rows_by_id(chosen)])
        for number in chosen:
            row, vector = self._stored[number]
            self._stored[number] = (dataclasses.replace(row, label=label), vector)

    def _remove(self, _step: int) -> None:
        chosen = self._chosen()
        assert self._store.remove(chosen) == len(chosen)
        self._drop(chosen)

    def _forget(self, _step: int) -> None:
        chosen = self._chosen()
        assert self._store.forget(chosen).rows >= len(chosen)  # a folder also counts earlier rows of their files
        contents = {self._stored[number][0].sha256 for number in chosen} - {""}
        self._kept_out |= contents
        self._drop([*chosen, *(number for number, (row, _) in self._stored.items() if row.sha256 in contents)])

    def _unforget(self, _step: int) -> None:
        assert self._store.unforget() >= len(self._kept_out)
        self._kept_out = set()
        assert self._store.kept_out(CONTENTS) == set()

    def _drop(self, ids: list[int]) -> None:
        self._stored = {number: pair for number, pair in self._stored.items() if number not in ids}

    def check(self, store: GalleryStore) -> None:
        rows = store.rows()
        assert {row.id for row in rows} == set(self._stored)
        assert store.info().rows == len(self._stored)
        assert plain(rows) == [self._stored[row.id][0] for row in rows]
        expected = np.array([self._stored[row.id][1] for row in rows], np.float32).reshape(-1, SPEC.dimension)
        np.testing.assert_array_equal(store.vectors(rows), expected)
        query = vectors(1, seed=99)[0]
        products = [float(np.float32(vector.astype(np.float64) @ query)) for _, vector in self._stored.values()]
        assert [hit.score for hit in store.search(query[None], 5).hits[0]] == sorted(products)[::-1][:5]
        assert store.verify().sound
        assert store.kept_out(CONTENTS) >= self._kept_out


def _rounded(vector: np.ndarray) -> np.ndarray:
    return vector.astype(np.float16).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_random_sequences_equal_a_dictionary(location, store, seed):
    model = Model(store, random.Random(seed))
    for number in range(STEPS):
        model.step(number)
        if number % 10 == 9:
            store.finish()
            with open_store(location) as other:  # a reader beside the writer
                model.check(other)
