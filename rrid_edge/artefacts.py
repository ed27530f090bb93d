"""The one reader of structured files: JSON and TOML are checked against a schema before anything uses them.

A schema is a dataclass with type hints. ``typing.Annotated`` and :class:`msgspec.Meta` add ranges, lengths and
patterns. Unknown keys are ignored, so that a later version may add some. Every damage ends in one error that names the
file and the place in it: deep nesting, invalid UTF-8, missing keys, wrong types, numbers out of range, NaN.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from rrid_edge.errors import ArtefactError, printable
from rrid_edge.json_text import name_of_text

Content = TypeVar("Content")

SMALL_BYTES: Final = 4 << 20
"""Largest file that is read, in bytes, unless its kind allows more. Brackets take 20 times their bytes in memory."""
LARGE_BYTES: Final = 256 << 20
"""For lists of a whole dataset or gallery. The largest real one has a tenth of it."""
_MOST_BITS: Final = 64
_MOST_BRACKETS: Final = 2_000_000
_MOST_COMMAS: Final = 20_000_000
_MAX_REASON: Final = 200


@dataclass(frozen=True)
class Artefact(Generic[Content]):
    """One kind of structured file, and how to read it.

    Attributes:
        name: what messages call the content, a plural or a noun without article, for example ``thresholds``.
        schema: type of the content, most often a frozen dataclass.
        remedy: what to do about a damaged one, for example ``measure them again with: rrid-edge evaluate``.
        error: class of the error for a damaged one.
        newest_format: largest value of the key ``format`` that this version reads; None if the content has no such key.
        most_bytes: largest file that is read.
    """

    name: str
    schema: type[Content]
    remedy: str
    error: type[ArtefactError] = ArtefactError
    newest_format: int | None = None
    most_bytes: int = SMALL_BYTES

    def read(self, path: Path, *, is_toml: bool | None = None) -> Content:
        """Read and check a file.

        Args:
            path: the file.
            is_toml: whether it holds TOML or JSON; None decides by the ending ``.toml``.

        Raises:
            FileNotFoundError: there is no such file.
            ArtefactError: of the class ``error``: the file is damaged, too large or cannot be read.
        """
        where = printable(path)
        try:
            size = path.stat().st_size
            if not path.is_file():
                raise self.error(f"{where}: no ordinary file; expected {self.name}: {self.remedy}")
            if size > self.most_bytes:
                raise self.error(
                    f"{where}: {size:,} bytes, at most {self.most_bytes:,} are read; expected {self.name}: "
                    f"{self.remedy}"
                )
            content = path.read_bytes()
        except FileNotFoundError:
            raise
        except NotADirectoryError as error:  # the path goes through a file
            raise FileNotFoundError(error.errno, error.strerror, str(path)) from error
        except OSError as error:
            raise self.error(f"{where}: cannot be read ({error.strerror or error}); make the file readable") from error
        if is_toml is None:
            is_toml = path.suffix == ".toml"
        return self.parse_toml(content, where=where) if is_toml else self.parse(content, where=where)

    def parse(self, text: str | bytes, *, where: str) -> Content:
        """Check JSON.

        Args:
            text: the JSON, in UTF-8 if these are bytes.
            where: what messages call the file.

        Raises:
            ArtefactError: of the class ``error``: the text is no JSON or does not fit the schema.
        """
        try:
            if len(text) > SMALL_BYTES:
                _refuse_many_values(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
            values = _decoded(text)
        except (ValueError, RecursionError) as error:
            raise self.damaged(where, str(error)) from error
        return self.convert(values, where=where)

    def parse_toml(self, text: bytes, *, where: str) -> Content:
        """Check TOML; as :meth:`parse`."""
        try:
            values = msgspec.toml.decode(text)
        except (ValueError, RecursionError) as error:
            raise self.damaged(where, str(error)) from error
        return self.convert(values, where=where)

    def convert(self, values: object, *, where: str) -> Content:
        """Check plain values: dictionaries, lists, texts, numbers, booleans and None; as :meth:`parse`."""
        try:
            if (odd := _odd_number(values)) is not None:
                raise ValueError(f"{odd[0]} - at ${odd[1]}")
            self._refuse_newer(values, where)
            return msgspec.convert(values, self.schema)
        except (ValueError, RecursionError) as error:
            raise self.damaged(where, str(error)) from error

    def _refuse_newer(self, values: object, where: str) -> None:
        if self.newest_format is None or not isinstance(values, dict):
            return
        found = values.get("format")
        if type(found) is int and found > self.newest_format:
            raise self.error(
                f"{where}: {self.name} of format {found}, expected at most {self.newest_format}: made by a newer "
                "release; update rrid-edge"
            )

    def damaged(self, where: str, reason: str) -> ArtefactError:
        """The error for damage that a caller finds in the checked content."""
        reason = printable(reason.replace("`", ""))
        for found, told in (
            (" - at $.", " at "),
            (" - at $[", " at ["),
            (" - at $", " at the top"),
            ("[...]", "an entry"),
        ):
            reason = reason.replace(found, told)
        return self.error(f"{where}: damaged {self.name} ({reason[:_MAX_REASON]}); {self.remedy}")


def _refuse_many_values(text: bytes) -> None:
    """Refuse JSON whose values would take far more memory than the text.

    Raises:
        ValueError: there are too many.
    """
    brackets, commas = text.count(b"[") + text.count(b"{"), text.count(b",")
    if brackets > _MOST_BRACKETS or commas > _MOST_COMMAS:
        raise ValueError(f"{brackets:,} lists and objects, {commas:,} commas")


def _decoded(text: str | bytes) -> object:
    if isinstance(text, bytes) and (b"\xee\xbe" in text or b"\xee\xbf" in text):
        return json.loads(name_of_text(text.decode("utf-8")))  # names that are no UTF-8, as write_json writes them
    try:
        return msgspec.json.decode(text)
    except ValueError as error:
        if "surrogate" not in str(error):
            raise
        # Python writes the bytes of a name that is no UTF-8 as halves of surrogate pairs, which msgspec refuses.
        return json.loads(text)


def _odd_number(values: object) -> tuple[str, str] | None:
    """The first NaN or infinity, which TOML has and no range of a schema refuses, or number that Python cannot print.

    Returns:
        What it is, and its place, as msgspec writes places; None if there is none.
    """
    if isinstance(values, float) and not math.isfinite(values):
        return f"{values} is not a finite number", ""
    if isinstance(values, int) and values.bit_length() > _MOST_BITS:
        return f"a whole number of more than {_MOST_BITS} bits", ""
    is_object = isinstance(values, dict)
    if not isinstance(values, dict | list):
        return None
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        if (found := _odd_number(value)) is not None:
            return found[0], (f".{key}" if is_object else f"[{key}]") + found[1]
    return None
