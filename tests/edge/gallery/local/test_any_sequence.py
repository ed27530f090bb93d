"""No sequence of calls, reopenings and kills leaves a gallery that answers wrong (property test).

A kill is a copy of the folder at one of the store's writes: exactly what is on the disk if the process dies there. The
copy is the folder from then on.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rrid_edge.engines.fake import fake_spec
from rrid_edge.gallery import GalleryRow, NewRow
from rrid_edge.gallery.local import database, mapped
from rrid_edge.gallery.local.store import LocalGallery
from support.columns import is_followed

SPEC = fake_spec(block_width=1)
PATHS = [f"{number}.jpg" for number in range(6)]
CONTENTS = 12


def vector(content: int) -> np.ndarray:
    values = np.random.default_rng(content).standard_normal(SPEC.dimension).astype(np.float32)
    return (values / np.linalg.norm(values)).astype(np.float16).astype(np.float32)


class KilledError(BaseException):
    """The process died here."""


class Killing:
    """Copies the folder before the n-th write of a call, and ends the call there."""

    def __init__(self, folder: Path, write: int) -> None:
        self._folder, self._left, self.copy = folder, write, folder.with_name(folder.name + "-killed")
        self._patched: list[tuple[object, str, object]] = []

    def _before(self, module: object, name: str) -> None:
        real = getattr(module, name)

        def replaced(*arguments: object, **names: object) -> object:
            self._count()
            return real(*arguments, **names)

        self._patched.append((module, name, real))
        setattr(module, name, replaced)

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            shutil.copytree(self._folder, self.copy)
            raise KilledError

    def __enter__(self) -> Killing:
        for module, name in (
            (os, "pwrite"), (os, "fdatasync"), (mapped, "_overwrite"), (Path, "unlink"),
            (database, "commit_now"),
        ):  # fmt: skip
            self._before(module, name)
        return self

    def __exit__(self, *_error: object) -> None:
        for module, name, real in self._patched:
            setattr(module, name, real)


class AnySequence(RuleBasedStateMachine):
    """Compares a gallery with a dictionary of what it must hold."""

    @initialize()
    def create(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="any-sequence-"))
        self.number = 0
        self.folder = self.root / "0"
        self.store = LocalGallery.create(self.folder, SPEC)
        self.live: dict[int, tuple[str | None, int, str | None]] = {}  # id: path, content, label
        self.forgotten: set[int] = set()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.root)

    def _call(self, action, after, kill: int) -> None:
        """Call ``action``, which brings the expected state to ``after``; if killed, one of both states is left."""
        with Killing(self.folder, kill) as killing:
            try:
                result = action()
            except KilledError:
                result = None
        if not killing.copy.exists():
            self.live, self.forgotten = after(result)
            return
        self.store.close()
        shutil.rmtree(self.folder)
        self.number += 1
        self.folder = self.root / str(self.number)
        killing.copy.rename(self.folder)
        with LocalGallery(self.folder) as reader:  # before anything is repaired
            assert reader.verify().sound
            assert is_followed(self.folder)
            before, kept = self._seen(reader), self._kept(reader)
        self.store = LocalGallery(self.folder, write=True)
        assert (self._seen(self.store), self._kept(self.store)) == (before, kept)
        if (before, kept) != (self.live, self.forgotten):
            assert (before, kept) == after(sorted(set(before) - set(self.live)))
            self.live, self.forgotten = before, kept

    def _seen(self, store) -> dict[int, tuple[str | None, int, str | None]]:
        return {row.id: (row.path, int(row.track), row.label) for row in store.rows()}

    def _kept(self, store) -> set[int]:
        digests = {f"{content + 1:064x}": content for content in range(CONTENTS)}
        return {digests[digest] for digest in store.kept_out(digests)}

    def _crops(self, contents: list[int], named: list[bool]) -> list[NewRow]:
        found, used = [], set()
        for content, has_path in zip(contents, named, strict=True):
            path = PATHS[content % len(PATHS)] if has_path else None
            if path in used:
                continue
            used.add(path)
            found.append(NewRow(path, f"{content + 1:064x}" if path else "", track=str(content)))
            used.discard(None)
        return found

    @rule(
        contents=st.lists(st.integers(0, CONTENTS - 1), min_size=1, max_size=4),
        named=st.lists(st.booleans(), min_size=4, max_size=4),
        kill=st.integers(0, 12),
    )
    def add(self, contents: list[int], named: list[bool], kill: int) -> None:
        crops = self._crops(contents, named[: len(contents)])
        descriptors = np.stack([vector(int(crop.track or 0)) for crop in crops])

        def after(ids):
            live = dict(self.live)
            of_path = {path: id_ for id_, (path, _, _) in live.items() if path is not None}
            new = iter(sorted(ids or []))
            for crop in crops:
                content = int(crop.track or 0)
                old = of_path.get(crop.path or "")
                label = None
                if old is not None:
                    _, old_content, old_label = live.pop(old)
                    if old_content == content:
                        live[old] = (crop.path, content, old_label)
                        continue
                live[next(new, -1)] = (crop.path, content, label)
            return live, self.forgotten

        def action():
            known = set(self.live)
            return [id_ for id_ in self.store.add(crops, descriptors) if id_ not in known]

        self._call(action, after, kill)

    def _chosen(self, picks: list[int]) -> list[int]:
        ids = sorted(self.live)
        return sorted({ids[pick % len(ids)] for pick in picks}) if ids else []

    @rule(
        picks=st.lists(st.integers(0, 20), max_size=3),
        label=st.sampled_from(["Ann", "Bo", None]),
        kill=st.integers(0, 8),
    )
    def label(self, picks: list[int], label: str | None, kill: int) -> None:
        ids = self._chosen(picks)
        rows: list[GalleryRow] = [replace(row, label=label) for row in self.store.rows_by_id(ids)]
        changed = {id_: (*self.live[id_][:2], label) for id_ in ids}
        self._call(lambda: self.store.update(rows), lambda _: (self.live | changed, self.forgotten), kill)

    @rule(picks=st.lists(st.integers(0, 20), max_size=3), kill=st.integers(0, 8))
    def remove(self, picks: list[int], kill: int) -> None:
        ids = self._chosen(picks)
        left = {id_: value for id_, value in self.live.items() if id_ not in ids}
        self._call(lambda: self.store.remove(ids), lambda _: (left, self.forgotten), kill)

    @rule(picks=st.lists(st.integers(0, 20), max_size=2), path=st.sampled_from([None, *PATHS]), kill=st.integers(0, 25))
    def forget(self, picks: list[int], path: str | None, kill: int) -> None:
        ids = self._chosen(picks)
        named: list[int | str] = [*ids, path] if path else [*ids]
        live = [id_ for id_, (own, _, _) in self.live.items() if id_ in ids or (path and own == path)]
        contents = {self.live[id_][1] for id_ in live if self.live[id_][0] is not None}
        if path and path not in {own for own, _, _ in self.live.values()}:
            last = [row for row in sorted(self.store.removed(), key=lambda row: row.slot) if row.path == path]
            contents |= {int(row.track or 0) for row in last[-1:]}

        def after(_):
            left = {
                id_: value
                for id_, value in self.live.items()
                if id_ not in live and (value[0] is None or value[1] not in contents)
            }
            return left, self.forgotten | contents

        self._call(lambda: self.store.forget(named), after, kill)
        self._check_forgotten(contents)

    def _check_forgotten(self, contents: set[int]) -> None:
        if contents <= self.forgotten:
            held = {content for _, content, _ in self.live.values()}
            data = b"".join(path.read_bytes() for path in self.folder.glob("vec.*"))
            memory = {int(row.track or 0) for row in self.store.removed()} | held
            for content in contents - memory:
                assert vector(content).astype("<f2").tobytes() not in data

    @rule(kill=st.integers(0, 25))
    def compact(self, kill: int) -> None:
        self._call(self.store.compact, lambda _: (self.live, self.forgotten), kill)
        assert len(list(self.folder.glob("vec.*"))) == 1

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = LocalGallery(self.folder, write=True)

    @invariant()
    def answers_what_it_holds(self) -> None:
        if not hasattr(self, "store"):
            return
        assert self._seen(self.store) == self.live
        assert self.store.verify().sound
        assert is_followed(self.folder)
        rows = self.store.rows()
        held = self.store.vectors(rows)
        for row, found in zip(rows, held, strict=True):
            np.testing.assert_array_equal(found, vector(int(row.track or 0)))
        hits = self.store.search(vector(0)[None], 100).hits[0]
        assert {hit.row.id for hit in hits} == set(self.live)
        for hit in hits:
            assert abs(hit.score - float(vector(int(hit.row.track or 0)) @ vector(0))) < 1e-5
        assert self._kept(self.store) == self.forgotten


AnySequence.TestCase.settings = settings(
    max_examples=25, database=None, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnySequence = AnySequence.TestCase
