"""The ``trtexec`` command that builds what :func:`rrid_export.tensorrt.build.build_engine` builds.

It is written from the same :class:`BuildSettings`. Neither TensorRT nor a GPU is needed, and nothing is built. Flags
are those of NVIDIA's documentation of trtexec 8.6, 10 and 11.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rrid_edge.engines.tensorrt.api import GENERATIONS
from rrid_edge.errors import UsageError
from rrid_edge.model.engine_sidecar import version_numbers
from rrid_edge.model.names import trtexec_cache_name
from rrid_edge.model.onnx_graph import read_graph
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec
from rrid_edge.model.weights import read_checked_spec
from rrid_export.tensorrt.nodes import refuse_file_for_cpus
from rrid_export.tensorrt.settings import BuildSettings

_TAIL_ENDS = ("Cast", "Constant", "Shape", "Conv", "QuantizeLinear", "DequantizeLinear")
_PLAIN_NAME = re.compile(r"[^\s,:'\"*]+")
"""Names of layers that trtexec's lists can hold."""
_FREE_LAYERS = (
    "TensorRT names some layers by itself, so this command cannot hold them in float32; adopt the plan to prove its "
    "answers"
)


@dataclass(frozen=True)
class TrtexecCommand:
    """A command of ``trtexec``.

    Attributes:
        arguments: the program and its arguments, unquoted.
        remarks: what the command cannot express, one line each.
    """

    arguments: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The command for a POSIX shell, one argument per line."""
        first, *rest = map(shlex.quote, self.arguments)
        return [f"{line} \\" for line in (first, *(f"  {item}" for item in rest[:-1]))] + [f"  {rest[-1]}"]


@dataclass
class _Writer:
    """The command while it is written."""

    onnx_path: Path
    engine_path: Path
    spec: ModelSpec
    settings: BuildSettings
    generation: int
    remarks: list[str] = field(default_factory=list)

    def shapes(self, which: str, batch: int) -> list[str]:
        sizes = (batch, *self.spec.input_shape)
        return [f"--{which}Shapes={INPUT_NAME}:{'x'.join(map(str, sizes))}"]

    def typing(self) -> list[str]:
        """Flags that give the engine the precision of the ONNX file."""
        if self.generation == 11:
            if not self.settings.strongly_typed:
                raise UsageError(
                    "builder flags do not choose precisions in TensorRT 11: leave strong typing on",
                    parameter="strongly_typed",
                )
            return []
        if self.generation == 10 and self.settings.strongly_typed:
            return ["--stronglyTyped"]
        precision = self.spec.precision
        # Without a shared profile, 8.6 gives a second execution context none, and each CUDA graph needs a context.
        sharing = ["--preview=+profileSharing0806"] if self.generation == 8 else []
        if precision == "fp32":
            return sharing
        constraints = "prefer" if precision == "int8" else "obey"
        flags = ["--fp16", "--int8"] if precision == "int8" else ["--fp16"]
        return [*sharing, *flags, f"--precisionConstraints={constraints}", *self._held()]

    def _held(self) -> list[str]:
        """Flags that hold the network's tail in float32."""
        names = tail_nodes(self.onnx_path)
        plain = [name for name in names if _PLAIN_NAME.fullmatch(name)]
        self.remarks.append(_FREE_LAYERS)
        if len(plain) < len(names):
            self.remarks.append(f"{len(names) - len(plain)} nodes of the tail have no name that trtexec takes")
        types = ",".join(f"{name}:fp32" for name in plain)
        return [f"--layerPrecisions={types}", f"--layerOutputTypes={types}"] if types else []

    def stripped(self) -> list[str]:
        if not self.settings.strip_weights:
            return []
        if self.generation == 8:
            raise UsageError(
                "strip_weights does not work with TensorRT 8.6: expected 10 or later; leave it out",
                parameter="strip_weights",
            )
        return ["--stripWeights"]

    def rtx(self) -> list[str]:
        if self.settings.rtx is not None:
            raise UsageError(
                "trtexec builds engines of TensorRT, not of TensorRT for RTX: build without trtexec, or for a GPU here",
                parameter="target",
            )
        return []

    def timing_cache(self) -> list[str]:
        folder = self.settings.timing_cache_folder or self.engine_path.parent
        return [f"--timingCacheFile={folder / trtexec_cache_name(self.generation)}"]


