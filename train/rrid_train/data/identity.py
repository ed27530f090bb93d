"""What tells a dataset from another one, wherever its folder lies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import CheckpointError, UsageError, printable
from rrid_edge.json_text import json_text
from rrid_train.data.layout import Dataset
from rrid_train.data.samples import Sample

_READ: Final = 32
"""Training images whose bytes are compared, evenly over all."""


@dataclass(frozen=True)
class Identity:
    """What a run remembers of its dataset.

    Attributes:
        name: the dataset's name.
        persons: number of people to train on.
        images: number of training images.
        files: SHA-256 of all subsets in their order: paths below the dataset's folder, persons and cameras.
        contents: SHA-256 of the bytes of some training images; empty for one that cannot be read.
    """

    name: str
    persons: Annotated[int, Meta(ge=0)]
    images: Annotated[int, Meta(ge=0)]
    files: str
    contents: Annotated[tuple[str, ...], Meta(max_length=_READ)]

    def text(self) -> str:
        """JSON, as :func:`read_identity` reads it."""
        return json_text(asdict(self))

    def difference(self, found: Identity) -> str:
        """Why ``found`` is another dataset, in a few words; empty if it is the same.

        A dataset may have another name, because some take the name of their folder. Up to half of the images that are
        compared may have other bytes: a damaged image is replaced before a run goes on.
        """
        if (self.persons, self.images) != (found.persons, found.images):
            return "other numbers of people or images"
        if self.files != found.files:
            return "other file names, people or cameras"
        same = sum(one == other for one, other in zip(self.contents, found.contents, strict=False))
        return "" if 2 * same >= len(self.contents) else "other images under the same names"


_IDENTITY: Final = Artefact("identity of the dataset", Identity, "start a new run", CheckpointError)


def read_identity(text: str, *, where: str) -> Identity:
    """Read the text of :meth:`Identity.text`.

    Raises:
        CheckpointError: it is damaged; the message names ``where``.
    """
    return _IDENTITY.parse(text, where=where)


def identity_of(dataset: Dataset) -> Identity:
    """The identity of a dataset. Reads some of its training images."""
    digest, root = hashlib.sha256(), str(dataset.root)  # all readers make paths from the root and a name
    subsets = (dataset.train, dataset.val_query, dataset.val_gallery, dataset.query, dataset.gallery)
    for samples in subsets:
        digest.update(b"%d\n" % len(samples))
        for sample in samples:
            facts = b"%d %d\n" % (sample.person, sample.camera)
            digest.update(os.fsencode(str(sample.path).removeprefix(root)) + b"\0" + facts)
    return Identity(
        dataset.name,
        dataset.num_train_persons,
        len(dataset.train),
        digest.hexdigest(),
        tuple(_content(sample.path) for sample in _evenly(dataset.train)),
    )


def refuse_another(stored: Identity, found: Identity, *, root: Path, run: Path) -> None:
    """Refuse a dataset that is not the one a run began with.

    Args:
        stored: what the run remembers.
        found: of the dataset in ``root``.
        root: folder of the dataset.
        run: folder of the run.

    Raises:
        UsageError: it is another one; the message names both.
    """
    if difference := stored.difference(found):
        raise UsageError(
            f"{printable(root)}: not the dataset that the run in {printable(run)} began with ({difference}): expected "
            f"{printable(stored.name)} with {stored.persons:,} training people and {stored.images:,} images, found "
            f"{printable(found.name)} with {found.persons:,} and {found.images:,}; give the same dataset, or start a "
            "new run",
            parameter="dataset_path",
        )


def _evenly(samples: Sequence[Sample]) -> list[Sample]:
    count = min(_READ, len(samples))
    return [samples[index * len(samples) // count] for index in range(count)]


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
