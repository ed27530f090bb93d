"""What ``with`` does for everything here that holds something until it is closed."""

from __future__ import annotations

from types import TracebackType

from typing_extensions import Self


class Closing:
    """A context manager that closes itself when it is left. Leave :meth:`close` to the class that holds something."""

    def close(self) -> None:
        """Free what is held; safe to call twice."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
