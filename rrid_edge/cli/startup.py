"""What makes a cold ``index`` or ``match`` start faster: settings of the whole process, which belongs to the command."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

_STARTED_OFTEN = frozenset({"index", "match"})
"""Other commands import packages that warn about objects left at the end."""
_OBJECTS_BETWEEN_COLLECTIONS = 50_000
_NEVER_NEEDED = "openvino.tools.ovc"
"""OpenVINO's model converter, with telemetry and an HTTP client; OpenVINO expects that importing it may fail."""


@contextlib.contextmanager
def quick_start(command: str) -> Iterator[None]:
    """Run ``command`` inside: where it is started often, a quarter of its cold start is saved.

    The garbage collector looks less often while packages are imported, and not when the process ends.
    """
    if command not in _STARTED_OFTEN:
        yield
        return
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
    sys.modules.setdefault(_NEVER_NEEDED, None)  # type: ignore[arg-type]  # an import of it fails
    yield
    gc.freeze()
