"""What all tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def _no_cache_of_the_user():
    """Tests neither use nor fill the user's cache of compiled models; those of the cache name their own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRID_EDGE_CACHE", "off")
        yield
