"""A model: its spec, its file names, readers of its files, and the choice of a model."""
