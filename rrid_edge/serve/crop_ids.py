"""Ids of crops in requests: whole numbers in plain digits, and nothing else."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import BeforeValidator, Field


def _plain_digits(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("expected the id of a crop, a whole number such as 12")
    return value


CropId = Annotated[
    int, BeforeValidator(_plain_digits), Path(ge=0, lt=2**63, description="Id of a crop, a whole number.")
]
"""Id of a crop in the path of a request. Pydantic alone would also read ``1_2`` and ``12.0``."""


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else value


CropNumber = Annotated[int, Field(ge=0, lt=2**63, strict=True), BeforeValidator(_number)]
"""Id of a crop in JSON. Its digits as text are read too: a gallery on a server numbers crops with 63 bits, and numbers
of JavaScript hold 53."""
