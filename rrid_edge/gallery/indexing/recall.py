"""Recall of the fast search, measured on the gallery's own crops."""

from __future__ import annotations

import numpy as np

from rrid_edge.gallery.contract import ApproximateMoment, GalleryStore
from rrid_edge.progress import step

RECALL_AT = 10
RECALL_QUERIES = 200


@step("measuring the recall")
def measure_recall(gallery: GalleryStore) -> float:
    """Mean share of the exact first :data:`RECALL_AT` crops that a fast search finds, in [0, 1].

    The queries are :data:`RECALL_QUERIES` crops of the gallery, evenly spaced by path. A query's own crop does not
    count. A gallery of fewer than two crops, or one that is always searched exactly, has recall 1.
    """
    with gallery.moment() as moment:
        if not isinstance(moment, ApproximateMoment):
            return 1.0
        rows = moment.rows()
        if len(rows) < 2:
            return 1.0
        indexes = np.linspace(0, len(rows) - 1, min(RECALL_QUERIES, len(rows))).astype(int)
        query_rows = [rows[index] for index in indexes]
        queries = moment.vectors(query_rows)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        exact, fast = (search(queries, RECALL_AT + 1) for search in (moment.search, moment.search_approximately))
    shares = []
    for row, exact_hits, fast_hits in zip(query_rows, exact.hits, fast.hits, strict=True):
        expected = {hit.row.id for hit in exact_hits if hit.row.id != row.id}
        shares.append(len(expected & {hit.row.id for hit in fast_hits}) / len(expected))
    return float(np.mean(shares))
