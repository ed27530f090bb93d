"""People of a gallery: suggested groups, confirmed names, verdicts, and queries that are kept for a day."""
