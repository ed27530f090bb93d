"""One bad item never costs its neighbours: reasons that may be those of one item, and storing one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from rrid_edge.errors import RridEdgeError, UsageError, unforeseen

Item = TypeVar("Item")
_TOO_MANY: Final = 16
"""If so many items are stored one by one and all fail, the reason is none of theirs."""


def reason_of_item(error: Exception) -> str | None:
    """Why one item failed, in one line; None for an error that stops the work, such as a full disk.

    Refusals of a value and exceptions that nobody foresaw may be those of one item.
    """
    if type(error) is UsageError:
        return error.message
    return None if isinstance(error, RridEdgeError) else unforeseen(error)


def store_each(store: Callable[[Sequence[Item]], object], items: Sequence[Item]) -> list[tuple[Item, str]]:
    """Store items in one call or, if that fails for a reason that may be one item's, one by one.

    Args:
        store: stores all given items, or none and raises.
        items: at least one.

    Returns:
        The items that failed, with the reason.
    """
    try:
        store(items)
    except Exception as error:
        if reason_of_item(error) is None:
            raise
        failed = []
        for item in items:
            try:
                store([item])
            except Exception as alone:
                if (reason := reason_of_item(alone)) is None:
                    raise
                failed.append((item, reason))
        if len(failed) == len(items) >= _TOO_MANY:
            raise
        return failed
    return []
