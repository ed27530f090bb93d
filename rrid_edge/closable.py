"""A base for classes that hold resources: ``with`` closes them."""

from __future__ import annotations

from types import TracebackType

from typing_extensions import Self


class Closable:
    """A context manager that calls :meth:`close` at its end. Subclasses define :meth:`close`."""

    def close(self) -> None:
        """Free the resources; safe to call twice."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
