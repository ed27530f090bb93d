"""Adapters for other packages. None of those is a dependency: each is imported when it is used."""
