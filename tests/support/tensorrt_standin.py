"""A ``tensorrt`` module whose classes have the members and signatures of one real version, read from its API file.

Anything else raises AttributeError or TypeError, like NVIDIA's own bindings. This module knows only signatures.
``tensorrt_behaviour.py`` holds the behaviour of the members.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

DATA = Path(__file__).parents[1] / "data" / "tensorrt"
VERSIONS = ("8.6.0", "10.3.0", "10.13.3.9", "10.16.1.11", "11.4.0.106")
RTX_GENERATIONS = {"rtx_1.4.0.76": 10, "rtx_1.7.1.116": 11}
"""Versions of TensorRT for RTX: the generation of TensorRT whose API each has."""
RTX_VERSIONS = tuple(RTX_GENERATIONS)
Api = Mapping[str, Mapping[str, str]]
Behaviour = Callable[..., Any]


def read_api(version: str) -> Api:
    """Return ``{class: {member: signature}}`` of one version."""
    return json.loads((DATA / f"api_{version}.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Parameter:
    name: str
    type: str
    optional: bool


@dataclass(frozen=True)
class Signature:
    parameters: tuple[Parameter, ...]
    returns: str


def parse_signatures(text: str) -> list[Signature]:
    """Return the overloads of a method, without ``self``."""
    found = []
    for part in re.split(r" \| (?=\w+\()", text):
        inside, _, returns = part.partition("(")[2].rpartition(") -> ")
        parameters = [_parameter(item) for item in _split(inside)]
        found.append(Signature(tuple(item for item in parameters if item.name not in ("self",)), returns.strip()))
    return found


def property_type(text: str) -> str | None:
    """Return the type of a property, or None if this is not a property. Write-only ones do not tell their type."""
    if not text.startswith("property"):
        return None
    return text.rpartition("-> ")[2] if "-> " in text else "object"


def class_of(text: str, api: Api) -> str | None:
    """Return the class of the stand-in that a type's text means: ``trt.Dims`` or ``nvinfer1::IBuilderConfig``."""
    name = re.split(r"\.|::", text)[-1]
    name = {"IParserError": "ParserError", "IEngineInspector": "EngineInspector"}.get(name, name)
    return name if name in api else None


def is_enum(members: Mapping[str, str]) -> bool:
    return any(text.startswith("= ") for text in members.values())


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for index, char in enumerate(text):
        depth += (char in "([<{") - (char in ")]>}")
        if char == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]


def _parameter(text: str) -> Parameter:
    head, equals, _default = text.partition(" = ")
    name, _, kind = head.partition(":")
    return Parameter(name.strip(), kind.strip(), bool(equals))


class Member:
    """A member of an enum. Like pybind11's enums, it converts to int but is not an int."""

    def __init__(self, owner: str, name: str, value: int) -> None:
        self.owner, self.name, self.value = owner, name, value

    def __int__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"{self.owner}.{self.name}"


def build_module(version: str, behaviour: Mapping[str, Behaviour], log: list[str]) -> ModuleType:
    """Build the stand-in module.

    Args:
        version: one of :data:`VERSIONS` or :data:`RTX_VERSIONS`.
        behaviour: ``"Class.member"`` -> function of the object and the bound arguments. ``"Class.member="`` sets a
            property. A property without a function keeps the value that was set.
        log: gets ``"Class.member"`` for each use.
    """
    api = read_api(version)
    name = "tensorrt_rtx" if version in RTX_VERSIONS else "tensorrt"
    module = ModuleType(name)
    module.__dict__["__version__"] = version.removeprefix("rtx_")
    module.__spec__ = ModuleSpec(name, None)  # importlib.util.find_spec asks for it
    for name, members in api.items():
        if name != "__top_level__":
            made = _enum(name, members) if is_enum(members) else _class(module, name, api, behaviour, log)
            setattr(module, name, made)
    return module


def _enum(name: str, members: Mapping[str, str]) -> type:
    made = type(name, (), {})
    for member, text in members.items():
        if text.startswith("= "):
            value = type("EnumMember", (Member, made), {})(name, member, int(text[2:]))
            setattr(made, member, value)
    return made


def _class(module: ModuleType, name: str, api: Api, behaviour: Mapping[str, Behaviour], log: list[str]) -> type:
    namespace: dict[str, Any] = {}
    for member, text in api[name].items():
        if text.startswith("property"):
            namespace[member] = _property(module, name, member, text, api, behaviour, log)
        elif text.startswith("attr"):
            namespace[member] = Member("Severity", member, int(re.findall(r": (\d+)>", text)[0]))
        elif "(" in text:
            namespace[member] = _method(module, name, member, parse_signatures(text), api, behaviour, log)
    if "__init__" not in namespace:
        namespace["__init__"] = _no_constructor(name)

    def set_attribute(self: object, attribute: str, value: object) -> None:
        # Python subclasses have a dictionary; NVIDIA's own classes have none.
        if type(self) is made and not attribute.startswith("fake_") and not hasattr(made, attribute):
            raise AttributeError(f"tensorrt {module.__version__}: {name} has no attribute {attribute!r}")
        object.__setattr__(self, attribute, value)

    namespace["__setattr__"] = set_attribute
    if name == "Dims":
        namespace["__iter__"] = lambda self: iter(self.fake_shape)
        namespace["__len__"] = lambda self: len(self.fake_shape)
        namespace["__getitem__"] = lambda self, index: self.fake_shape[index]
    if name == "IHostMemory":
        namespace["__bytes__"] = lambda self: self.fake_content
    made = type(name, (module.ILogger,) if name == "Logger" else (), namespace)
    return made


