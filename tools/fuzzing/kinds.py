"""What a kind of artefact is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Damage = Callable[[Path, random.Random], tuple[str, str]]
"""Damages a file of a case's folder; returns its relative name and the damage."""


@dataclass(frozen=True)
class ArtefactKind:
    """A kind of artefact.

    Attributes:
        weight: how often it is drawn.
        files: what a case's folder holds, from :mod:`fuzzing.world`.
        damage: what is done to it.
        commands: command lines that read it; one is drawn.
        is_large: it needs a whole network.
    """

    weight: int
    files: tuple[str, ...]
    damage: Damage
    commands: tuple[str, ...]
    is_large: bool = False


def one_of(*names: str, by: Callable[[bytes, random.Random], tuple[bytes, str]], named: str = "") -> Damage:
    """Damage one of these files.

    Args:
        names: the files.
        by: what damages their bytes.
        named: file that a refusal names; the damaged one if empty.
    """

    def damage(folder: Path, generator: random.Random) -> tuple[str, str]:
        name = generator.choice(names)
        content, what = by((folder / name).read_bytes(), generator)
        (folder / name).unlink()  # it may be a link to the sound file
        (folder / name).write_bytes(content)
        return named or name, what if name == (named or name) else f"{what} of {name}"

    return damage
