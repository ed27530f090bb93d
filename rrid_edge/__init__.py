"""rrid-edge: person re-identification (RRID) from a trained network to verified deployment."""

from __future__ import annotations

__version__ = "0.1.0"
