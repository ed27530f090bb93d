"""What joining a cluster leaves alone in this process."""

from __future__ import annotations

import signal

import pytest

from rrid_edge.gallery.bulk.reaching import keeping_signals


def test_handlers_are_those_from_before_also_after_a_failure():
    def join(fails: bool) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if fails:
            raise RuntimeError("no cluster")

    def own(_number: int, _frame: object) -> None:
        """Nothing happens."""

    before = {number: signal.signal(number, own) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        keeping_signals(join)(False)
        with pytest.raises(RuntimeError, match="no cluster"):
            keeping_signals(join)(fails=True)
        assert [signal.getsignal(number) for number in before] == [own, own]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
