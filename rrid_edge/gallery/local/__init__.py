"""A gallery in a folder: SQLite catalogue and vector files."""
