"""An interpreter for pickles that cannot run code.

It reads the instructions with :func:`pickletools.genops`, which only splits them, and carries them out on plain lists,
dictionaries and the records of :mod:`rrid_train.weight_files.records`. Names of classes and functions stay names. The
few calls that build tensors, arrays and plain values are in :mod:`rrid_train.weight_files.calls`; every other call is
refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from rrid_train.weight_files.calls import Nested, build, call, extend, make_instance, set_entries
from rrid_train.weight_files.names import runs_programs
from rrid_train.weight_files.records import Reference, RefusedError
from rrid_train.weight_files.streams import Stream

MAX_INSTRUCTIONS: Final = 1_000_000
"""Most instructions of one file. A pickled ResNet-152 with its optimiser has about 100,000."""


_MAX_NAME = 1000


@dataclass
class Budget:
    """Instructions that one file has left, over all of its pickles."""

    left: int = MAX_INSTRUCTIONS

    def spend(self, count: int = 1) -> None:
        """Take some; a call costs as many as there are values in its arguments.

        Raises:
            ValueError: none is left.
        """
        self.left -= count
        if self.left < 0:
            raise ValueError(f"it has more than {MAX_INSTRUCTIONS:,} instructions")


def _no_storages(_identity: object) -> object:
    raise RefusedError("refers to data outside the file")


def read_pickle(
    stream: Stream,
    budget: Budget,
    *,
    persistent: Callable[[object], object] = _no_storages,
    nested: Nested | None = None,
) -> object:
    """Read one pickle; the stream is left behind it.

    Args:
        stream: the pickle.
        budget: instructions that may still be carried out.
        persistent: gives the object for a persistent identity; by default there are none.
        nested: reads the storage that a plain pickle holds as bytes; None refuses these.

    Raises:
        RefusedError: it calls or refers to something that no weight file needs.
        ValueError: it is damaged.
    """
    machine = _Machine(budget, persistent, nested)
    try:
        for opcode, argument, _position in pickletools.genops(cast("Any", stream)):
            budget.spend()
            machine.step(opcode.name, argument)
    except (IndexError, KeyError, OverflowError, MemoryError) as error:
        raise ValueError(f"the pickle is damaged ({type(error).__name__})") from error
    except TypeError as error:
        raise ValueError("the pickle combines values that do not fit") from error
    if machine.suspicious is not None:
        raise RefusedError(f"refers to {machine.suspicious}")
    return machine.result


class _Machine:
    """Stack and memory of one pickle."""

    def __init__(self, budget: Budget, persistent: Callable[[object], object], nested: Nested | None) -> None:
        self._budget = budget
        self._stack: list[object] = []
        self._marked: list[list[object]] = []
        self._memory: dict[object, object] = {}
        self._persistent, self._nested = persistent, nested
        self.suspicious: Reference | None = None
        self.result: object = None

    def step(self, name: str, argument: object) -> None:
        """Carry out one instruction."""
        if name in _VALUES:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _NEW:
            self._stack.append(_NEW[name]())
        else:
            action = _ACTIONS.get(name)
            if action is None:
                raise RefusedError(f"uses the instruction {name}, which no weight file needs")
            action(self, argument)

    def _pop(self) -> object:
        return self._stack.pop()

    def _pop_marked(self) -> list[object]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _mark(self, _argument: object) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _drop(self, _argument: object) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_marked()

    def _drop_marked(self, _argument: object) -> None:
        self._pop_marked()

    def _duplicate(self, _argument: object) -> None:
        self._stack.append(self._stack[-1])

    def _stop(self, _argument: object) -> None:
        self.result = self._pop()

    def _get(self, argument: object) -> None:
        self._stack.append(self._memory[argument])

    def _put(self, argument: object) -> None:
        self._memory[argument] = self._stack[-1]

    def _memorise(self, _argument: object) -> None:
        self._memory[len(self._memory)] = self._stack[-1]

    def _tuple(self, count: int) -> None:
        items = tuple(self._pop() for _ in range(count))
        self._stack.append(items[::-1])

    def _marked_tuple(self, _argument: object) -> None:
        items = self._pop_marked()
        self._stack.append(tuple(items))

    def _marked_list(self, _argument: object) -> None:
        items = self._pop_marked()
        self._stack.append(list(items))

    def _marked_dictionary(self, _argument: object) -> None:
        items, found = self._pop_marked(), dict[object, object]()
        self._stack.append(found)
        set_entries(found, items)

    def _append(self, _argument: object) -> None:
        item = self._pop()
        extend(self._stack[-1], [item])

    def _append_marked(self, _argument: object) -> None:
        items = self._pop_marked()
        extend(self._stack[-1], items)

    def _set(self, _argument: object) -> None:
        value, key = self._pop(), self._pop()
        set_entries(self._stack[-1], [key, value])

    def _set_marked(self, _argument: object) -> None:
        items = self._pop_marked()
        set_entries(self._stack[-1], items)

    def _name(self, argument: object) -> None:
        module, _, name = str(argument).partition(" ")
        self._refer(module, name)

    def _name_from_stack(self, _argument: object) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise RefusedError("refers to something that has no name")
        self._refer(module, name)

    def _refer(self, module: str, name: str) -> None:
        if len(module) + len(name) > _MAX_NAME:
            raise RefusedError("refers to a name that is too long")
        reference = Reference(module, name)
        if self.suspicious is None and runs_programs(reference):
            self.suspicious = reference
        self._stack.append(reference)

    def _call(self, _argument: object) -> None:
        arguments, function = self._pop(), self._pop()
        self._pay(arguments)
        if not isinstance(arguments, tuple):
            raise ValueError("a call has no arguments")
        self._stack.append(call(function, arguments, self._nested))

    def _build(self, _argument: object) -> None:
        state = self._pop()
        self._pay(state)
        build(self._stack[-1], state)

    def _instance(self, argument: object) -> None:
        self._pop_marked()
        raise RefusedError(f"tries to call {str(argument).replace(' ', '.')}")

    def _instance_from_stack(self, _argument: object) -> None:
        items = self._pop_marked()
        raise RefusedError(f"tries to call {items[0] if isinstance(items[0], Reference) else 'an object'}")

    def _new_instance(self, _argument: object) -> None:
        arguments, kind = self._pop(), self._pop()
        self._pay(arguments)
        self._stack.append(make_instance(kind, arguments))

    def _new_instance_by_keywords(self, _argument: object) -> None:
        self._pop()
        self._new_instance(None)

    def _pay(self, values: object) -> None:
        """Pay for values that a call looks at: one value may be given to any number of calls."""
        self._budget.spend(len(values) if isinstance(values, tuple | list | dict) else 0)
        if isinstance(values, tuple):
            self._budget.spend(sum(len(value) for value in values if isinstance(value, tuple | list | dict)))

    def _persistent_text(self, argument: object) -> None:
        self._stack.append(self._persistent(argument))

    def _persistent_object(self, _argument: object) -> None:
        self._stack.append(self._persistent(self._pop()))

    def _nothing(self, _argument: object) -> None:
        """PROTO and FRAME say nothing that is needed."""


_VALUES_TEXT = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BYTEARRAY8 UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT BINFLOAT"
)
_VALUES = frozenset(_VALUES_TEXT.split())
_CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NEW: dict[str, Callable[[], object]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list}
_ACTIONS: dict[str, Callable[[_Machine, object], None]] = {
    "PROTO": _Machine._nothing,
    "FRAME": _Machine._nothing,
    "STOP": _Machine._stop,
    "MARK": _Machine._mark,
    "POP": _Machine._drop,
    "POP_MARK": _Machine._drop_marked,
    "DUP": _Machine._duplicate,
    "GET": _Machine._get,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "PUT": _Machine._put,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memorise,
    "TUPLE": _Machine._marked_tuple,
    "TUPLE1": lambda machine, _: machine._tuple(1),
    "TUPLE2": lambda machine, _: machine._tuple(2),
    "TUPLE3": lambda machine, _: machine._tuple(3),
    "LIST": _Machine._marked_list,
    "FROZENSET": _Machine._marked_list,
    "DICT": _Machine._marked_dictionary,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._append_marked,
    "ADDITEMS": _Machine._append_marked,
    "SETITEM": _Machine._set,
    "SETITEMS": _Machine._set_marked,
    "GLOBAL": _Machine._name,
    "STACK_GLOBAL": _Machine._name_from_stack,
    "REDUCE": _Machine._call,
    "BUILD": _Machine._build,
    "INST": _Machine._instance,
    "OBJ": _Machine._instance_from_stack,
    "NEWOBJ": _Machine._new_instance,
    "NEWOBJ_EX": _Machine._new_instance_by_keywords,
    "PERSID": _Machine._persistent_text,
    "BINPERSID": _Machine._persistent_object,
}
