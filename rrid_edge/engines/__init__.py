"""Engines: one contract for all runtimes that turn images into descriptors, and ``open_engine``."""

from __future__ import annotations

from rrid_edge.engines.base import Engine
from rrid_edge.engines.fake import FakeEngine
from rrid_edge.engines.opening import choose_runtime, open_engine
from rrid_edge.engines.runtime_choice import RuntimeChoice

__all__ = ["Engine", "FakeEngine", "RuntimeChoice", "choose_runtime", "open_engine"]
