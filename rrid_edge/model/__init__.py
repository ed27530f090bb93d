"""A model: its facts, its file names, the reader of its files, and the choice between several."""
