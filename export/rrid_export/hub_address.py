"""Addresses of files on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rrid_edge.errors import UsageError, printable

SCHEME: Final = "hf://"
FORM: Final = f"{SCHEME}OWNER/REPO[@REVISION]/FILE"
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_REVISION: Final = re.compile(r"[\w.-][\w./+-]*", re.ASCII)
_LONG_REVISION: Final = re.compile(r"(refs/(?:pr|convert)/[^/]+)/(.+)")
_NO_OWNERS: Final = ("models", "datasets", "spaces", "buckets")


@dataclass(frozen=True)
class HubAddress:
    """Where a file lies on the hub.

    Attributes:
        repository: owner and name, ``owner/name``.
        revision: a branch, a tag or a commit.
        file: path of the file in the repository.
    """

    repository: str
    revision: str
    file: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}@{self.revision}/{self.file}"

    @classmethod
    def parse(cls, text: str, endings: Sequence[str]) -> HubAddress:
        """Read ``hf://OWNER/REPO[@REVISION]/FILE``; without a revision it is ``main``.

        A slash in a revision is written ``%2F``. In ``refs/pr/N`` and ``refs/convert/NAME`` it may stay.

        Args:
            text: the address.
            endings: endings of the files that may be fetched.

        Raises:
            UsageError: the address has another form, or the file another ending.
        """
        owner, _, rest = text.removeprefix(SCHEME).partition("/")
        name, _, file = rest.partition("/")
        name, at, revision = name.partition("@")
        if at and (found := _LONG_REVISION.fullmatch(f"{revision}/{file}")):
            revision, file = found.groups()
        revision = revision.replace("%2F", "/").replace("%2f", "/") if at else "main"
        address = cls(f"{owner}/{name}", revision, file)
        parts = file.split("/")
        is_plain = file.isprintable() and "\\" not in file and not {"", ".", ".."} & set(parts)
        is_named = _REPOSITORY.fullmatch(address.repository) and _REVISION.fullmatch(revision)
        if not text.startswith(SCHEME) or not is_plain or not is_named or owner in _NO_OWNERS or ".." in revision:
            raise UsageError(f"{printable(text)}: no address of a file on the Hugging Face hub; expected {FORM}")
        if not file.lower().endswith(tuple(endings)):
            raise UsageError(
                f"{printable(text)}: only {' and '.join(endings)} files are fetched here; name such a file"
            )
        return address
