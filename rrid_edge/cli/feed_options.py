"""Options for callers that feed the model otherwise than this package does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from rrid_edge.errors import UsageError, printable

DEFAULT_INPUT: Final = "nhwc-uint8"

InputOption = Annotated[
    str,
    typer.Option("--input", help="What the model takes: nhwc-uint8, or nchw-float for DeepStream and its like."),
]
DeepStreamOption = Annotated[
    Path | None,
    typer.Option(help="Also write DeepStream's configurations into this folder; needs --input nchw-float."),
]


def input_form(option: str) -> str:
    """The form of input that ``--input`` names, one of :data:`rrid_edge.model.spec.INPUT_FORMS`.

    Raises:
        UsageError: there is no such form.
    """
    from rrid_edge.model.spec import FLOAT32_NCHW, UINT8_NHWC

    forms = {DEFAULT_INPUT: UINT8_NHWC, "nchw-float": FLOAT32_NCHW}
    if option not in forms:
        raise UsageError(f"--input {printable(option)} is unknown: expected {' or '.join(forms)}")
    return forms[option]
