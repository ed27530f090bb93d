"""The facts of a gallery in Milvus: the properties of its collection.

A property is one register: the last writer wins, and writers of other properties do not matter. So no property is read,
changed and written back by several writers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from msgspec import Meta

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import GalleryError, ModelFileError, UsageError, printable
from rrid_edge.gallery.milvus.bound import Bound
from rrid_edge.model.spec import HEX64, ModelSpec

FORMAT = 2
IVF_LISTS = 256
INDEX_TYPES: dict[str, tuple[str, dict[str, int]]] = {
    "flat": ("FLAT", {}),
    "ivf": ("IVF_FLAT", {"nlist": IVF_LISTS}),
    "hnsw": ("HNSW", {"M": 32, "efConstruction": 256}),
    "diskann": ("DISKANN", {}),
}
"""Index types by the names that users give: Milvus' name and its build parameters."""
REMEMBERED = ("model", "pattern", "time_from", "retention_s")
"""Facts that :meth:`rrid_edge.gallery.contract.GalleryStore.remember` takes."""
PREFIX = "rrid.gallery."
_MOST_DAMAGED_KEYS = 500
"""Keys named in a property; etcd, which holds properties, is no place for long lists."""


@dataclass(frozen=True)
class Damage:
    """What the last verification found.

    Attributes:
        id: of the verification.
        keys: of rows whose vector or entry was damaged; at most 500.
        is_partial: whether there were more.
        mended: id of the last verification whose damage was mended.
    """

    id: str = ""
    keys: tuple[str, ...] = ()
    is_partial: bool = False
    mended: str = ""

    @property
    def is_open(self) -> bool:
        """Whether rows may still be damaged."""
        return bool(self.keys) and self.id != self.mended


_Number = Annotated[str, Meta(pattern=r"\A[0-9]{1,18}\Z")]


@dataclass(frozen=True)
class _Properties:
    """The properties of a collection, without their prefix: texts."""

    format: _Number
    fingerprint: Annotated[str, Meta(pattern=HEX64)]
    spec: str
    dtype: Literal["float16", "float32"]
    index: Literal["flat", "ivf", "hnsw", "diskann"]
    replicas: Annotated[str, Meta(pattern=r"\A[0-9]{1,4}\Z")]
    model: str = ""
    pattern: str = ""
    time_from: str = ""
    retention_s: Annotated[str, Meta(pattern=r"\A[0-9]{0,18}\Z")] = ""
    damaged: str = ""
    mended: str = ""
    rows: _Number = "0"
    count: str = ""
    counted: str = ""


@dataclass(frozen=True)
class _Damage:
    """The property ``damaged``, as :func:`damage_property` writes it."""

    id: str = ""
    keys: tuple[str, ...] = ()
    more: bool = False


_AGAIN: Final = "index again with: rrid-edge index FOLDER --gallery ADDRESS --rebuild"
_PROPERTIES = Artefact("properties of the collection", _Properties, _AGAIN, GalleryError)
_SPEC = Artefact("spec in the properties", dict[str, str], _AGAIN, GalleryError)
_DAMAGE = Artefact("record of damage", _Damage, _AGAIN, GalleryError)
_KEYS = Artefact("record of damage", tuple[str, ...], _AGAIN, GalleryError)


