"""Damages to structured text: JSON with wrong types, odd numbers, missing keys, deep nesting and control characters."""

from __future__ import annotations

import copy
import json
import random
from typing import Any, Final

from fuzzing.mutations import mutate

_DEEP, _HUGE, _OVERFLOW, _BAD_UTF8 = "@deep@", "@huge@", "@overflow@", "@utf8@"
_RAW: Final = {
    f'"{_DEEP}"': "[" * 100_000 + "]" * 100_000,
    f'"{_HUGE}"': "9" * 5000,
    f'"{_OVERFLOW}"': "1e999",
}
ODD_TEXTS: Final = (
    *(
        "",
        " ",
        "0",
        "nan",
        "x" * 20_000,
        "\0",
        "\x1b[31mred\x1b[0m",
        "a\nb\r\n",
        "../../../../etc/passwd",
        "/etc/passwd",
    ),
    *(
        "\ud800",
        "\u202e\u2066",
        "auto",
        "1e400",
        "-1",
        "{}",
        "[1,2",
        "sha256",
        "http://192.0.2.1/x",
        "\x9b31m",
        "ü" * 300,
    ),
)
_ODD_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, -1, 0, 1, 2, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, -(2**63), 1.5, 1e308, -0.0, 1e-320),
    *(float("nan"), float("inf"), -float("inf"), [], {}, [[]], [None], {"": None}, [0] * 5000, [[[]]] * 3, "5", "true"),
    *(_DEEP, _HUGE, _OVERFLOW, _BAD_UTF8, *ODD_TEXTS),
)


def damaged_json(text: bytes, generator: random.Random) -> tuple[bytes, str]:
    """Damage JSON: one to three values, or the bytes of the text.

    Returns:
        The damaged text, and the names of the damages.
    """
    if generator.random() < 0.3:
        return mutate(text, generator, [text])
    values, names = json.loads(text), []
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        values, name = _changed(values, generator)
        names.append(name)
    return as_text(values), "+".join(names)


def as_text(values: object) -> bytes:
    """JSON of values, among them some that JSON does not have."""
    text = json.dumps(values)
    for token, raw in _RAW.items():
        text = text.replace(token, raw)
    return text.encode("utf-8", "surrogatepass").replace(_BAD_UTF8.encode(), b"\xff\xfe")


def odd_value(generator: random.Random) -> Any:  # noqa: ANN401 - any JSON value
    """A value that hardly any file expects."""
    return copy.deepcopy(generator.choice(_ODD_VALUES))  # a later damage may change it


def _changed(values: Any, generator: random.Random) -> tuple[Any, str]:  # noqa: ANN401 - any JSON value
    places = list(_places(values, ()))
    if not places or generator.random() < 0.05:
        return odd_value(generator), "whole"
    *above, key = generator.choice(places)
    holder = values
    for step in above:
        holder = holder[step]
    name = generator.choice(("value", "value", "value", "value", "remove", "rename", "swap", "wrap", "repeat", "kind"))
    _CHANGES[name](holder, key, generator)
    return values, f"{name} {'.'.join(map(str, (*above, key)))}"


def _places(values: Any, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:  # noqa: ANN401 - any JSON value
    if isinstance(values, dict):
        items = list(values.items())
    else:
        items = list(enumerate(values[:20])) if isinstance(values, list) else []
    found: list[tuple[Any, ...]] = []
    for key, value in items:
        found += [(*path, key), *_places(value, (*path, key))]
    return found


def _value(holder: Any, key: Any, generator: random.Random) -> None:  # noqa: ANN401 - a dict or a list
    holder[key] = odd_value(generator)


def _remove(holder: Any, key: Any, _generator: random.Random) -> None:  # noqa: ANN401
    del holder[key]


def _rename(holder: Any, key: Any, generator: random.Random) -> None:  # noqa: ANN401
    value = holder.pop(key)
    if isinstance(holder, dict):
        holder[generator.choice((str(key).upper(), f"{key} ", "", f"{key}\0", "x" * 3000))] = value


def _swap(holder: Any, key: Any, generator: random.Random) -> None:  # noqa: ANN401
    other = generator.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[key], holder[other] = holder[other], holder[key]


def _wrap(holder: Any, key: Any, generator: random.Random) -> None:  # noqa: ANN401
    holder[key] = generator.choice(([holder[key]], {"value": holder[key]}, str(holder[key]), [holder[key]] * 2))


def _repeat(holder: Any, key: Any, generator: random.Random) -> None:  # noqa: ANN401
    value = holder[key]
    holder[key] = value * generator.choice((2, 100)) if isinstance(value, str | list) else value


def _kind(holder: Any, key: Any, _generator: random.Random) -> None:  # noqa: ANN401
    value = holder[key]
    if isinstance(value, bool) or value is None:
        holder[key] = 1
    elif isinstance(value, int | float):
        holder[key] = str(value)
    elif isinstance(value, str):
        holder[key] = 7
    else:
        holder[key] = {str(index): item for index, item in enumerate(value)} if isinstance(value, list) else list(value)


_CHANGES: Final = {
    "value": _value,
    "remove": _remove,
    "rename": _rename,
    "swap": _swap,
    "wrap": _wrap,
    "repeat": _repeat,
    "kind": _kind,
}


def damaged_toml(text: bytes, generator: random.Random) -> tuple[bytes, str]:
    """Damage TOML: one value, or the bytes of the text."""
    if generator.random() < 0.4:
        return mutate(text, generator, [text])
    lines = text.decode().splitlines()
    index = generator.randrange(len(lines))
    key = lines[index].partition("=")[0].strip()
    raw = (
        "nan",
        "inf",
        "-1",
        "0",
        "1e400",
        "9" * 5000,
        '""',
        '"x"',
        "[]",
        "[1, 'a']",
        "{}",
        "true",
        "1979-05-27",
        "0x7f",
    )
    deep = (
        "[" * 20_000 + "]" * 20_000,
        "{a=" * 5000 + "1" + "}" * 5000,
        '"\\u0000\\u001b[31m"',
        "[" + "1," * 5000 + "]",
    )
    change = generator.choice(("value", "value", "value", "key", "twice", "table"))
    lines[index] = {
        "value": f"{key} = {generator.choice((*raw, *deep))}",
        "key": f"{generator.choice(('x', '', 'a.b.c', chr(34) + chr(92) + 'u001b' + chr(34), key.upper()))} = 1",
        "twice": f"{lines[index]}\n{lines[index]}",
        "table": f"[{key}]\na = 1",
    }[change]
    return "\n".join(lines).encode(), f"{change} {key}"
