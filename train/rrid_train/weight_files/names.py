"""Names of classes and functions that no weight file needs.

Nothing is looked up or run, whatever a file names. This list makes the refusal honest: a file that names one of these
was made to run a program, or needs more than its tensors.
"""

from __future__ import annotations

from rrid_train.weight_files.records import Reference

_MODULES_TEXT = (
    "os posix nt subprocess sys importlib imp runpy pty pdb bdb code codeop shutil socket ssl ctypes _ctypes cffi "
    "marshal types operator _operator timeit trace profile cProfile webbrowser pip ensurepip venv multiprocessing "
    "threading _thread asyncio concurrent signal tempfile fileinput urllib http ftplib smtplib telnetlib requests "
    "httpx aiohttp pickle _pickle cPickle dill cloudpickle joblib shelve yaml linecache inspect gc atexit site "
    "sysconfig distutils setuptools zipimport pkgutil pydoc doctest unittest IPython io _io codecs _codecs commands "
    "popen2 functools builtins __builtin__ copyreg copy_reg fcntl resource mmap pwd grp"
)
_BASIC_TEXT = (
    "int float complex bool str bytes bytearray list tuple dict set frozenset object type slice range unicode long "
    "basestring xrange min max sum len abs round sorted NotImplemented Ellipsis"
)
_TORCH_TEXT = "hub jit load package ops classes save _inductor _dynamo cpp_extension multiprocessing"
_NUMPY_TEXT = "load loads fromfile memmap save savetxt genfromtxt"
_PARTS_TEXT = "os sys subprocess system popen eval exec execfile compile getattr setattr open builtins"

_MODULES, _TORCH, _NUMPY, _PARTS = (
    frozenset(names.split()) for names in (_MODULES_TEXT, _TORCH_TEXT, _NUMPY_TEXT, _PARTS_TEXT)
)
_HARMLESS = frozenset(
    {("types", "SimpleNamespace"), ("functools", "partial"), ("_codecs", "encode")}
    | {(module, name) for module in ("builtins", "__builtin__") for name in _BASIC_TEXT.split()}
    | {
        (module, name)
        for module in ("copyreg", "copy_reg")
        for name in ("_reconstructor", "__newobj__", "__newobj_ex__")
    }
)


def runs_programs(reference: Reference) -> bool:
    """Whether a name can run a program, open a file or reach other names."""
    if (reference.module, reference.name) in _HARMLESS:
        return False
    module, parts = reference.module.split("."), reference.name.split(".")
    if module[0] in _MODULES or any(part in _PARTS or _is_hidden(part) for part in parts):
        return True
    if module[0] == "torch" and not _TORCH.isdisjoint([*module[1:], parts[0]]):
        return True
    if module[0] == "numpy" and parts[0] in _NUMPY:
        return True
    return any(part in _PARTS for part in module)


def _is_hidden(part: str) -> bool:
    """Whether a part of a name has two underscores on both sides, as ``__globals__``."""
    return part.startswith("__") and part.endswith("__")
