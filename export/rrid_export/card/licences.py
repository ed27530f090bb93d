"""Licences as the Hugging Face hub names them in the head of a card."""

from __future__ import annotations

from typing import Final

from rrid_export.card.markdown import quoted

UNKNOWN: Final = "unknown"
_KNOWN: Final = """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc0-1.0
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
    cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gfdl gpl gpl-2.0 gpl-3.0
    intel-research isc lgpl lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail openrail++
    osl-3.0 pddl postgresql unlicense wtfpl zlib
    """
"""Identifiers of licences in the documentation of the hub."""


def licence_lines(licence: str | None) -> list[str]:
    """The lines of a card's head for a licence: one that the hub knows, another by its name, or unknown."""
    if licence is None:
        return [f"license: {UNKNOWN}"]
    name = "-".join(licence.lower().split())
    if name in _KNOWN.split():
        return [f"license: {name}"]
    return ["license: other", f"license_name: {quoted(licence)}"]
