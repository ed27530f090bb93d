"""Why TensorRT refused something, and what helps: one line from the errors in its log."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

from rrid_edge.engines.cuda import out_of_memory
from rrid_edge.engines.tensorrt.api import titled
from rrid_edge.engines.tensorrt.lean import missing_lean_runtime
from rrid_edge.engines.tensorrt.log import LOG_VARIABLE
from rrid_edge.errors import ArtefactError, GpuFaultError, MissingDependencyError, RridEdgeError, printable

_MOST_CHARACTERS: Final = 400
# "1: [allocator.cpp::free::72] Error Code 1: Cuda Runtime ()", "Error Code 1: Cuda Runtime", or only a place in a file.
_EMPTY: Final = re.compile(r"(?:\w+: )?(?:\[[^\]]*\] ?)?(?:[\w:]+: )?(?:Error Code \d+: [\w ]*?(?:\( *\))?)?[ .:]*")
# Places in NVIDIA's sources: "(no profile was defined. In validate at /_src/optimizer/api/network.cpp:4023)".
_PLACE: Final = re.compile(r"\.? ?\bIn [\w:~]+ at \S+?:\d+ ?")
# What TensorRT finds in CUDA's state after another failure. On a machine without a driver it follows every error.
_AFTERMATH: Final = re.compile(r" ?\[[^\]]*catchCudaError[^\]]*\] Error Code \d+: Cuda Runtime.*")
_MEMORY: Final = re.compile(
    r"out ?of ?memory|insufficient memory|memory allocation|cudaerrormemoryallocation|could not be allocated|bad_alloc"
    r"|cannot allocate memory"
)
_WORKSPACE: Final = re.compile(
    r"insufficient workspace|workspace limit|(?:larger|more|increase|increasing)[^.]* workspace"
)
_LIBRARY: Final = re.compile(r"\b(lib[\w+-]+\.so[.\d]*)", re.IGNORECASE)
_NOT_LOADED: Final = re.compile(
    r"unable to (?:load|open|find)|(?:could|can)not (?:load|open|find)|failed to|no such file"
)
_DRIVER: Final = re.compile(
    r"driver version is insufficient|insufficientdriver|cudaerror 35\b|failure with error:? 35\b|unsupported display"
)
_FAULT: Final = re.compile(
    r"illegal (?:memory access|instruction)|launch ?failure|unspecified launch|misaligned ?address|device-side assert"
    r"|uncorrectable|hardware ?(?:error|stack)|fell off the bus|device unavailable"
)
# As 8.6.0 says it if its file libnvinfer_builder_resource.so is not the one that it was built with.
_DAMAGED: Final = re.compile(r"validatecaskklibdigest")
_NO_KERNEL: Final = re.compile(r"could not find any implementation for node|no implementation")


@dataclass(frozen=True)
class Refusal:
    """A call that TensorRT refused.

    Attributes:
        trt: the tensorrt module.
        file: the ONNX file or the engine.
        doing: what was refused, as a phrase: ``building an engine``.
        otherwise: what helps against reasons that are not known here.
        written: what else a message says first, for example ``nothing was written``.
        kind: class of the error for those reasons.
    """

    trt: ModuleType
    file: Path
    doing: str
    otherwise: str
    written: str = ""
    kind: type[ArtefactError] = ArtefactError

    def error(self, errors: Sequence[str]) -> RridEdgeError:
        """The error, with the first and the last entry of TensorRT's log and what helps.

        Args:
            errors: errors in TensorRT's log, in their order.

        Returns:
            An error of ``kind``; a UsageError if device memory ran out; a MissingDependencyError if a library is
            missing or the driver is too old; a GpuFaultError if the GPU failed.
        """
        reason, told = reason_of(errors), _told(errors) or list(errors)
        for pattern, only_first, make in _CAUSES:
            text = "\n".join(told[:1] if only_first else told).lower()
            if pattern.search(text) and (made := make(self, reason, told)) is not None:
                return made
        return self._because(reason, f"{self.otherwise}; {LOG_VARIABLE}=FILE keeps all that TensorRT says")

    def _because(
        self, reason: str, remedy: str, kind: type[RridEdgeError] | None = None, parameter: str | tuple[str, ...] = ()
    ) -> RridEdgeError:
        written = f"{self.written}; " if self.written else ""
        what = f"{printable(self.file)}: {titled(self.trt)} refused {self.doing}"
        return (kind or self.kind)(f"{what} ({reason}); {written}{remedy}", parameter=parameter)


def reason_of(errors: Sequence[str]) -> str:
    """The first and the last error that say something, as a phrase for a message."""
    told = _told(errors)
    if not told:
        named = next((line for line in errors if line.strip()), None)
        return f"TensorRT gave no reason but {named!r}" if named else "TensorRT gave no reason"
    first, last = _short(told[0]), _short(told[-1])
    return first if first == last else f"first error: {first}; last error: {last}"


def without_noise(error: str) -> str:
    """An error without what only NVIDIA needs: places in sources, and CUDA's state after the failure."""
    return _PLACE.sub("", _AFTERMATH.sub("", " ".join(error.split())))


