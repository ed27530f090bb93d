"""The calls that a pickle of tensors needs, each written here: nothing of any other module is called by its name."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch

from rrid_train.weight_files.arrays import (
    array_from_buffer,
    as_numbers,
    empty_array,
    number_type,
    scalar,
    set_array,
    set_byte_order,
)
from rrid_train.weight_files.names import runs_programs
from rrid_train.weight_files.records import (
    TENSOR_TYPES,
    NumberType,
    Reference,
    RefusedError,
    Shell,
    Storage,
    StoredArray,
    StoredTensor,
    Unread,
    plain_key,
    whole_numbers,
)

Nested = Callable[[bytes | str], object]


def call(function: object, arguments: tuple[object, ...], nested: Nested | None) -> object:
    """The value of a call in a pickle.

    Args:
        function: what is called.
        arguments: its arguments.
        nested: reads the storage that a plain pickle holds as bytes; None refuses these.

    Raises:
        RefusedError: the call is none that a weight file needs.
        ValueError: the arguments do not fit.
    """
    if not isinstance(function, Reference):
        raise RefusedError("tries to call an object")
    module = function.module.replace("numpy._core", "numpy.core")
    if (module, function.name) == ("torch.storage", "_load_from_bytes") and nested is not None:
        content = arguments[0] if len(arguments) == 1 else None
        if not isinstance(content, bytes | str):
            raise ValueError("a storage is no bytes")
        return nested(content)
    known = _CALLS.get((module, function.name))
    if known is not None:
        return known(*arguments)
    if (module, function.name) in _UNREAD or any(
        module.startswith(place) and name.fullmatch(function.name) for place, name in _UNREAD_FORMS
    ):
        return Unread(str(function))
    raise RefusedError(f"tries to call {function}")


def make_instance(kind: object, arguments: object) -> object:
    """An object of a class that is not imported. Basic types are made; all others are shells.

    Raises:
        RefusedError: the class can run programs, or it is none.
    """
    if not isinstance(kind, Reference):
        raise RefusedError("tries to make an object of something that is no class")
    known = _CALLS.get((kind.module, kind.name))
    if known is not None and isinstance(arguments, tuple):
        return known(*arguments)
    if runs_programs(kind):
        raise RefusedError(f"tries to call {kind}")
    return Shell(str(kind))


def build(target: object, state: object) -> None:
    """Give an object its state, as ``__setstate__`` would.

    Raises:
        RefusedError: the object is a class or function.
        ValueError: the state does not fit.
    """
    if isinstance(target, Reference):
        raise RefusedError(f"tries to change {target}")
    if isinstance(target, Shell):
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                target.attributes.update({name: value for name, value in part.items() if isinstance(name, str)})
    elif isinstance(target, NumberType):
        set_byte_order(target, state)
    elif isinstance(target, StoredArray):
        set_array(target, state)
    elif not isinstance(target, dict | StoredTensor | Unread | Storage):
        raise ValueError("it gives a state to something that has none")


def extend(target: object, items: list[object]) -> None:
    """Add items to a list.

    Raises:
        ValueError: the target is no list.
    """
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, Shell):
        target.items.extend(items)
    elif not isinstance(target, Unread):
        raise ValueError("it adds items to something that is no list")


def set_entries(target: object, items: list[object]) -> None:
    """Set entries of a dictionary from keys and values in turn.

    Raises:
        ValueError: the target is no dictionary.
    """
    if len(items) % 2:
        raise ValueError("a key has no value")
    pairs = ((plain_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True))
    if isinstance(target, dict):
        target.update(pairs)
    elif isinstance(target, Shell):
        target.entries.update(pairs)
    elif not isinstance(target, Unread):
        raise ValueError("it sets entries of something that is no dictionary")


def _tensor(
    storage: object, offset: object, size: object, stride: object, *_gradients: object, dtype: torch.dtype | None = None
) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise ValueError("a tensor has no storage")
    whole_numbers(offset)
    assert isinstance(offset, int)
    return StoredTensor(storage, offset, as_numbers(size), as_numbers(stride), dtype or storage.dtype)


def _tensor_with_type(*arguments: object) -> object:
    """``_rebuild_tensor_v3``: the type is an argument of its own."""
    reference = arguments[6]
    dtype = TENSOR_TYPES.get(reference.name) if isinstance(reference, Reference) else None
    return _tensor(*arguments[:4], dtype=dtype) if dtype is not None else Unread("a tensor of an unknown type")


def _parameter(tensor: object, *_rest: object) -> object:
    if not isinstance(tensor, StoredTensor | Unread):
        raise ValueError("a parameter is no tensor")
    return tensor


def _tensor_of_class(function: object, _kind: object, arguments: object, _state: object) -> object:
    if not isinstance(arguments, tuple):
        raise ValueError("a call has no arguments")
    if isinstance(function, Reference) and function.module != "torch._utils":
        raise RefusedError(f"tries to call {function}")
    return call(function, arguments, None)


def _dictionary(*arguments: object) -> dict[object, object]:
    pairs = arguments[0] if arguments else ()
    if isinstance(pairs, dict):
        return pairs
    found: dict[object, object] = {}
    for pair in _list(pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError("an entry of a dictionary is no pair")
        found[plain_key(pair[0])] = pair[1]
    return found


def _with_default(*arguments: object) -> dict[object, object]:
    """``defaultdict``: what it makes for missing keys is not kept."""
    return _dictionary(*arguments[1:])


def _list(*arguments: object) -> list[object]:
    items = arguments[0] if arguments else ()
    if not isinstance(items, list | tuple):
        raise ValueError("a list is made of something that is none")
    return list(items)


def _sequence(*arguments: object) -> tuple[object, ...]:
    return tuple(_list(*arguments))


def _byte_values(*arguments: object) -> object:
    """Bytes as they are, or the text that holds them: nothing is copied."""
    content = arguments[0] if arguments else b""
    if not isinstance(content, str | bytes | bytearray):
        raise ValueError("a value has no bytes")
    return content


def _encoded(text: object, encoding: object = "latin1") -> object:
    """How Python 3 stores bytes for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise RefusedError("tries to call _codecs.encode")
    return text


