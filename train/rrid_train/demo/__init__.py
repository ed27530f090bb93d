"""Drawn people: a seeded dataset with near-twins for the demo and the tests."""
