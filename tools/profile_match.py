"""The way of one query through the rooms of rrid_edge: which are entered, how they call each other, what is read twice.

A room is a package of rrid_edge (cli, engines, engines/openvino, gallery/local ...) or a loose module (matching, errors
...). It is entered when one of its functions is called; importing a module does not count. A move is a call from one
room to another. The gallery must be indexed: run `rrid-edge index GALLERY --model MODEL` first.

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

HOUSE = Path(rrid_edge.__file__).parent
COUNTED = {
    "opened": (("gallery.local.catalogue", "_connect"), ("gallery.milvus.client", "Connection.__init__")),
    "facts_read": (("gallery.local.catalogue", "_read_facts"), ("gallery.milvus.collection", "read_facts")),
    "headers_parsed": (("model.onnx_header", "_parse_model"),),
}
"""What is counted, and the functions whose calls it is."""


@dataclass
class Journey:
    """What one match did.

    Attributes:
        code: its exit code.
        rooms: calls into each room from another one.
        moves: calls from one room to another, as ``from > to``.
        modules: modules whose functions were called.
        opened: how often the gallery was opened.
        facts_read: how often the gallery's facts were read.
        headers_parsed: how often the header of the model file was parsed.
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
    """Sees every call of Python functions in all threads; a profile function for ``sys`` and ``threading``."""

    def __init__(self) -> None:
        self.calls: collections.Counter[CodeType] = collections.Counter()
        self.moves: collections.Counter[tuple[str, str]] = collections.Counter()
        self._modules: dict[CodeType, str | None] = {}

    def __call__(self, frame: FrameType, event: str, _value: object) -> None:
        """Note a call of a function of rrid_edge, and the room that it came from."""
        if event != "call" or self.module_of(frame.f_code) is None:
            return
        caller = frame.f_back
        while caller is not None and self.module_of(caller.f_code) is None:
            if caller.f_code.co_name == "<module>" and caller.f_code.co_filename.startswith(str(HOUSE)):
                return  # while a module is imported
            caller = caller.f_back
        self.calls[frame.f_code] += 1
        origin = "start" if caller is None else room_of(str(self.module_of(caller.f_code)))
        self.moves[origin, room_of(str(self.module_of(frame.f_code)))] += 1

    def module_of(self, code: CodeType) -> str | None:
        """The module of a function of rrid_edge, by its path in the package; None for all other code."""
        if code not in self._modules:
            path = Path(code.co_filename)
            own = bool(code.co_flags & inspect.CO_OPTIMIZED) and path.is_relative_to(HOUSE)
            self._modules[code] = path.relative_to(HOUSE).as_posix() if own else None
        return self._modules[code]

    def journey(self, code: int) -> Journey:
        """What was seen."""
        found = Journey(code, modules=sorted({str(self.module_of(called)) for called in self.calls}))
        for (origin, room), count in self.moves.most_common():
            if origin != room:
                found.rooms[room] = found.rooms.get(room, 0) + count
                found.moves[f"{origin} > {room}"] = count
        for name, functions in COUNTED.items():
            setattr(found, name, sum(self.calls[code_of(*function)] for function in functions))
        return found


def code_of(module: str, name: str) -> CodeType:
    """The code of a function by its module and name in rrid_edge."""
    found: Any = importlib.import_module(f"rrid_edge.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    code: CodeType = found.__code__
    return code


def observe(arguments: list[str]) -> Journey:
    """Run the command line with ``arguments`` in this process, and watch it."""
    observer = Observer()
    threading.setprofile(observer)
    sys.setprofile(observer)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            code = run(arguments)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return observer.journey(code)


def main() -> None:
    """Watch one match and print what it did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("query", type=Path)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    options = parser.parse_args()
    found = observe(["match", str(options.query), str(options.gallery), "--model", str(options.model)])
    if options.json:
        print(json.dumps(asdict(found), indent=2))
        return
    for move, count in found.moves.items():
        print(f"{count:>6}  {move}")
    print(f"{len(found.rooms)} rooms: {', '.join(sorted(found.rooms))}")
    print(f"{len(found.modules)} modules entered, {len(found.moves)} kinds of moves, {sum(found.moves.values())} moves")
    print(
        f"gallery opened {found.opened} x, its facts read {found.facts_read} x, the model's header "
        f"{found.headers_parsed} x"
    )
    sys.exit(found.code)


if __name__ == "__main__":
    main()
