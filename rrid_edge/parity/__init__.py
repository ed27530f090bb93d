"""Parity: whether an engine gives the descriptors of its reference."""
