"""The plan of CUHK03: from the form that its authors distribute to the RRID layout."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from rrid_edge.errors import DatasetError, UsageError, printable
from rrid_train.data.cuhk03 import KINDS, MAT_NAME, Cuhk03, NewProtocol, Picture, config_name, read_new_protocol
from rrid_train.data.market import is_market, read_market
from rrid_train.data.plan import Plan, Split, plan_original

PROTOCOLS = ("auto", "old", "new")


def plan_cuhk03(
    raw: Path, kind: str, protocol: str, stack: contextlib.ExitStack, *, follow_links: bool = False
) -> Plan:
    """Plan CUHK03 from ``cuhk-03.mat``, or from the Market-style folders of CUHK03-NP (new protocol).

    Args:
        raw: the ``.mat`` file or its folder, or a folder with ``labeled/`` and ``detected/``.
        kind: ``labeled`` or ``detected``.
        protocol: ``old``, ``new`` (767/700) or ``auto``. ``old`` has 20 splits; all images of 100 people are both query
            and gallery, to be evaluated with the protocol ``cuhk03``. ``auto`` means ``new`` if its lists lie beside
            the ``.mat`` file, else ``old``.
        stack: keeps the ``.mat`` file open; close it after :func:`rrid_train.data.writing.write_plan`.
        follow_links: allow links that lead out of the folders of CUHK03-NP.

    Raises:
        UsageError: the kind or protocol is unknown, or CUHK03-NP is asked for the old protocol.
        DatasetError: a file is missing or damaged.
        MissingDependencyError: h5py or scipy is not installed.
    """
    if kind not in KINDS or protocol not in PROTOCOLS:
        raise UsageError(
            f"CUHK03 {kind!r} with the protocol {protocol!r} is unknown: expected labeled or detected, and auto, old "
            "or new"
        )
    if is_market(raw / kind):
        if protocol == "old":
            raise UsageError(
                f"{printable(raw / kind)}: these folders follow the new protocol, not the old one; use new or auto",
                parameter="protocol",
            )
        return plan_original(read_market(raw / kind, f"cuhk03-{kind}-new", follow_links=follow_links))
    mat = raw / MAT_NAME if raw.is_dir() else raw
    lists = mat.parent / config_name(kind)
    if protocol == "auto":
        protocol = "new" if lists.is_file() else "old"
    dataset = stack.enter_context(Cuhk03(mat, kind))
    pictures = dataset.pictures()
    # Numbers start at 1, because person 0 is a distractor.
    people = sorted({(picture.pair, picture.person) for picture in pictures})
    numbers = {person: number for number, person in enumerate(people, start=1)}
    labels = tuple((numbers[picture.pair, picture.person], picture.camera) for picture in pictures)
    if protocol == "new":
        splits = [_new_split(lists, read_new_protocol(lists), pictures, labels)]
    else:
        splits = [_old_split(mat, test, numbers, labels) for test in dataset.test_sets()]
    return Plan(
        f"cuhk03-{kind}-{protocol}",
        tuple(pictures),
        labels,
        tuple(splits),
        {"persons": {str(number): f"{pair}_{person:03d}" for (pair, person), number in numbers.items()}},
        dataset.pixels,
    )


def _old_split(
    mat: Path,
    test: Sequence[tuple[int, int]],
    numbers: Mapping[tuple[int, int], int],
    labels: Sequence[tuple[int, int]],
) -> Split:
    # People without any image (the detector found none) are left out, as is usual for this dataset.
    tested = {numbers[person] for person in test if person in numbers}
    if not tested:
        raise DatasetError(
            f"{printable(mat)}: a test set has no images; expected at least one; copy or download the file again"
        )
    places = tuple(place for place, (person, _) in enumerate(labels) if person in tested)
    return Split(tuple(sorted(set(numbers.values()) - tested)), places, places)


def _new_split(
    lists: Path, protocol: NewProtocol, pictures: Sequence[Picture], labels: Sequence[tuple[int, int]]
) -> Split:
    places = {picture.name: place for place, picture in enumerate(pictures)}
    unknown = [
        name for part in (protocol.train, protocol.query, protocol.gallery) for name in part if name not in places
    ]
    if unknown:
        raise DatasetError(
            f"{printable(lists)}: {unknown[0]} is not among the images of {MAT_NAME} ({len(unknown)} in all); "
            "labeled and detected have separate lists: use the list of the same kind"
        )
    trainval = sorted({labels[places[name]][0] for name in protocol.train})
    query, gallery = (tuple(places[name] for name in part) for part in (protocol.query, protocol.gallery))
    shared = set(trainval) & {labels[place][0] for place in (*query, *gallery)}
    if shared:
        first = next(pictures[place] for place in (*query, *gallery) if labels[place][0] == min(shared))
        raise DatasetError(
            f"{printable(lists)}: person {first.pair}_{first.person:03d} is both in training and in test "
            f"({len(shared)} in all); copy the lists again"
        )
    return Split(tuple(trainval), query, gallery)
