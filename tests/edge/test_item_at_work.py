"""Tests of the parts of errors that every command uses: the item at work and reasons of one line."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from rrid_edge.errors import ImageError, UnexpectedError, item_at_work, item_of, unforeseen


class _UnspeakableError(Exception):
    def __str__(self) -> str:
        raise ValueError


def _fail_again() -> None:
    try:
        with item_at_work("inner"):
            raise KeyError("x")
    except KeyError as error:
        raise RuntimeError("while reading") from error


def test_the_innermost_item_is_remembered() -> None:
    with pytest.raises(ZeroDivisionError) as caught, item_at_work("gallery"), item_at_work(Path("crops/a\n.jpg")):
        _ = 1 / 0
    assert item_of(caught.value) == "crops/a\\n.jpg"


def test_an_item_survives_a_chained_exception_and_a_process() -> None:
    with pytest.raises(RuntimeError) as caught, item_at_work("outer"):
        _fail_again()
    assert item_of(caught.value) == "inner"
    with pytest.raises(KeyError) as plain, item_at_work("inner"):
        raise KeyError("x")
    assert item_of(pickle.loads(pickle.dumps(plain.value))) == "inner"


def test_errors_of_the_package_and_interrupts_pass_unchanged() -> None:
    error = ImageError("a.jpg", "damaged")
    with pytest.raises(ImageError) as caught, item_at_work("b.jpg"):
        raise error
    assert caught.value is error
    assert item_of(error) is None
    with pytest.raises(KeyboardInterrupt) as stopped, item_at_work("b.jpg"):
        raise KeyboardInterrupt
    assert item_of(stopped.value) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("boom\n\x1b[31m \u202e\udc80"), "RuntimeError: boom \\x1b[31m \\u202e\\udc80"),
        (MemoryError(), "MemoryError"),
        (_UnspeakableError(), "_UnspeakableError"),
    ],
    ids=["hostile", "empty", "unspeakable"],
)
def test_a_reason_is_one_line_without_control_characters(error: Exception, reason: str) -> None:
    assert unforeseen(error) == reason


def test_a_long_reason_is_cut() -> None:
    reason = unforeseen(ValueError("x" * 5000))
    assert len(reason) == 160
    assert reason.endswith("x…")


def test_an_unexpected_error_has_a_code_of_its_own() -> None:
    error = pickle.loads(pickle.dumps(UnexpectedError("boom")))
    assert (error.exit_code, error.message) == (5, "boom")


class _Panic(BaseException):
    """As libraries in Rust raise them."""


def test_exceptions_of_other_languages_are_remembered():
    with pytest.raises(_Panic) as caught, item_at_work("a.safetensors"):
        raise _Panic("index out of bounds")
    assert item_of(caught.value) == "a.safetensors"


def test_what_the_message_names_anyway_takes_no_room_in_the_reason():
    path = f"/{'deep/' * 60}m.onnx"
    assert unforeseen(RuntimeError(f"load of {path} failed: no scale"), known=path) == (
        "RuntimeError: load of ... failed: no scale"
    )