@dataclass(frozen=True)
class CollectionFacts:
    """The facts of a gallery, stored in the properties of its collection.

    Attributes:
        spec: of the model that made the descriptors.
        dtype: values were rounded to this type before they were stored; Milvus stores float32.
        index_type: key of :data:`INDEX_TYPES`.
        replicas: replicas in the memory of query nodes.
        format: version of the gallery's format; 1 is read-only.
        remembered: facts by the names of :data:`REMEMBERED`.
        damage: what the last verification found.
        bound: the lower bound of the number of rows. A smaller count means that query nodes are missing, which Milvus
            does not report.
    """

    spec: ModelSpec
    dtype: str = "float16"
    index_type: str = "flat"
    replicas: int = 1
    format: int = FORMAT
    remembered: Mapping[str, str] | None = None
    damage: Damage = field(default_factory=Damage)
    bound: Bound = field(default_factory=Bound)

    def to_properties(self) -> dict[str, str]:
        """Collection properties of a new gallery: text by name."""
        values = {
            "format": str(FORMAT),
            "fingerprint": self.spec.fingerprint,
            "blocks": json.dumps(self.spec.blocks),
            "spec": json.dumps(self.spec.to_metadata()),
            "dtype": self.dtype,
            "index": self.index_type,
            "replicas": str(self.replicas),
        }
        return {PREFIX + key: value for key, value in values.items()}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], where: str) -> CollectionFacts:
        """Parse collection properties.

        Raises:
            GalleryError: the collection is not a gallery, has a newer format, or its properties are damaged.
        """
        texts = {key[len(PREFIX) :]: value for key, value in properties.items() if key.startswith(PREFIX)}
        if "format" not in texts:
            raise GalleryError(
                f"{where}: this collection is not a gallery of rrid-edge (it has no property {PREFIX}format); name "
                "another collection, or create one with: rrid-edge index FOLDER --gallery ADDRESS"
            )
        version = str(texts["format"])
        if not re.fullmatch("0*[0-9]{1,9}", version) or int(version) > FORMAT:
            raise GalleryError(
                f"{where}: gallery format {printable(version)[:20]} is newer than this rrid-edge reads ({FORMAT}); "
                "update rrid-edge"
            )
        stored = _PROPERTIES.convert(texts, where=where)
        try:
            return cls._parsed(stored, texts, where)
        except (ValueError, ModelFileError) as error:
            raise _PROPERTIES.damaged(where, str(error)) from error

    @classmethod
    def _parsed(cls, stored: _Properties, texts: Mapping[str, str], where: str) -> CollectionFacts:
        spec = ModelSpec.from_metadata(_SPEC.parse(stored.spec, where=where), where="the spec")
        if stored.fingerprint != spec.fingerprint:
            raise ValueError("its entries contradict each other")
        version = int(stored.format)
        if version == 1:  # one register each, without ids
            damage = Damage("1", _KEYS.parse(stored.damaged or "[]", where=where))
            bound = Bound(rows=int(stored.rows))
        else:
            found = _DAMAGE.parse(stored.damaged or "{}", where=where)
            damage = Damage(found.id, found.keys, found.more, stored.mended)
            bound = Bound.from_properties(texts)
        remembered = {name: texts[name] for name in REMEMBERED if texts.get(name)}
        replicas = int(stored.replicas)
        return cls(spec, stored.dtype, stored.index, replicas, version, remembered, damage, bound)

    def fact(self, name: str) -> str:
        """A fact of :data:`REMEMBERED`, or an empty text."""
        return (self.remembered or {}).get(name, "")


def remembered_properties(facts: Mapping[str, str]) -> dict[str, str]:
    """Properties that record facts of :data:`REMEMBERED`.

    Raises:
        UsageError: a name is unknown, a value is no text, or ``retention_s`` is not a whole number.
    """
    for name, value in facts.items():
        if name not in REMEMBERED or not isinstance(value, str):
            raise UsageError(f"fact {name}={value!r} cannot be recorded: expected texts of {', '.join(REMEMBERED)}")
        if value.encode("utf-8", "replace").decode() != value:
            raise UsageError(f"{name} {printable(value)!r} is no Unicode text: Milvus cannot store it", parameter=name)
        if name == "retention_s" and value and not re.fullmatch("[0-9]{1,18}", value):
            raise UsageError(f"retention_s {value!r}: expected a whole number of seconds", parameter="retention_s")
    return {PREFIX + name: str(value) for name, value in facts.items()}


def damage_property(verification: str, keys: Sequence[str]) -> dict[str, str]:
    """The property that records what a verification found; at most 500 keys are named."""
    found = {"id": verification, "keys": list(keys[:_MOST_DAMAGED_KEYS]), "more": len(keys) > _MOST_DAMAGED_KEYS}
    return {PREFIX + "damaged": json.dumps(found)}


def mended_property(verification: str) -> dict[str, str]:
    """The property that records that all damage of a verification is mended."""
    return {PREFIX + "mended": verification}
