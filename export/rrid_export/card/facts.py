"""What a model card tells, read from the model and the files beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta

from rrid_edge.artefacts import LARGE_BYTES, Artefact
from rrid_edge.errors import ArtefactError, ModelFileError, UsageError
from rrid_edge.model.names import Kind, kind_of, parity_report_path, stem_of, thresholds_candidates
from rrid_edge.model.reading import read_any_spec
from rrid_edge.model.spec import ModelSpec
from rrid_edge.ranking.threshold_file import ModelThresholds, thresholds_at

_PUBLISHED: Final = (Kind.ONNX, Kind.IR)
"""Engines are not in a card: they run on one kind of machine."""


@dataclass(frozen=True)
class Agreement:
    """Part of a parity report: how near descriptors come to the reference."""

    images: Annotated[int, Meta(ge=1)]
    min_cosine: float
    mean_cosine: float


@dataclass(frozen=True)
class Sample:
    """Part of a parity report: the images."""

    description: str
    queries: Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class Parity:
    """What a card takes from a parity report, see :class:`rrid_edge.parity.check.ParityReport`."""

    verdict: str
    reference: str
    engine: str
    fingerprint: str
    agreement: Agreement
    map_reference: float | None = None
    map_engine: float | None = None
    rank1_reference: float | None = None
    rank1_engine: float | None = None
    sample: Sample | None = None


_PARITY: Final = Artefact(
    "parity report", Parity, "measure it again with: rrid-edge parity MODEL", ModelFileError, most_bytes=LARGE_BYTES
)


@dataclass(frozen=True)
class CardFile:
    """One model file of a card.

    Attributes:
        name: its name.
        spec: its spec.
        parity: figures of its parity report; None if there is none.
    """

    name: str
    spec: ModelSpec
    parity: Parity | None


@dataclass(frozen=True)
class Card:
    """All that a card tells.

    Attributes:
        file: the model that the card is about.
        others: files of other precisions and forms of the same network.
        thresholds: thresholds of the network, or None.
        licence: licence of the weights as their owner states it; None if nobody said.
        drawn: whether ``file`` was proved on drawn patterns, not on crops.
    """

    file: CardFile
    others: tuple[CardFile, ...]
    thresholds: ModelThresholds | None
    licence: str | None
    drawn: bool


def read_card(model: Path, *, licence: str | None, drawn: bool) -> Card:
    """Collect the facts of a card.

    Args:
        model: the model file.
        licence: licence of the weights; None if nobody said.
        drawn: whether it was proved on drawn patterns.

    Raises:
        ModelFileError: the model, its parity report or its thresholds are damaged.
    """
    spec = read_any_spec(model)
    others = [path for path in sorted(model.parent.iterdir()) if path != model and stem_of(path) == stem_of(model)]
    files = [file for path in others if kind_of(path) in _PUBLISHED and (file := _read_other(path, spec)) is not None]
    found = (thresholds_at(path, spec.fingerprint) for path in thresholds_candidates(model))
    thresholds = next((stored for stored in found if stored is not None), None)
    return Card(_read_file(model, spec), tuple(files), thresholds, licence, drawn)


def _read_file(path: Path, spec: ModelSpec) -> CardFile:
    try:
        parity = _PARITY.read(parity_report_path(path))
    except FileNotFoundError:
        return CardFile(path.name, spec, None)
    return CardFile(path.name, spec, parity if parity.fingerprint == spec.fingerprint else None)


def _read_other(path: Path, spec: ModelSpec) -> CardFile | None:
    """A file beside the model; None if it is of another network or cannot be used."""
    try:
        found = read_any_spec(path)
    except (ArtefactError, UsageError):
        return None
    return _read_file(path, found) if found.fingerprint == spec.fingerprint else None