SETTINGS: Mapping[str, Callable[[_Writer], list[str]]] = {
    "min_batch": lambda writer: writer.shapes("min", writer.settings.min_batch),
    "opt_batch": lambda writer: writer.shapes("opt", writer.settings.opt_batch),
    "max_batch": lambda writer: writer.shapes("max", writer.settings.max_batch),
    "workspace_mib": lambda writer: [f"--memPoolSize=workspace:{writer.settings.workspace_mib}"],  # in MiB
    "strongly_typed": _Writer.typing,
    "tf32": lambda writer: [] if writer.settings.tf32 else ["--noTF32"],
    "optimization_level": lambda writer: _option("--builderOptimizationLevel", writer.settings.optimization_level),
    "version_compatible": lambda writer: ["--versionCompatible"] if writer.settings.version_compatible else [],
    "exclude_lean_runtime": lambda writer: ["--excludeLeanRuntime"] if writer.settings.exclude_lean_runtime else [],
    "hardware_compatible": lambda writer: (
        ["--hardwareCompatibilityLevel=ampere+"] if writer.settings.hardware_compatible else []
    ),
    "strip_weights": _Writer.stripped,
    "timing_cache_folder": _Writer.timing_cache,
    "rtx": _Writer.rtx,
    "precision": lambda _writer: [],  # only checks the ONNX file, whose types the engine takes
}
"""Every field of :class:`BuildSettings` -> its flags. A test fails for a field that is missing here."""


def trtexec_command(
    onnx_path: Path, engine_path: Path, settings: BuildSettings | None = None, *, version: str
) -> TrtexecCommand:
    """The command that builds the engine of an ONNX file as :func:`build_engine` does.

    Args:
        onnx_path: a model of this package.
        engine_path: the plan to write.
        settings: batch sizes, memory, compatibility; the defaults if None.
        version: version of TensorRT, for example ``8.6`` or ``10.3.0``.

    Raises:
        UsageError: the version is not supported, or it lacks a setting; ``settings.precision`` is not the file's.
        ModelFileError: the ONNX file is damaged or not of this package.
    """
    settings = settings or BuildSettings()
    spec = read_checked_spec(onnx_path)
    refuse_file_for_cpus(onnx_path)
    if settings.precision not in (None, spec.precision):
        raise UsageError(f"{onnx_path}: this model is stored in {spec.precision}, not in {settings.precision}")
    writer = _Writer(onnx_path, engine_path, spec, settings, _generation(version))
    flags = [flag for write in SETTINGS.values() for flag in write(writer)]
    arguments = (
        "trtexec",
        f"--onnx={onnx_path}",
        f"--saveEngine={engine_path}",
        *flags,
        "--profilingVerbosity=detailed",  # without it the precision cannot be proved
        "--skipInference",
    )
    return TrtexecCommand(arguments, tuple(writer.remarks))


def tail_nodes(path: Path) -> tuple[str, ...]:
    """Names of the nodes whose layers the build holds in float32, from the output back; empty where a node has none.

    As in :mod:`rrid_export.tensorrt.network`, they end at the cast back to float32 (fp16), or at the last convolutions
    and dequantisations (int8).

    Args:
        path: an ONNX file of this package.

    Raises:
        ModelFileError: the file is damaged.
    """
    producers = {output: node for node in read_graph(path).nodes for output in node.outputs}
    found: list[str] = []
    pending = [OUTPUT_NAME]
    while pending:
        node = producers.get(pending.pop())
        if node is None or node.operator in _TAIL_ENDS:
            continue
        for output in node.outputs:
            del producers[output]
        found.append(node.name)
        pending += node.inputs
    return tuple(found)


def _generation(version: str) -> int:
    try:
        numbers = version_numbers(version)
    except ValueError:
        numbers = (0,)
    if numbers[0] not in GENERATIONS or numbers < (8, 6):
        raise UsageError(
            f"TensorRT {version!r} is not a version that this package knows: expected 8.6, 10 or 11",
            parameter="trtexec_version",
        )
    return numbers[0]


def _option(name: str, value: object) -> list[str]:
    return [] if value is None else [f"{name}={value}"]
