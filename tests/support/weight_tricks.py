"""Instructions of pickles that would run a program, if anything in them were run."""

from __future__ import annotations

import pickle

from support.weight_containers import called, named, text

SHELL = text("touch was_here")
PROGRAM = text("open('was_here', 'w').close()")
SYSTEM = named("os", "system")
_EVIL = pickle.dumps(0)[:-1] + called("os", "system", SHELL) + b"."

TRICKS: dict[str, bytes] = {
    "reduce posix.system": called("posix", "system", SHELL),
    "reduce os.system": called("os", "system", SHELL),
    "reduce os.popen": called("os", "popen", SHELL),
    "reduce subprocess.Popen": called("subprocess", "Popen", SHELL, b"K\x00NNNN\x89\x88"),
    "reduce subprocess.getoutput": called("subprocess", "getoutput", SHELL),
    "eval": called("builtins", "eval", PROGRAM),
    "exec": called("builtins", "exec", PROGRAM),
    "eval of Python 2": called("__builtin__", "eval", PROGRAM),
    "open for writing": called("builtins", "open", text("was_here"), text("w")),
    "io.open": called("io", "open", text("was_here"), text("w")),
    "import": called("builtins", "__import__", text("antigravity")),
    "importlib": called("importlib", "import_module", text("antigravity")),
    "getattr": called("builtins", "getattr", called("builtins", "__import__", text("os")), text("system")),
    "inst": b"(" + SHELL + b"iposix\nsystem\n",
    "obj": b"(" + named("posix", "system") + SHELL + b"o",
    "newobj": named("subprocess", "Popen") + b"(" + SHELL + b"t\x81",
    "newobj with keywords": named("subprocess", "Popen") + b"(" + SHELL + b"t}\x92",
    "stack global": text("os") + text("system") + b"\x93(" + SHELL + b"tR",
    "dotted name": text("torch.serialization") + text("os.system") + b"\x93(" + SHELL + b"tR",
    "dotted builtins": text("torch._utils") + text("__builtins__.eval") + b"\x93(" + PROGRAM + b"tR",
    "dotted class": text("collections") + text("OrderedDict.__reduce__") + b"\x93(" + SHELL + b"tR",
    "extension 1": b"\x82\x01",
    "extension 2": b"\x83\x01\x00",
    "extension 4": b"\x84\x01\x00\x00\x00",
    "persistent text": b"Pwas_here\n",
    "persistent function": SYSTEM + b"Q",
    "persistent module": b"(" + text("module") + SYSTEM + text("f") + PROGRAM + b"tQ",
    "build of a function": SYSTEM + b"}(" + text("__setstate__") + SYSTEM + b"ub",
    "build of a class": named("torch", "Tensor") + b"}(" + text("__setstate__") + SYSTEM + b"ubSYS"[:2],
    "setstate of an instance": named("a", "B") + b")\x81}(" + text("__setstate__") + SYSTEM + b"ub" + SHELL + b"b",
    "slots": named("a", "B") + b")\x81(N}(" + text("__class__") + SYSTEM + b"utb",
    "memory": SYSTEM + b"q\x000h\x00(" + SHELL + b"tR",
    "memory by text": SYSTEM + b"p5\n0g5\n(" + SHELL + b"tR",
    "duplicate": SYSTEM + b"20(" + SHELL + b"tR",
    "_reconstructor": called("copyreg", "_reconstructor", named("subprocess", "Popen"), SHELL, SHELL),
    "__newobj__": called("copyreg", "__newobj__", named("subprocess", "Popen"), SHELL),
    "partial": called("functools", "partial", SYSTEM, SHELL) + b")R",
    "partial alone": called("functools", "partial", SYSTEM, SHELL),
    "attrgetter": called("operator", "attrgetter", text("system")),
    "methodcaller": called("operator", "methodcaller", text("system"), SHELL),
    "map": called("builtins", "list", called("builtins", "map", SYSTEM, b"(" + SHELL + b"l")),
    "runpy": called("runpy", "run_path", text("was_here.py")),
    "torch.hub": called("torch.hub", "load", text("a/b"), text("c")),
    "torch.jit": called("torch.jit", "load", text("was_here.pt")),
    "torch.load": called("torch", "load", text("was_here.pt")),
    "torch.package": called("torch.package", "PackageImporter", text("was_here.pt")),
    "cpp_extension": called("torch.utils.cpp_extension", "load_inline", SHELL, SHELL),
    "torch.classes": called("torch.classes", "load_library", text("was_here.so")),
    "numpy.load": called("numpy", "load", text("was_here.npy"), b"N\x88"),
    "numpy.testing": called("numpy.testing._private.utils", "runstring", PROGRAM, b"}"),
    "numpy.core": called("numpy.core.multiarray", "fromfile", text("was_here")),
    "pickle.loads": called("pickle", "loads", b"C" + bytes([len(_EVIL)]) + _EVIL),
    "a pickle in a storage": called("torch.storage", "_load_from_bytes", b"C" + bytes([len(_EVIL)]) + _EVIL),
    "default of a dictionary": called("collections", "defaultdict", SYSTEM),
    "items of a dictionary": called(
        "collections", "OrderedDict", b"((" + SHELL + called("os", "system", SHELL) + b"tt"
    ),
    "a tensor's function": called(
        "torch._tensor", "_rebuild_from_type_v2", SYSTEM, named("torch", "Tensor"), b"(" + SHELL + b"t", b"}"
    ),
    "a parameter of a function": called("torch._utils", "_rebuild_parameter", SYSTEM, b"\x88", b"}"),
    "a shape of a call": called("torch", "Size", called("os", "system", SHELL)),
    "a number's type": called("numpy", "dtype", called("os", "system", SHELL), b"\x89\x88"),
    "a codec": called("_codecs", "encode", SHELL, text("zip")),
    "code": called("types", "CodeType", PROGRAM),
    "marshal": called("marshal", "loads", PROGRAM),
    "ctypes": called("ctypes", "CDLL", text("was_here.so")),
    "shutil": called("shutil", "copy", text("was"), text("was_here")),
    "pty": called("pty", "spawn", SHELL),
    "timeit": called("timeit", "timeit", PROGRAM),
    "webbrowser": called("webbrowser", "open", text("file:was_here")),
    "pathlib": called("pathlib", "Path.touch", called("pathlib", "PosixPath", text("was_here"))),
    "a frame that lies": b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f" + called("os", "system", SHELL),
    "a buffer outside": b"\x97",
    "a read-only buffer outside": b"\x97\x98",
    "popped": called("os", "system", SHELL) + b"0N",
    "only named": SYSTEM,
}
"""Instructions that leave one object on the stack, by the name of the trick."""
