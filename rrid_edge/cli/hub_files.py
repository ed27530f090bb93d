"""Files of networks that commands take: on this machine, or on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from rrid_edge.cli.common import require, say
from rrid_edge.errors import UsageError, unforeseen


def network_file(
    context: typer.Context, text: str, endings: Sequence[str], *, sidecar: bool = False
) -> tuple[Path, str | None]:
    """The file that an argument names. A file of the hub is fetched, and stays until the command ends.

    Args:
        context: the command's context.
        text: a path, or an address that begins with ``hf://``.
        endings: endings of the files that may be fetched.
        sidecar: also fetch ``<file>.metadata.json``, if there is one.

    Returns:
        The file on this machine, and its address with the commit; None if it was here already.

    Raises:
        UsageError: the address is wrong, or the hub has no such file.
        MissingDependencyError: the extra ``hub`` is not installed, or the hub cannot be reached.
    """
    from rrid_export.hub_address import SCHEME, HubAddress

    if not text.startswith(SCHEME):
        return Path(text), None
    address = HubAddress.parse(text, endings)
    try:
        require("rrid_export.hub", "hub", "fetching from the Hugging Face hub")
    except ValueError as error:  # the library reads its variables when it is imported
        raise UsageError(
            f"HF_ENDPOINT cannot be used ({unforeseen(error)}): expected an address that begins with https://; correct "
            "or unset it"
        ) from error
    from rrid_export.hub import fetched

    file = context.with_resource(fetched(address, sidecar=sidecar))
    say(f"fetched {file.origin}")
    return file.path, file.origin
