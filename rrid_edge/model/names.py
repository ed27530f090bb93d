"""The names and kinds of all artefacts."""

from __future__ import annotations

ENGINE_SUFFIXES = frozenset({".engine", ".plan"})
