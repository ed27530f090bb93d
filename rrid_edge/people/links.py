"""What verdicts say together: which crops belong to one person, which do not, and what a new verdict changes.

``same`` is transitive, also through a query that was told to show two crops. So verdicts join crops to *components*. A
label that a verdict gave to a crop goes away with the last verdict that joins it to a crop of this label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rrid_edge.crops.naming import PERSON, label_kind
from rrid_edge.errors import printable
from rrid_edge.people.records import Answer, ConflictError, Node, Verdict

Labels = Mapping[int, str | None]
"""The label of each crop that matters; a crop that is missing does not exist any more."""


class Sets:
    """Disjoint sets of nodes (union-find). A node that was never joined is a set of its own."""

    def __init__(self) -> None:
        self._parent: dict[Node, Node] = {}

    def find(self, node: Node) -> Node:
        """The representative of a node's set."""
        root = node
        while (above := self._parent.get(root, root)) != root:
            root = above
        while (above := self._parent.get(node, node)) != root:
            self._parent[node], node = root, above
        return root

    def join(self, first: Node, second: Node) -> None:
        """Make one set of two."""
        for node in (first, second):
            self._parent.setdefault(node, node)
        self._parent[self.find(second)] = self.find(first)

    def members(self) -> dict[Node, list[Node]]:
        """The nodes that were joined, by the representative of their set."""
        found: dict[Node, list[Node]] = {}
        for node in self._parent:
            found.setdefault(self.find(node), []).append(node)
        return found


class Links:
    """The verdicts that hold: those that no change set aside.

    Args:
        verdicts: any.

    Attributes:
        apart: pairs that were told to be different.
        unsure: pairs that nobody could tell.
    """

    def __init__(self, verdicts: Iterable[Verdict]) -> None:
        held = [verdict for verdict in verdicts if verdict.void is None]
        self.apart = [verdict.pair for verdict in held if verdict.answer == "different"]
        self.unsure = [verdict.pair for verdict in held if verdict.answer == "unsure"]
        self._sets = Sets()
        for verdict in held:
            if verdict.answer == "same":
                self._sets.join(*verdict.pair)
        self._members = self._sets.members()

    def component(self, node: Node) -> list[Node]:
        """A node and all that verdicts join to it, crops and queries."""
        return self._members.get(self._sets.find(node), [node])

    def crops_with(self, crops: Iterable[int]) -> list[int]:
        """Some crops and all crops that verdicts join to them, each once, in ascending order."""
        return sorted({node for crop in crops for node in self.component(crop) if isinstance(node, int)})

    def components(self) -> list[list[int]]:
        """The crops of each component with at least two crops."""
        found = ([node for node in nodes if isinstance(node, int)] for nodes in self._members.values())
        return [sorted(crops) for crops in found if len(crops) > 1]

    def apart_crops(self) -> list[tuple[int, int]]:
        """Pairs of crops that must not be one person, also those that are joined to a query that is apart."""
        pairs = set()
        for first, second in self.apart:
            ends = [self._nearest_crop(node) for node in (first, second)]
            if ends[0] is not None and ends[1] is not None:
                pairs.add((min(ends), max(ends)))  # type: ignore[type-var]
        return sorted(pairs)  # type: ignore[arg-type]

    def _nearest_crop(self, node: Node) -> int | None:
        if isinstance(node, int):
            return node
        return min((other for other in self.component(node) if isinstance(other, int)), default=None)


@dataclass(frozen=True)
class LabelStep:
    """A change of labels that a verdict makes.

    Attributes:
        crops: ids.
        before: their label, or None.
        after: their new label, or None.
    """

    crops: tuple[int, ...]
    before: str | None
    after: str | None


def plan_verdict(
    verdicts: Sequence[Verdict],
    given: Mapping[int, str],
    labels: Labels,
    pair: tuple[Node, Node],
    answer: Answer,
) -> list[LabelStep]:
    """The changes of labels that a verdict makes, those that it undoes first.

    Args:
        verdicts: all.
        given: the label that a verdict gave to a crop, by crop.
        labels: of every crop that the verdicts and the pair name.
        pair: see :func:`rrid_edge.people.records.pair_of`.
        answer: the new verdict; it replaces an earlier one of the pair.

    Raises:
        ConflictError: it contradicts labels or other verdicts.
    """
    old = next((verdict for verdict in verdicts if verdict.pair == pair and verdict.void is None), None)
    links = Links(verdict for verdict in verdicts if verdict.pair != pair)
    steps: list[LabelStep] = []
    if old is not None and old.answer == "same" and answer != "same":
        steps = _taken_back(links, given, labels, pair)
    now = dict(labels) | {crop: step.after for step in steps for crop in step.crops}
    if answer == "same":
        steps += _joined(links, now, pair)
    elif answer == "different":
        _refuse_joined(links, now, pair)
    return steps


