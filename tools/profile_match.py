"""Trace one match: the rooms of rrid_edge that it enters, the calls between them, and what it opens or reads twice.

A room is a package of rrid_edge (cli, engines/openvino, gallery/local ...) or a loose module (matching, errors ...). A
match enters a room when it calls one of its functions; imports do not count. A move is a call from one room to another.
Index the gallery first: rrid-edge index GALLERY --model MODEL

Run: python tools/profile_match.py MODEL QUERY GALLERY [--json]
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib
import inspect
import io
import json
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import rrid_edge
from rrid_edge.cli.app import run

PACKAGE_FOLDER = Path(rrid_edge.__file__).parent
COUNTED = {
    "opened": (("gallery.local.database", "ReadPool.__init__"), ("gallery.milvus.client", "Connection.__init__")),
    "facts_read": (("gallery.local.facts", "read_facts"), ("gallery.milvus.collection", "read_facts")),
    "headers_parsed": (("model.onnx_header", "_parse_model"),),
}
"""Functions whose calls are counted, by the attribute of :class:`Trace`."""


@dataclass
class Trace:
    """The calls of one match.

    Attributes:
        code: exit code.
        rooms: number of calls into each room from another one.
        moves: number of calls from one room to another, by ``from > to``.
        modules: modules whose functions were called.
        opened: number of times the gallery was opened.
        facts_read: number of times the gallery's facts were read.
        headers_parsed: number of times the header of the model file was parsed.
    """

    code: int = 0
    rooms: dict[str, int] = field(default_factory=dict)
    moves: dict[str, int] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)
    opened: int = 0
    facts_read: int = 0
    headers_parsed: int = 0


def room_of(module: str) -> str:
    """The room of a module, by its path in the package: ``gallery/local/store.py`` lies in ``gallery/local``."""
    folder, _, file = module.rpartition("/")
    return folder or file.removesuffix(".py")


class Observer:
    """Counts calls of Python functions in all threads: a profile function for ``sys`` and ``threading``."""

    def __init__(self) -> None:
        self.calls: collections.Counter[CodeType] = collections.Counter()
        self.moves: collections.Counter[tuple[str, str]] = collections.Counter()
        self._modules: dict[CodeType, str | None] = {}

    def __call__(self, frame: FrameType, event: str, _value: object) -> None:
        """Count a call of a function of rrid_edge, by the room of its caller."""
        if event != "call" or self.module_of(frame.f_code) is None:
            return
        caller = frame.f_back
        while caller is not None and self.module_of(caller.f_code) is None:
            if caller.f_code.co_name == "<module>" and caller.f_code.co_filename.startswith(str(PACKAGE_FOLDER)):
                return  # an import
            caller = caller.f_back
        self.calls[frame.f_code] += 1
        origin = "start" if caller is None else room_of(str(self.module_of(caller.f_code)))
        self.moves[origin, room_of(str(self.module_of(frame.f_code)))] += 1

    def module_of(self, code: CodeType) -> str | None:
        """The module of a function of rrid_edge, by its path in the package; None for all other code."""
        if code not in self._modules:
            path = Path(code.co_filename)
            own = bool(code.co_flags & inspect.CO_OPTIMIZED) and path.is_relative_to(PACKAGE_FOLDER)
            self._modules[code] = path.relative_to(PACKAGE_FOLDER).as_posix() if own else None
        return self._modules[code]

    def trace(self, code: int) -> Trace:
        """The calls counted so far."""
        trace = Trace(code, modules=sorted({str(self.module_of(called)) for called in self.calls}))
        for (origin, room), count in self.moves.most_common():
            if origin != room:
                trace.rooms[room] = trace.rooms.get(room, 0) + count
                trace.moves[f"{origin} > {room}"] = count
        for name, functions in COUNTED.items():
            setattr(trace, name, sum(self.calls[code_of(*function)] for function in functions))
        return trace


def code_of(module: str, name: str) -> CodeType:
    """The code of a function, by its module and qualified name in rrid_edge."""
    value: Any = importlib.import_module(f"rrid_edge.{module}")
    for part in name.split("."):
        value = getattr(value, part)
    code: CodeType = value.__code__
    return code


def observe(arguments: list[str]) -> Trace:
    """Run the command line with ``arguments`` in this process, and trace it."""
    observer = Observer()
    threading.setprofile(observer)
    sys.setprofile(observer)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            code = run(arguments)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return observer.trace(code)


def main() -> None:
    """Trace one match and print its calls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("query", type=Path)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    options = parser.parse_args()
    trace = observe(["match", str(options.query), str(options.gallery), "--model", str(options.model)])
    if options.json:
        print(json.dumps(asdict(trace), indent=2))
        return
    for move, count in trace.moves.items():
        print(f"{count:>6}  {move}")
    print(f"{len(trace.rooms)} rooms: {', '.join(sorted(trace.rooms))}")
    print(f"{len(trace.modules)} modules entered, {len(trace.moves)} kinds of moves, {sum(trace.moves.values())} moves")
    print(
        f"gallery opened {trace.opened} x, its facts read {trace.facts_read} x, the model's header "
        f"{trace.headers_parsed} x"
    )
    sys.exit(trace.code)


if __name__ == "__main__":
    main()
