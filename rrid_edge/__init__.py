"""rrid-edge: person re-identification (RRID) from a trained network to verified deployment.

The names below are the ones to build on; ``docs/python.md`` shows each of them in a program. They are imported on first
use, so ``import rrid_edge`` costs neither NumPy nor a runtime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from rrid_edge.crops.images import read_image
    from rrid_edge.embedding.embedder import Embedder
    from rrid_edge.embedding.pipeline import embed_files
    from rrid_edge.embedding.queries import Query
    from rrid_edge.engines.base import Engine
    from rrid_edge.engines.fake import FakeEngine
    from rrid_edge.engines.opening import open_engine
    from rrid_edge.errors import RridEdgeError
    from rrid_edge.gallery.base import SearchFilter
    from rrid_edge.gallery.indexing.sync import index_folder
    from rrid_edge.gallery.library import Gallery, open_gallery
    from rrid_edge.gallery.searching import Match
    from rrid_edge.matching.ranking import match, match_all
    from rrid_edge.matching.records import MatchResult, MatchSettings
    from rrid_edge.model.choice import choose_model
    from rrid_edge.model.reading import read_any_spec
    from rrid_edge.model.spec import ModelSpec
    from rrid_edge.parity.check import check_parity
    from rrid_edge.parity.goldens import load_goldens
    from rrid_edge.ranking.labels import Labels
    from rrid_edge.ranking.metrics import evaluate_ranking
    from rrid_edge.ranking.rerank import k_reciprocal

__all__ = [
    "Embedder",
    "Engine",
    "FakeEngine",
    "Gallery",
    "Labels",
    "Match",
    "MatchResult",
    "MatchSettings",
    "ModelSpec",
    "Query",
    "RridEdgeError",
    "SearchFilter",
    "__version__",
    "check_parity",
    "choose_model",
    "embed_files",
    "evaluate_ranking",
    "index_folder",
    "k_reciprocal",
    "load_goldens",
    "match",
    "match_all",
    "open_engine",
    "open_gallery",
    "read_any_spec",
    "read_image",
]

# The module of each name: what the imports above tell type checkers.
_MODULES = {
    "Embedder": "embedding.embedder",
    "Engine": "engines.base",
    "FakeEngine": "engines.fake",
    "Gallery": "gallery.library",
    "Labels": "ranking.labels",
    "Match": "gallery.searching",
    "MatchResult": "matching.records",
    "MatchSettings": "matching.records",
    "ModelSpec": "model.spec",
    "Query": "embedding.queries",
    "RridEdgeError": "errors",
    "SearchFilter": "gallery.base",
    "check_parity": "parity.check",
    "choose_model": "model.choice",
    "embed_files": "embedding.pipeline",
    "evaluate_ranking": "ranking.metrics",
    "index_folder": "gallery.indexing.sync",
    "k_reciprocal": "ranking.rerank",
    "load_goldens": "parity.goldens",
    "match": "matching.ranking",
    "match_all": "matching.ranking",
    "open_engine": "engines.opening",
    "open_gallery": "gallery.library",
    "read_any_spec": "model.reading",
    "read_image": "crops.images",
}


if not TYPE_CHECKING:  # a type checker would take every unknown name for one that exists

    def __getattr__(name: str) -> object:
        """Import a public name on first use (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
