"""Demo data: a seeded dataset of drawn people, with near-twins, for the demo and the tests."""
