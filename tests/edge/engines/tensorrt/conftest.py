"""Fixtures of all tests of this folder."""

from support.tensorrt_worlds import recent, world

__all__ = ["recent", "world"]
