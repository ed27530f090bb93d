"""Names of people: what may be a name, and which names look alike."""
# ruff: noqa: RUF001 - letters that look alike are the subject

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

from rrid_edge.crops.naming import PERSON, label_kind
from rrid_edge.errors import UsageError, printable

LONGEST: Final = 100
"""Characters of a name at most."""
_REFUSED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that are not seen: controls, formats, surrogates, private ones, separators of lines."""
_ALIKE: Final = str.maketrans(
    # Letters of other scripts that look like Latin ones, after case folding (Unicode TR 39 lists all of them).
    "аеорсухіјѕһԁԛԝвнкмтγανορτυχκι01",
    "aeopcyxijshdqwbhkmtyavoptuxkiol",
)


def accepted_name(name: object) -> str:
    """A name in its stored form: Unicode NFC, without spaces around it.

    Raises:
        UsageError: it is no text, empty, too long, has control or invisible characters, or means junk.
    """
    if not isinstance(name, str):
        raise UsageError(f"name of type {type(name).__name__}: expected a text", parameter="name")
    odd = next((char for char in name if unicodedata.category(char) in _REFUSED), None)
    if odd is not None:
        raise UsageError(
            f"name with the character U+{ord(odd):04X}: expected letters, digits, spaces and signs that can be seen",
            parameter="name",
        )
    found = unicodedata.normalize("NFC", " ".join(name.split()))
    if not 1 <= len(found) <= LONGEST:
        raise UsageError(f"name of {len(found)} characters: expected 1 to {LONGEST}", parameter="name")
    if label_kind(found) != PERSON:
        raise UsageError(
            f"name {printable(found)!r}: this label means a crop of nobody; expected the name of a person",
            parameter="name",
        )
    return found


def look(name: str) -> str:
    """How a name looks: equal for names that people would take for one another.

    Case, accents, spaces and width do not count, nor do letters of another script that look the same.
    """
    text = unicodedata.normalize("NFKD", name).casefold()
    text = unicodedata.normalize("NFKD", text)
    kept = (char for char in text if not unicodedata.category(char).startswith(("M", "C", "Z")))
    return "".join(kept).translate(_ALIKE)


def like(name: str, names: Iterable[str]) -> str | None:
    """The first of some names that equals a name or looks like it; None if there is none."""
    wanted = look(name)
    return next((other for other in names if other == name or look(other) == wanted), None)
