"""Keeping a gallery in step with its folder; copying it; measuring its recall."""
