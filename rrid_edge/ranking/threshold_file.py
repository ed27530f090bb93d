"""The file of thresholds beside a model: one record per dataset, and which of them is in use.

The file has the fingerprint of its network; :mod:`rrid_edge.model.names` makes its name. Measuring on another dataset
adds a record and does not change which one is in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import ModelFileError, UsageError, printable
from rrid_edge.files import write_json
from rrid_edge.ranking.search_thresholds import OpenSet, SearchThreshold
from rrid_edge.ranking.thresholds import PairThresholds

FORMAT: Final = 2
_REMEDY: Final = "measure them again with: rrid-edge evaluate"


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of one network on one dataset.

    Attributes:
        dataset: name of the dataset.
        people: people among the queries.
        same_camera: whether pairs and right answers of one camera count.
        pairs: thresholds per pair.
        searches: thresholds per search.
    """

    dataset: str
    people: Annotated[int, Meta(ge=0)]
    same_camera: bool
    pairs: PairThresholds
    searches: OpenSet

    def describe(self) -> str:
        """Whose thresholds these are, for messages."""
        people = f"{self.people:,} {'person' if self.people == 1 else 'people'}"
        return f"thresholds of {printable(self.dataset)}, {people}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable content."""
        return asdict(self)


@dataclass(frozen=True)
class ModelThresholds:
    """The content of a file.

    Attributes:
        fingerprint: fingerprint of the network.
        in_use: name of the dataset whose thresholds are used unless another is named.
        datasets: one record per dataset.
    """

    fingerprint: str
    in_use: str
    datasets: tuple[Thresholds, ...]

    def __post_init__(self) -> None:
        names = self.names
        if len(names) != len(set(names)):
            raise ValueError("two records of one dataset")
        if self.in_use not in names:
            raise ValueError("no record of the dataset in use")

    @property
    def names(self) -> list[str]:
        """Names of the datasets."""
        return [record.dataset for record in self.datasets]

    def of(self, dataset: str | None) -> Thresholds | None:
        """The record of a dataset, or that in use; None if there is none."""
        wanted = self.in_use if dataset is None else dataset
        return next((record for record in self.datasets if record.dataset == wanted), None)

    def with_record(self, record: Thresholds, *, use: bool = False) -> ModelThresholds:
        """These and another record, which replaces one of the same dataset."""
        kept = tuple(other for other in self.datasets if other.dataset != record.dataset)
        return replace(self, datasets=(*kept, record), in_use=record.dataset if use else self.in_use)


@dataclass(frozen=True)
class _Stored(ModelThresholds):
    format: Annotated[int, Meta(ge=FORMAT)]


@dataclass(frozen=True)
class _AnyFormat:
    format: Annotated[int, Meta(ge=1)]


_ANY = Artefact("thresholds", _AnyFormat, _REMEDY, ModelFileError, newest_format=FORMAT)
_NEWER = Artefact("thresholds", _AnyFormat, _REMEDY, ModelFileError)
_STORED = Artefact("thresholds", _Stored, _REMEDY, ModelFileError, newest_format=FORMAT)


def read_thresholds(path: Path) -> ModelThresholds:
    """Read a file of thresholds.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: the file is damaged or has another format.
    """
    found = _ANY.read(path).format
    if found < FORMAT:
        raise ModelFileError(f"{printable(path)}: thresholds of format {found}, expected {FORMAT}; {_REMEDY}")
    stored = _STORED.read(path)
    return ModelThresholds(stored.fingerprint, stored.in_use, stored.datasets)


