"""Sessions of browsers."""

from __future__ import annotations


class SessionBook:
    """The open sessions."""
