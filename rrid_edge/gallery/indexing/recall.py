"""How much a fast search misses, measured on the gallery itself."""

from __future__ import annotations

import numpy as np

from rrid_edge.gallery.base import Gallery

RECALL_AT = 10
RECALL_QUERIES = 200


def measure_recall(gallery: Gallery) -> float:
    """Mean share of the exact first :data:`RECALL_AT` crops that a fast search finds, in [0, 1].

    Queries are :data:`RECALL_QUERIES` crops of the gallery, evenly spaced by path; each finds itself, which is left out.
    An empty gallery gives 1.
    """
    rows = gallery.rows()
    if len(rows) < 2:
        return 1.0
    chosen = [rows[index] for index in np.linspace(0, len(rows) - 1, min(RECALL_QUERIES, len(rows))).astype(int)]
    queries = gallery.vectors(chosen)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    exact, fast = (gallery.search(queries, RECALL_AT + 1, fast=way) for way in (False, True))
    shares = []
    for row, right, found in zip(chosen, exact.hits, fast.hits, strict=True):
        wanted = {hit.row.path for hit in right if hit.row.path != row.path}
        shares.append(len(wanted & {hit.row.path for hit in found}) / len(wanted))
    return float(np.mean(shares))