def _taken_back(links: Links, given: Mapping[int, str], labels: Labels, pair: tuple[Node, Node]) -> list[LabelStep]:
    """Labels that verdicts gave and that no joined crop has of its own any more."""
    lost: dict[str, set[int]] = {}
    for node in pair:
        crops = [crop for crop in links.component(node) if isinstance(crop, int) and labels.get(crop) is not None]
        presents = {crop for crop in crops if given.get(crop) == labels[crop]}
        own = {labels[crop] for crop in crops if crop not in presents}
        for crop in presents:
            if (label := labels[crop]) is not None and label not in own:
                lost.setdefault(label, set()).add(crop)
    return [LabelStep(tuple(sorted(crops)), label, None) for label, crops in sorted(lost.items())]


def _joined(links: Links, labels: Labels, pair: tuple[Node, Node]) -> list[LabelStep]:
    nodes = dict.fromkeys(node for end in pair for node in links.component(end))
    crops = sorted(node for node in nodes if isinstance(node, int) and node in labels)
    named = {label: crop for crop in reversed(crops) if (label := labels[crop]) is not None}
    if len(named) > 1:
        (first, first_crop), (second, second_crop) = sorted(named.items(), key=lambda item: item[1])[:2]
        raise ConflictError(
            f"crop {first_crop} is {printable(first)} and crop {second_crop} is {printable(second)}: expected crops of "
            "one person; merge them"
        )
    label = next(iter(named), None)
    if label is not None and label_kind(label) != PERSON:
        raise ConflictError(f"crop {named[label]} is labelled {printable(label)}, which is no person: name it first")
    for first_node, second_node in links.apart:
        ends = (first_node, second_node)
        outside = [node for node in ends if node not in nodes]
        is_hers = label is not None and any(isinstance(node, int) and labels.get(node) == label for node in outside)
        if not outside or (len(outside) == 1 and is_hers):
            raise ConflictError(
                f"{told(first_node)} and {told(second_node)} were told to be different: change that verdict first"
            )
    unlabelled = tuple(crop for crop in crops if labels[crop] is None)
    return [LabelStep(unlabelled, None, label)] if label is not None and unlabelled else []


def _refuse_joined(links: Links, labels: Labels, pair: tuple[Node, Node]) -> None:
    first, second = (links.component(node) for node in pair)
    if set(first) & set(second):
        raise ConflictError(
            f"{told(pair[0])} and {told(pair[1])} are joined by other verdicts ({_way(first)}): change one first"
        )
    names = [{labels.get(node) for node in nodes if isinstance(node, int)} - {None} for nodes in (first, second)]
    shared = sorted(str(name) for name in names[0] & names[1])
    if shared:
        raise ConflictError(f"both are {printable(shared[0])}: split the crops of {printable(shared[0])} first")


def _way(nodes: Sequence[Node]) -> str:
    shown = ", ".join(told(node) for node in nodes[:4])
    return f"{shown} ..." if len(nodes) > 4 else shown


def told(node: Node) -> str:
    """One side of a verdict, as messages name it."""
    return f"crop {node}" if isinstance(node, int) else f"query {printable(node)}"


def contradicted(verdicts: Sequence[Verdict], labels: Labels, changed: Iterable[int]) -> list[int]:
    """Ids of verdicts that labels contradict after some crops got new ones.

    Args:
        verdicts: all; those that were set aside are not looked at.
        labels: of every crop that the verdicts name, with the new ones.
        changed: crops with new labels.
    """
    moved = set(changed)
    held = [verdict for verdict in verdicts if verdict.void is None]
    shown: dict[Node, set[str | None]] = {}
    for verdict in held:
        query, crop = verdict.pair
        if isinstance(query, str) and isinstance(crop, int) and verdict.answer == "same" and crop not in moved:
            shown.setdefault(query, set()).add(labels.get(crop))
    found = []
    for verdict in held:
        first, second = verdict.pair
        if not ({first, second} & moved):
            continue
        label = labels.get(second) if isinstance(second, int) else None
        others = {labels.get(first)} if isinstance(first, int) else shown.get(first, set())
        is_wrong = (
            bool(others - {label})
            if verdict.answer == "same"
            else verdict.answer == "different" and label is not None and label in others
        )
        if is_wrong:
            found.append(verdict.id)
    return found
