"""Damages to the bytes of a file. Every choice comes from the given generator, so that a case can be made again."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Final

Mutation = Callable[[bytes, random.Random], bytes]

_ODD_NUMBERS: Final = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
_ODD_SIDES: Final = (0, 1, 7, 9, 300, 4000, 8000, 16384, 30000, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_LARGEST_BLOCK: Final = 4096
_EDGE_BYTES: Final = 200
"""Formats keep their structure at both ends, so half of the positions lie this near to an end."""


def mutate(
    content: bytes, generator: random.Random, others: Sequence[bytes], sides_px: tuple[int, ...] = ()
) -> tuple[bytes, str]:
    """Damage a file one to three times.

    Args:
        content: bytes of a sound file.
        generator: of all choices.
        others: sound files to splice with.
        sides_px: width and height that the file names; lies replace them.

    Returns:
        The damaged bytes, and the names of the damages.
    """
    names = []
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        name = generator.choice(_NAMES)
        if name == "splice" and others:
            content = splice(content, generator.choice(others), generator)
        elif name == "sides" and sides_px:
            content = lie_about_sides(content, sides_px, generator)
        else:
            name = name if name in MUTATIONS else "bits"
            content = MUTATIONS[name](content, generator)
        names.append(name)
    return content, "+".join(names)


def _position(content: bytes, generator: random.Random) -> int:
    """A position in ``content``, often near to its ends; 0 if it is empty."""
    if not content:
        return 0
    where = generator.random()
    if where < 0.35:
        return generator.randrange(min(len(content), _EDGE_BYTES))
    if where < 0.5:
        return len(content) - 1 - generator.randrange(min(len(content), _EDGE_BYTES))
    return generator.randrange(len(content))


def _block(content: bytes, generator: random.Random) -> tuple[int, int]:
    start = _position(content, generator)
    longest = max(1, min(len(content) - start, _LARGEST_BLOCK))
    return start, start + generator.randint(1, generator.choice((min(8, longest), longest)))


def _bits(content: bytes, generator: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 4, 16, 64)) if changed else 0):
        changed[_position(content, generator)] ^= 1 << generator.randrange(8)
    return bytes(changed)


def _run(content: bytes, generator: random.Random) -> bytes:
    start, end = _block(content, generator)
    fill = generator.choice((b"\0", b"\xff", b"\x7f", b"\x80", None))
    count = min(end, len(content)) - start
    return content[:start] + (generator.randbytes(count) if fill is None else fill * count) + content[start + count :]


def _cut(content: bytes, generator: random.Random) -> bytes:
    return content[: _position(content, generator)]


def _remove(content: bytes, generator: random.Random) -> bytes:
    start, end = _block(content, generator)
    return content[:start] + content[end:]


def _repeat(content: bytes, generator: random.Random) -> bytes:
    start, end = _block(content, generator)
    return content[:end] + content[start:end] * generator.choice((1, 1, 2, 50)) + content[end:]


def _shuffle(content: bytes, generator: random.Random) -> bytes:
    cuts = sorted(_position(content, generator) for _ in range(generator.randint(2, 5)))
    pieces = [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    middle = pieces[1:-1]
    generator.shuffle(middle)
    return b"".join([pieces[0], *middle, pieces[-1]])


def _number(content: bytes, generator: random.Random) -> bytes:
    """Overwrite one field, as if it were a length, a count or an offset."""
    kind = generator.choice("BHHIIQ")
    order = generator.choice("<>")
    packed = struct.pack(order + kind, generator.choice(_ODD_NUMBERS) & (256 ** struct.calcsize(kind) - 1))
    start = _position(content, generator)
    return content[:start] + packed + content[start + len(packed) :]


def _insert(content: bytes, generator: random.Random) -> bytes:
    start = _position(content, generator)
    return content[:start] + generator.randbytes(generator.choice((1, 2, 3, 4, 64))) + content[start:]


def _append(content: bytes, generator: random.Random) -> bytes:
    junk = generator.choice((b"\0" * 512, b"\n<html>404 Not Found</html>\n", content, generator.randbytes(300)))
    return content + junk


def _empty(content: bytes, generator: random.Random) -> bytes:
    return content[: generator.choice((0, 0, 1, 2, 4, 8))]


MUTATIONS: Final[dict[str, Mutation]] = {
    "bits": _bits,
    "run": _run,
    "cut": _cut,
    "remove": _remove,
    "repeat": _repeat,
    "shuffle": _shuffle,
    "number": _number,
    "insert": _insert,
    "append": _append,
    "empty": _empty,
}
_NAMES: Final = (
    *("bits", "bits", "run", "run", "cut", "cut", "remove", "repeat", "shuffle", "insert", "append"),
    *("number", "number", "number", "splice", "sides", "sides", "empty"),
)


def splice(content: bytes, other: bytes, generator: random.Random) -> bytes:
    """The beginning of one file and the end of another."""
    return content[: _position(content, generator)] + other[_position(other, generator) :]


def lie_about_sides(content: bytes, sides_px: tuple[int, ...], generator: random.Random) -> bytes:
    """Replace a width or a height wherever the file may name it: as text, or in 16 or 32 bits of either order."""
    side, lie = generator.choice(sides_px), generator.choice(_ODD_SIDES)
    spellings = [(str(side).encode(), str(lie).encode())]
    for form, most in ((">I", 2**32 - 1), ("<I", 2**32 - 1), (">H", 65535), ("<H", 65535)):
        spellings += [(struct.pack(form, side + more), struct.pack(form, (lie + more) & most)) for more in (0, -1)]
    found = [pair for pair in spellings if pair[0] in content[: 2 * _EDGE_BYTES]]
    if not found:
        return content
    old, new = generator.choice(found)
    return content.replace(old, new, generator.choice((1, 1, 2)))
