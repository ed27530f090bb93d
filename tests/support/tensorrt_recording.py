"""Reads the classes, members and signatures off NVIDIA's own Python bindings, in the form of ``data/tensorrt``."""

from __future__ import annotations

import re
from types import ModuleType


def recorded(module: ModuleType, classes: list[str]) -> dict[str, dict[str, str]]:
    """Return ``{class: {member: signature}}`` of these classes, as far as the module has them."""
    return {name: _members(getattr(module, name)) for name in classes if hasattr(module, name)}


def _members(kind: type) -> dict[str, str]:
    values = getattr(kind, "__members__", None)
    if values is not None:
        return {name: f"= {int(value)}" for name, value in values.items()}
    found = {name: _text(name, value) for name, value in vars(kind).items() if not name.startswith("_")}
    constructor = _signature(getattr(kind, "__init__").__doc__, "__init__")  # noqa: B009 - of the class
    return found | ({"__init__": constructor} if constructor.startswith("__init__(") else {})


def _text(name: str, value: object) -> str:
    if isinstance(value, property):
        getter = _first_line(value.fget.__doc__ if value.fget is not None else "")
        return f"property ({'rw' if value.fset else 'ro'}) {getter}"
    if isinstance(value, type):
        return f"class {name}"
    return _signature(value.__doc__, name) if callable(value) else f"attr {value!r}"


def _signature(text: str | None, name: str) -> str:
    """Return a method's signature; overloads are joined by `` | ``."""
    if (text or "").strip().startswith(f"{name}(*args, **kwargs)"):
        return " | ".join(map(_first_line, re.findall(rf"^\d+\. ({re.escape(name)}\(.*)$", text or "", re.MULTILINE)))
    return _first_line(text)


def _first_line(text: str | None) -> str:
    line = next(iter((text or "").strip().splitlines()), "").strip()
    line = re.sub(r"\b\w+\.tensorrt(?:_rtx)?\.", "trt.", line)
    return re.sub(r"\b(?:typing_extensions|typing|collections\.abc)\.", "", line)