def save_thresholds(path: Path, thresholds: ModelThresholds) -> None:
    """Write ``thresholds`` as JSON, atomically.

    Args:
        path: :func:`rrid_edge.model.names.thresholds_path` of the model.
        thresholds: the measured thresholds.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_json(path, {"format": FORMAT, **asdict(thresholds)})


def thresholds_at(path: Path, fingerprint: str) -> ModelThresholds | None:
    """What a file holds of a network; None if there is no file, or one of another network.

    Raises:
        ModelFileError: the file is damaged or has another format.
    """
    try:
        stored = read_thresholds(path)
    except FileNotFoundError:
        return None
    return stored if stored.fingerprint == fingerprint else None


def merged(
    stored: ModelThresholds | None, fingerprint: str, records: Sequence[Thresholds], *, use: bool = False
) -> ModelThresholds:
    """Stored thresholds and some more records; each replaces one of the same dataset.

    Args:
        stored: what the file holds, or None.
        fingerprint: fingerprint of the network.
        records: at least one.
        use: use the first of them from now on. Without stored thresholds it is used anyway.
    """
    found = stored or ModelThresholds(fingerprint, records[0].dataset, (records[0],))
    for record in records:
        found = found.with_record(record, use=use and record is records[0])
    return found


def replaceable_at(path: Path, fingerprint: str) -> tuple[ModelThresholds | None, str]:
    """What a file holds before new thresholds are written into it; damaged content may be replaced.

    Returns:
        As :func:`thresholds_at`, and why the content cannot be read, or an empty text.

    Raises:
        ModelFileError: a newer version wrote the file.
    """
    try:
        return thresholds_at(path, fingerprint), ""
    except ModelFileError as error:
        try:
            is_newer = _NEWER.read(path).format > FORMAT
        except (ModelFileError, FileNotFoundError):
            is_newer = False
        if is_newer:
            raise
        return None, error.message


def carry_thresholds(candidates: Iterable[Path], fingerprint: str, path: Path) -> None:
    """Copy the thresholds of a network into another file. Records of the same datasets there stay.

    Args:
        candidates: files that may have them; the first that does is copied. Nothing is written if none does.
        fingerprint: fingerprint of the network.
        path: the file to write.

    Raises:
        ModelFileError: a file is damaged or has another format.
        OutputError: the folder cannot be written.
    """
    found = next((stored for file in candidates if (stored := thresholds_at(file, fingerprint)) is not None), None)
    if found is None:
        return
    there, _ = replaceable_at(path, fingerprint)
    if there is None:
        save_thresholds(path, found)
        return
    added = [record for record in found.datasets if record.dataset not in there.names]
    if added:
        save_thresholds(path, merged(there, fingerprint, added))


@dataclass(frozen=True)
class FoundThresholds:
    """Thresholds of a network, and the file that they are in.

    Attributes:
        path: the file.
        record: the thresholds.
    """

    path: Path
    record: Thresholds

    def pair_score(self, fpr: float) -> float:
        """The lowest cosine of a match at a false-positive rate per pair.

        Raises:
            UsageError: the rate was not measured; the message names file and dataset.
        """
        try:
            return self.record.pairs.score(fpr)
        except UsageError as error:
            raise self._named(error) from None

    def search_threshold(self, fpir: float) -> SearchThreshold:
        """The threshold at a false-positive rate per search.

        Raises:
            UsageError: the rate was not measured; the message names file and dataset.
        """
        try:
            return SearchThreshold(self.record.searches, fpir)
        except UsageError as error:
            raise self._named(error) from None

    @property
    def _where(self) -> str:
        return f"{printable(self.path)} ({printable(self.record.dataset)})"

    def _named(self, error: UsageError) -> UsageError:
        return UsageError(f"{self._where}: {error.message}", parameter=error.parameters)


def find_thresholds(candidates: Iterable[Path], fingerprint: str, dataset: str | None = None) -> FoundThresholds | None:
    """Thresholds of a network in the first file that has them; None if none has.

    Args:
        candidates: ``rrid_edge.model.names.thresholds_candidates`` of the model; missing files are skipped.
        fingerprint: fingerprint of the network.
        dataset: name of the dataset they were measured on; None takes those in use.

    Raises:
        ModelFileError: a file is damaged or has another format.
    """
    for path in candidates:
        stored = thresholds_at(path, fingerprint)
        record = None if stored is None else stored.of(dataset)
        if record is not None:
            return FoundThresholds(path, record)
    return None


def require_thresholds(candidates: Sequence[Path], fingerprint: str, dataset: str | None = None) -> FoundThresholds:
    """As :func:`find_thresholds`; at least one candidate.

    Raises:
        UsageError: no thresholds of this network, or none of this dataset.
        ModelFileError: a file is damaged or has another format.
    """
    found = find_thresholds(candidates, fingerprint, dataset)
    if found is not None:
        return found
    where = printable(candidates[0])
    stored = (thresholds_at(path, fingerprint) for path in candidates)
    names = dict.fromkeys(name for one in stored if one is not None for name in one.names)
    if dataset is not None and names:
        raise UsageError(
            f"{where}: no thresholds of {printable(dataset)}: expected one of {', '.join(map(printable, names))}",
            parameter="thresholds_of",
        )
    raise UsageError(
        f"{where}: no thresholds of this network found; measure them with: rrid-edge evaluate MODEL --dataset DATASET"
    )