def _told(errors: Sequence[str]) -> list[str]:
    """The errors that say something."""
    return [line for line in map(without_noise, errors) if not _EMPTY.fullmatch(line)]


def _short(line: str) -> str:
    """The line with its middle left out if it is long: names of fused layers have thousands of characters."""
    if len(line) <= _MOST_CHARACTERS:
        return line
    half = _MOST_CHARACTERS // 2
    return f"{line[:half]} ... {line[-half:]}"


_Make = Callable[[Refusal, str, Sequence[str]], RridEdgeError | None]


def _out_of_memory(refusal: Refusal, reason: str, _errors: Sequence[str]) -> RridEdgeError:
    return out_of_memory(refusal.doing, reason)


def _library(refusal: Refusal, reason: str, errors: Sequence[str]) -> RridEdgeError | None:
    lines = [line for line in errors if _NOT_LOADED.search(line.lower()) and _LIBRARY.search(line)]
    if not lines:
        return None
    found = _LIBRARY.search(lines[0])
    name = found.group(1).rstrip(".") if found else ""
    if "lean" in name:
        return missing_lean_runtime(
            refusal.trt.__version__,
            f"{printable(refusal.file)}: {titled(refusal.trt)} refused {refusal.doing} ({reason}): a plan that is "
            "version_compatible",
            "leave it out of the plan with exclude_lean_runtime",
        )
    return refusal._because(
        reason,
        f"the library {name} is missing: install the package of CUDA or TensorRT that has it, and see what "
        "rrid-edge doctor says",
        MissingDependencyError,
    )


def _remedy(remedy: str, kind: type[RridEdgeError] | None = None, parameter: str = "") -> _Make:
    """Makes errors that always have the same remedy; of the refusal's own class if ``kind`` is None."""
    return lambda refusal, reason, _errors: refusal._because(reason, remedy, kind, parameter)


_CAUSES: Final[tuple[tuple[re.Pattern[str], bool, _Make], ...]] = (
    (
        _DRIVER,
        True,
        _remedy(
            "the NVIDIA driver is missing or too old for this TensorRT: rrid-edge doctor compares their versions; "
            "update the driver, or install the TensorRT for the driver's CUDA",
            MissingDependencyError,
        ),
    ),
    (
        _FAULT,
        True,
        _remedy(
            "look for the GPU's own errors in the system log (dmesg | grep -i nv), then start again", GpuFaultError
        ),
    ),
    (
        _DAMAGED,
        False,
        _remedy(
            "a library of this TensorRT is damaged or belongs to another version (libnvinfer_builder_resource): "
            "install this TensorRT again",
            MissingDependencyError,
        ),
    ),
    (_LIBRARY, False, _library),
    (_MEMORY, False, _out_of_memory),
    (_WORKSPACE, False, _remedy("try more workspace", parameter="workspace_mib")),
    (
        _NO_KERNEL,
        False,
        _remedy(
            "this TensorRT has no kernel for that layer on this GPU: use another precision of the model, another "
            "TensorRT version, or the ONNX file with the runtime onnxruntime-cuda"
        ),
    ),
)
"""Causes, whether only the first error tells them, and the error to make. Those that explain others come first: a full
device also leaves too little workspace."""
