"""A progress that records its calls and can interrupt like Ctrl-C."""

from __future__ import annotations


class CountedProgress:
    """Records its calls. Raises KeyboardInterrupt in call number ``interrupted_at`` of ``advance``, counted from 1."""

    def __init__(self, interrupted_at: int | None = None) -> None:
        self.total: int | None = None
        self.steps: list[int] = []
        self._interrupted_at = interrupted_at

    @property
    def done(self) -> int:
        return sum(self.steps)

    def start(self, total: int | None) -> None:
        assert self.total is None, "started twice"
        self.total = total

    def advance(self, count: int) -> None:
        assert self.total is not None, "not started"
        self.steps.append(count)
        if len(self.steps) == self._interrupted_at:
            raise KeyboardInterrupt
