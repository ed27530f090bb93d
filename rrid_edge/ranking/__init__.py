"""Rankings: evaluation, re-ranking, score thresholds."""
