"""From the original distributions of the field's datasets to a plan of the RRID layout."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from rrid_edge.errors import DatasetError, UsageError, printable
from rrid_train.data.cuhk03 import KINDS, MAT_NAME, Cuhk03, NewProtocol, Picture, config_name, read_new_protocol
from rrid_train.data.market import is_market, read_market
from rrid_train.data.plan import Plan, Split, plan_lists

PROTOCOLS = ("auto", "old", "new")


def plan_market(raw: Path, name: str) -> Plan:
    """Market-1501 or DukeMTMC-reID: their own split; junk and distractors stay in the gallery.

    Raises:
        DatasetError: folders or names are not theirs.
    """
    return plan_lists(name, raw, *read_market(raw))


def plan_cuhk03(raw: Path, kind: str, protocol: str, stack: contextlib.ExitStack) -> Plan:
    """CUHK03 from ``cuhk-03.mat``, or from the Market-style folders of CUHK03-NP (the new protocol, already cut out).

    Args:
        raw: the ``.mat`` file, or the folder that holds it (or ``labeled/`` and ``detected/`` folders).
        kind: ``labeled`` or ``detected``.
        protocol: ``old`` (20 splits, query and gallery are all images of 100 people: evaluate with the cuhk03 protocol),
            ``new`` (767/700), or ``auto``: new where its lists lie beside the ``.mat``.
        stack: closes the file.

    Raises:
        UsageError: an unknown kind or protocol.
        DatasetError: missing or damaged files.
    """
    if kind not in KINDS or protocol not in PROTOCOLS:
        raise UsageError(
            f"CUHK03 {kind!r} under the protocol {protocol!r} is unknown: expected labeled or detected, and auto, old or new"
        )
    if is_market(raw / kind):
        if protocol == "old":
            raise UsageError(
                f"{printable(raw / kind)}: these folders are of the new protocol: do not ask for the old one",
                parameter="protocol",
            )
        return plan_market(raw / kind, f"cuhk03-{kind}-new")
    mat = raw / MAT_NAME if raw.is_dir() else raw
    lists = mat.parent / config_name(kind)
    if protocol == "auto":
        protocol = "new" if lists.is_file() else "old"
    dataset = stack.enter_context(Cuhk03(mat, kind))
    pictures = dataset.pictures()
    # Numbered from 1: person 0 stands for distractors.
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
    # People of a test set without any image (the detector found none) are left out, as everywhere in the field.
    tested = {numbers[person] for person in test if person in numbers}
    if not tested:
        raise DatasetError(f"{printable(mat)}: nobody of a test set has an image; copy or download the file again")
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
            "labeled and detected have lists of their own: take the one of the same kind"
        )
    trainval = sorted({labels[places[name]][0] for name in protocol.train})
    query, gallery = (tuple(places[name] for name in part) for part in (protocol.query, protocol.gallery))
    shared = set(trainval) & {labels[place][0] for place in (*query, *gallery)}
    if shared:
        raise DatasetError(
            f"{printable(lists)}: person {min(shared)} is both in training and in test ({len(shared)} in all); "
            "copy the lists again"
        )
    return Split(tuple(trainval), query, gallery)