def _no_constructor(name: str) -> Callable[..., None]:
    def refuse(self: object, *_args: object, **_kwargs: object) -> None:
        raise TypeError(f"{name}: No constructor defined!")

    return refuse


def _method(
    module: ModuleType,
    name: str,
    member: str,
    signatures: list[Signature],
    api: Api,
    behaviour: Mapping[str, Behaviour],
    log: list[str],
) -> Callable[..., Any]:
    key = f"{name}.{member}"

    def call(self: object, *args: object, **kwargs: object) -> object:
        log.append(key)
        problems = []
        for signature in signatures:
            try:
                bound = bind(signature, args, kwargs, module, api)
            except TypeError as error:
                problems.append(str(error))
                continue
            if key not in behaviour:
                raise AssertionError(f"the stand-in has no behaviour for {key}")
            answer = behaviour[key](self, **bound)
            check_type(answer, signature.returns, module, api, f"what {key} returns", optional=True)
            return answer
        raise TypeError(f"tensorrt {module.__version__}: {key}: {'; '.join(problems)}")

    return call


def _property(
    module: ModuleType,
    name: str,
    member: str,
    text: str,
    api: Api,
    behaviour: Mapping[str, Behaviour],
    log: list[str],
) -> property:
    key, kind = f"{name}.{member}", property_type(text) or "object"

    def get(self: object) -> object:
        log.append(key)
        if key in behaviour:
            return behaviour[key](self)
        if not hasattr(self, f"fake_{member}"):
            raise AssertionError(f"the stand-in has no behaviour for {key}")
        return getattr(self, f"fake_{member}")

    def set_(self: object, value: object) -> None:
        log.append(f"{key}=")
        check_type(value, kind, module, api, key)
        setattr(self, f"fake_{member}", value)
        behaviour.get(f"{key}=", lambda _self, _value: None)(self, value)

    return property(get, set_ if "(rw)" in text else None)


def bind(
    signature: Signature, args: tuple[object, ...], kwargs: dict[str, object], module: ModuleType, api: Api
) -> dict[str, object]:
    """Return the arguments by name, checked like pybind11.

    Raises:
        TypeError: arguments are too many, unknown, missing, or of another type.
    """
    parameters = signature.parameters
    if len(args) > len(parameters):
        raise TypeError(f"{len(args)} arguments, expected at most {len(parameters)}")
    given = dict(zip((item.name for item in parameters), args, strict=False))
    for name, value in kwargs.items():
        if name in given or name not in {item.name for item in parameters}:
            raise TypeError(f"unexpected argument {name!r}")
        given[name] = value
    for item in parameters:
        if item.name in given:
            check_type(given[item.name], item.type, module, api, item.name)
        elif not item.optional:
            raise TypeError(f"{item.name!r} is missing")
    return given


_SIMPLE: dict[str, Callable[[object], bool]] = {
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "SupportsInt": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "object": lambda value: True,
    "None": lambda value: value is None,
    "buffer": lambda value: isinstance(value, bytes | bytearray | memoryview),
    "tuple": lambda value: isinstance(value, tuple),
    "list": lambda value: isinstance(value, list),
}


def check_type(value: object, kind: str, module: ModuleType, api: Api, what: str, *, optional: bool = False) -> None:
    """Raise TypeError if ``value`` is not of the type that ``kind`` describes."""
    if optional and value is None:
        return
    kind = {"Buffer": "buffer"}.get(kind, kind)
    sequence = re.fullmatch(r"(?:List|list|Sequence)\[(.+)\]", kind)
    if sequence:
        if not isinstance(value, list | tuple):
            raise TypeError(f"{what} is {value!r}, expected {kind}")
        for item in value:
            check_type(item, sequence.group(1), module, api, what)
        return
    if kind in _SIMPLE:
        fits = _SIMPLE[kind](value)
    elif kind.endswith("Severity"):
        fits = isinstance(value, Member)
    else:
        name = class_of(kind, api)
        if name is None:
            raise AssertionError(f"the stand-in does not know the type {kind!r} of {what}")
        fits = isinstance(value, getattr(module, name))
    if not fits:
        raise TypeError(f"{what} is {value!r}, expected {kind}")
