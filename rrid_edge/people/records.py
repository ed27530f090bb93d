"""What the people room tells: verdicts, changes of labels, kept queries, and its errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError

Node = int | str
"""One side of a verdict: the id of a crop, or the id of a kept query."""
Answer = Literal["same", "different", "unsure"]
ANSWERS: Final = ("same", "different", "unsure")
Kind = Literal["create", "rename", "merge", "split", "undo", "verdict"]


class NotFoundError(UsageError):
    """A person, crop, query or merge that does not exist."""


class ConflictError(UsageError):
    """A change that contradicts what was said before."""


@dataclass(frozen=True)
class KeptQuery:
    """A query that is kept for a day.

    Attributes:
        descriptor: float32 (D,), of unit length.
        fingerprint: of the model that made it.
        thumbnail: JPEG of its first image, 96 px high.
        images: number of its images.
    """

    descriptor: NDArray[np.float32]
    fingerprint: str
    thumbnail: bytes
    images: int = 1


@dataclass(frozen=True)
class Verdict:
    """What was said of a pair.

    Attributes:
        pair: its sides, as :func:`pair_of` orders them.
        answer: ``same``, ``different`` or ``unsure``.
        id: of the verdict; 0 before it is stored.
        time: UTC microseconds since 1970.
        void: the change of labels that set it aside, or None.
    """

    pair: tuple[Node, Node]
    answer: Answer
    id: int = 0
    time: int = 0
    void: int | None = None


def pair_of(first: Node, second: Node) -> tuple[Node, Node]:
    """A pair in its order: a query comes first, then the smaller id.

    Raises:
        UsageError: both sides are one crop, or both are queries.
    """
    if isinstance(first, str) and isinstance(second, str):
        raise UsageError(f"{first} and {second}: expected a crop and a query, or two crops")
    if first == second:
        raise UsageError(f"crop {first} with itself: expected two crops")
    low, high = sorted((first, second), key=lambda node: (isinstance(node, int), node if isinstance(node, int) else 0))
    return low, high


@dataclass(frozen=True)
class PersonRef:
    """A person of the book.

    Attributes:
        number: never used for another person.
        name: the label of her crops.
    """

    number: int
    name: str


@dataclass(frozen=True)
class Change:
    """A change of the labels of some crops, all from one person or nobody to one person or nobody.

    Attributes:
        kind: what was asked for.
        crops: ids of the crops.
        before: who they were, or None for unlabelled.
        after: who they become, or None for unlabelled.
        facts: what else becomes true with it.
        id: of the change; 0 before it is stored.
        time: UTC microseconds since 1970.
    """

    kind: Kind
    crops: tuple[int, ...]
    before: PersonRef | None
    after: PersonRef | None
    facts: Facts
    id: int = 0
    time: int = 0


@dataclass(frozen=True)
class Facts:
    """What becomes true in the book once the labels are written.

    Attributes:
        retired: whether the person ``before`` ends, because all her crops are moved.
        void: ids of verdicts that the change contradicts, and sets aside.
        undoes: the change that this one undoes, or None.
        pair: the pair of a verdict, or None.
        answer: its answer.
        is_given: whether the verdict gives the labels, and takes them away again when it is replaced.
    """

    retired: bool = False
    void: tuple[int, ...] = ()
    undoes: int | None = None
    pair: tuple[Node, Node] | None = None
    answer: Answer | None = None
    is_given: bool = False


@dataclass(frozen=True)
class KeptChange:
    """A merge or a split that can be undone.

    Attributes:
        id: of the change.
        kind: ``merge`` or ``split``.
        person: number of the person it belongs to: who got the crops of a merge, or lost those of a split.
        other: number of the other person; None if the crops were or became nobody's.
        name: name that the other person had, or has.
        crops: ids.
        time: UTC microseconds since 1970.
        retired_name: name of the person who lost the crops, if she ended with the change; or None.
    """

    id: int
    kind: Literal["merge", "split"]
    person: int
    other: int | None
    name: str | None
    crops: tuple[int, ...] = ()
    time: int = 0
    retired_name: str | None = None
