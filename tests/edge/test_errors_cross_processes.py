"""Every error of the four packages goes through pickle and copy unchanged, as it must to leave a worker process."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from rrid_edge.errors import ClosedError, ImageError, RridEdgeError, UsageError

PACKAGES = ("rrid_edge", "rrid_train", "rrid_export", "rrid_calib")


class _OddError(UsageError):
    """Takes other arguments than its base, and keeps some."""

    def __init__(self, first: int, *, second: list[str]) -> None:
        super().__init__(f"{first} of {second}", parameter=("first", "second"))
        self.first, self.second = first, second


def _all_classes() -> list[type[RridEdgeError]]:
    """The classes of all modules that can be imported here."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                _import_if_possible(module.name)
    return list(_below(RridEdgeError))


def _import_if_possible(name: str) -> None:
    """Import a module. Those of runtimes that are not installed define no class without them."""
    try:
        importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").startswith(PACKAGES):
            raise


def _below(kind: type[RridEdgeError]) -> Iterator[type[RridEdgeError]]:
    for found in kind.__subclasses__():
        yield found
        yield from _below(found)


def _example(kind: type[RridEdgeError]) -> RridEdgeError:
    if issubclass(kind, ImageError):
        return kind("folder/\ud880.jpg", "it is cut;\n copy it again")
    if kind.__name__ == "OtherProcessError":
        return kind(ClosedError("a gallery"))  # type: ignore[arg-type]
    if issubclass(kind, ClosedError):
        return kind("the gallery crops/")
    if issubclass(kind, _OddError):
        return kind(3, second=["a", "b"])
    return kind("what is wrong: what was expected; what to do", parameter=("one", "two"))


@pytest.mark.parametrize("way", ["copy", "deepcopy", 2, pickle.HIGHEST_PROTOCOL])
def test_every_error_is_the_same_after_pickle_and_copy(way: str | int) -> None:
    kinds = _all_classes()
    assert {ImageError, ClosedError, _OddError} < set(kinds)
    assert len(kinds) >= 20
    for kind in kinds:
        error = _example(kind)
        error.seen_at = "a place"  # type: ignore[attr-defined]
        again = getattr(copy, way)(error) if isinstance(way, str) else pickle.loads(pickle.dumps(error, way))
        assert type(again) is kind
        assert (again.message, again.parameters, again.exit_code) == (error.message, error.parameters, error.exit_code)
        assert again.args == error.args
        assert again.__dict__ == error.__dict__, kind
        assert str(again) == str(error)


def _fail() -> None:
    raise _OddError(7, second=["x"])


def test_an_error_leaves_a_worker_process_whole() -> None:
    with ProcessPoolExecutor(1) as pool, pytest.raises(_OddError, match=r"7 of \['x'\]") as caught:
        pool.submit(_fail).result()
    assert (caught.value.first, caught.value.second, caught.value.parameters) == (7, ["x"], ("first", "second"))