def _old_instance(kind: object, base: object, state: object) -> object:
    """``copyreg._reconstructor``, which protocols 0 and 1 use."""
    made = make_instance(kind, ())
    if isinstance(made, Shell) and isinstance(base, Reference):
        if isinstance(state, dict):
            made.entries.update(state)
        elif isinstance(state, list):
            made.items.extend(state)
    return made


def _new_instance(kind: object, *arguments: object) -> object:
    return make_instance(kind, arguments)


def _new_instance_by_keywords(kind: object, arguments: object, _keywords: object) -> object:
    return make_instance(kind, arguments)


def _complex(*parts: object) -> object:
    return Unread("complex")


def _both(
    modules: tuple[str, str], names: dict[str, Callable[..., object]]
) -> dict[tuple[str, str], Callable[..., object]]:
    return {(module, name): function for module in modules for name, function in names.items()}


_CALLS: dict[tuple[str, str], Callable[..., object]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_with_type,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _tensor_of_class,
    ("torch", "Size"): _sequence,
    ("collections", "OrderedDict"): _dictionary,
    ("collections", "defaultdict"): _with_default,
    ("collections", "Counter"): _dictionary,
    ("collections", "deque"): _list,
    ("_codecs", "encode"): _encoded,
    ("numpy", "dtype"): number_type,
    ("numpy.core.multiarray", "_reconstruct"): empty_array,
    ("numpy.core.multiarray", "scalar"): scalar,
    ("numpy.core.numeric", "_frombuffer"): array_from_buffer,
    **_both(
        ("builtins", "__builtin__"),
        {
            "set": _list,
            "frozenset": _list,
            "list": _list,
            "tuple": _sequence,
            "dict": _dictionary,
            "bytes": _byte_values,
            "bytearray": _byte_values,
            "complex": _complex,
        },
    ),
    **_both(
        ("copyreg", "copy_reg"),
        {
            "_reconstructor": _old_instance,
            "__newobj__": _new_instance,
            "__newobj_ex__": _new_instance_by_keywords,
        },
    ),
}

_UNREAD_FORMS = (
    ("torch._utils", re.compile(r"_rebuild_\w+")),  # sparse, quantised and other tensors
    ("numpy.random.", re.compile(r"__\w+_ctor|__pyx_unpickle_\w+")),  # states of generators
)
_UNREAD = frozenset(
    (module, name)
    for module, names in {
        "pathlib": "Path PurePath PosixPath WindowsPath PurePosixPath PureWindowsPath",
        "pathlib._local": "Path PurePath PosixPath WindowsPath PurePosixPath PureWindowsPath",
        "datetime": "datetime date time timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "uuid": "UUID",
        "types": "SimpleNamespace",
        "functools": "partial",
        "random": "Random",
        "torch": "device",
        "torch.serialization": "_get_layout",
        "builtins": "slice range",
    }.items()
    for name in names.split()
)
