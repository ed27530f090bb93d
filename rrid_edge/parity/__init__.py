"""Parity: proof that an engine answers as its reference does."""
