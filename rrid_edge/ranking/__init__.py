"""Rankings: metrics, re-ranking, score thresholds."""
