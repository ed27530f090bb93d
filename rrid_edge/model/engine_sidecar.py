"""The sidecar ``<engine>.json`` of a TensorRT engine: its spec, its machine, and the proof of its precision.

The metadata is beside the plan, not inside it, so trtexec and C++ programs can read the plan.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import ModelFileError, UsageError, printable
from rrid_edge.files import write_text
from rrid_edge.machine.rtx import RtxMachine, why_not_rtx
from rrid_edge.model.names import is_rtx_engine, sidecar_path
from rrid_edge.model.rebuild import rebuild_command
from rrid_edge.model.rtx_target import RTX_RUNTIME, RtxBuild
from rrid_edge.model.spec import HEX64, INPUT_NAME, OUTPUT_NAME, ModelSpec

SIDECAR_FORMAT = 1
OWN_BUILDER = "rrid-edge"
# Major versions that run version-compatible plans of earlier ones (NVIDIA's support matrix); there was no TensorRT 9.
_COMPATIBLE_MAJORS = (8, 10, 11)
_AMPERE = (8, 0)
_VERSION = r"[0-9]+(?:\.[0-9]+)*"
Version = Annotated[str, Meta(pattern=rf"\A{_VERSION}", max_length=64)]
Sha256 = Annotated[str, Meta(pattern=HEX64)]
Count = Annotated[int, Meta(ge=0)]
Builder = Annotated[str, Meta(min_length=1, max_length=64)]
BatchSize = Annotated[int, Meta(ge=1, le=1 << 20)]


@dataclass(frozen=True)
class Machine:
    """The machine that a plan is bound to.

    A plan of TensorRT for RTX is bound to its version, and to the GPUs of :class:`RtxTarget` instead of one GPU.

    Attributes:
        tensorrt: full version of TensorRT, for example ``10.3.0``.
        gpu: name of the GPU in CUDA.
        compute_capability: compute capability of the GPU, for example ``8.7``.
        multiprocessors: number of its multiprocessors; None if the sidecar does not say. CUDA calls AGX Orin and
            Orin NX both ``Orin``; this number tells them apart.
    """

    tensorrt: Version
    gpu: Annotated[str, Meta(max_length=256)]
    compute_capability: Version
    multiprocessors: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None


@dataclass(frozen=True)
class Profile:
    """The batch sizes of the plan's only optimisation profile, in images."""

    min_batch: BatchSize
    opt_batch: BatchSize
    max_batch: BatchSize


@dataclass(frozen=True)
class BuildFlags:
    """Build settings that change what a plan needs or computes.

    A plan of another program does not tell all of them. Those that it does not tell are None.

    Attributes:
        strongly_typed: True if the ONNX file set the types (TensorRT 10 and later); False if builder flags did.
        version_compatible: the plan also runs on later TensorRT versions.
        exclude_lean_runtime: on these versions it needs the lean runtime of the version that built it.
        hardware_compatible: the plan runs on every GPU from compute capability 8.0 on.
        strip_weights: the plan has no weights; they are read from the ONNX file at load time.
        tf32: products of float32 values may be rounded to TF32.
        workspace_mib: limit of the builder's scratch memory.
        optimization_level: effort of the builder, 0 to 5; None is TensorRT's default, or not known.
    """

    strongly_typed: bool | None
    version_compatible: bool
    hardware_compatible: bool
    strip_weights: bool
    tf32: bool | None
    workspace_mib: Count | None
    optimization_level: Annotated[int, Meta(ge=0, le=5)] | None
    exclude_lean_runtime: bool = False


@dataclass(frozen=True)
class Products:
    """Number of convolutions and matrix products of the built engine per type that they multiply in.

    Attributes:
        half: those in float16.
        int8: those in int8.
        single: those in float32.
        other: those whose type TensorRT's inspector does not tell.
    """

    half: Count
    int8: Count
    single: Count
    other: Count

    @property
    def total(self) -> int:
        """Number of all convolutions and matrix products."""
        return self.half + self.int8 + self.single + self.other


@dataclass(frozen=True)
class PrecisionProof:
    """Number of layers of the built engine per type, from TensorRT's inspector.

    Attributes:
        half: layers with float16 tensors.
        int8: layers with int8 tensors.
        single: layers with float32 tensors only.
        other: layers without floating-point tensors (shape arithmetic, uint8 copies).
        products: the convolutions and matrix products among them, which prove the precision; None if the engine was
            built before they were counted.
    """

    half: Count
    int8: Count
    single: Count
    other: Count
    products: Products | None = None

    @property
    def layers(self) -> int:
        """Number of all layers."""
        return self.half + self.int8 + self.single + self.other

    def in_words(self) -> str:
        """The counts of the convolutions and matrix products per type, as a phrase."""
        counted, what = self.products, "convolutions and matrix products"
        if counted is None:
            counted, what = Products(self.half, self.int8, self.single, self.other), "layers"
        of_all = f" of {self.layers} layers" if self.products else ""
        unknown = f", {counted.other} of another or unknown type" if counted.other else ""
        return (
            f"{counted.total} {what}{of_all}: {counted.half} in float16, {counted.int8} in int8, {counted.single} in "
            f"float32{unknown}"
        )


@dataclass(frozen=True)
class _Source:
    # The name becomes part of a path that is read, so it must not leave the engine's folder.
    name: Annotated[str, Meta(pattern=r"\A(?!\.\.?\Z)[^/\x00]+\Z", max_length=255)]
    sha256: Sha256
    beside: bool = True


@dataclass(frozen=True)
class _Plan:
    sha256: Sha256
    bytes: Count


@dataclass(frozen=True, kw_only=True)
class _Stored(Machine):
    """The content of a sidecar file."""

    format: Annotated[int, Meta(ge=1)]
    precision: str
    fingerprint: str
    profile: Profile
    source_onnx: _Source
    plan: _Plan
    build_s: Annotated[float, Meta(ge=0)] | None
    flags: BuildFlags
    precision_proof: PrecisionProof
    metadata: dict[str, str]
    built_by: Builder = OWN_BUILDER
    runtime: Literal["tensorrt", "tensorrt-rtx"] = "tensorrt"
    rtx: RtxBuild | None = None

    def __post_init__(self) -> None:
        if (self.runtime == RTX_RUNTIME) != (self.rtx is not None):
            raise ValueError("the runtime contradicts the facts of a build for RTX")
        if not self.profile.min_batch <= self.profile.opt_batch <= self.profile.max_batch:
            raise ValueError("the profile does not satisfy 1 <= min <= opt <= max")


_STORED = Artefact("sidecar", _Stored, "rebuild the engine", ModelFileError, newest_format=SIDECAR_FORMAT)


@dataclass(frozen=True)
class EngineSidecar:
    """The content of a sidecar.

    Attributes:
        spec: spec of the model, with the precision that the inspector confirmed.
        machine: machine that the plan was built on and is bound to.
        profile: batch sizes that the plan accepts.
        onnx_name: file name of the source ONNX file.
        onnx_sha256: sha256 (hex) of the source ONNX file.
        onnx_beside: the source ONNX file was in the engine's folder when the engine was built.
        plan_sha256: sha256 (hex) of the plan.
        plan_bytes: size of the plan.
        build_s: duration of the build; None if it is not known.
        flags: build settings.
        proof: layers per type.
        built_by: program that built the plan: this package, or another one such as ``trtexec``.
        rtx: facts of an engine of TensorRT for RTX; None for an engine of TensorRT.
    """

    spec: ModelSpec
    machine: Machine
    profile: Profile
    onnx_name: str
    onnx_sha256: str
    plan_sha256: str
    plan_bytes: int
    build_s: float | None
    flags: BuildFlags
    proof: PrecisionProof
    built_by: str = OWN_BUILDER
    onnx_beside: bool = True
    rtx: RtxBuild | None = None

    @property
    def runtime(self) -> str:
        """The runtime that runs the engine: ``tensorrt`` or ``tensorrt-rtx``."""
        return "tensorrt" if self.rtx is None else RTX_RUNTIME

    def to_json(self) -> dict[str, object]:
        """The sidecar as JSON values, with names, dtypes and shapes for readers without this package."""
        spec = self.spec
        return {
            "format": SIDECAR_FORMAT,
            "runtime": self.runtime,
            **asdict(self.machine),
            "precision": spec.precision,
            "fingerprint": spec.fingerprint,
            "blocks": list(spec.blocks),
            "input": {"name": INPUT_NAME, "dtype": spec.input_dtype, "shape": ["batch", *spec.input_shape]},
            "output": {"name": OUTPUT_NAME, "dtype": "float32", "shape": ["batch", spec.dimension]},
            "profile": asdict(self.profile),
            "source_onnx": {"name": self.onnx_name, "sha256": self.onnx_sha256, "beside": self.onnx_beside},
            "plan": {"sha256": self.plan_sha256, "bytes": self.plan_bytes},
            "built_by": self.built_by,
            "build_s": None if self.build_s is None else round(self.build_s, 3),
            "flags": asdict(self.flags),
            "precision_proof": asdict(self.proof),
            "rtx": None if self.rtx is None else asdict(self.rtx),
            "metadata": spec.to_metadata(),
        }

    def to_text(self) -> str:
        """The text of the sidecar file."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"

    def write(self, engine_path: Path) -> None:
        """Write ``<engine>.json`` atomically.

        Raises:
            OutputError: the file cannot be written.
        """
        write_text(sidecar_path(engine_path), self.to_text())

    @classmethod
    def read(cls, engine_path: Path) -> EngineSidecar:
        """Read and check the sidecar of an engine file.

        Raises:
            ModelFileError: the sidecar is missing, not JSON or of a newer format, or its entries are missing, of a
                wrong type, out of range or contradict each other.
        """
        path = sidecar_path(engine_path)
        kind = replace(_STORED, remedy=f"rebuild the engine with: {rebuild_command(engine_path, None)}")
        try:
            stored = kind.read(path)
        except FileNotFoundError as error:
            raise ModelFileError(
                f"{printable(path)}: there is no such file; {printable(engine_path.name)} needs this sidecar: copy it "
                f"from the machine that built the engine, or {kind.remedy}"
            ) from error
        spec = ModelSpec.from_metadata(stored.metadata, where=printable(path))
        if (stored.fingerprint, stored.precision) != (spec.fingerprint, spec.precision):
            raise kind.damaged(printable(path), "fingerprint or precision contradicts the metadata")
        if (stored.rtx is not None) != is_rtx_engine(engine_path):
            raise kind.damaged(printable(path), f"runtime {stored.runtime} contradicts the name of the engine")
        return cls(
            spec=spec,
            machine=Machine(stored.tensorrt, stored.gpu, stored.compute_capability, stored.multiprocessors),
            profile=stored.profile,
            onnx_name=stored.source_onnx.name,
            onnx_sha256=stored.source_onnx.sha256,
            plan_sha256=stored.plan.sha256,
            plan_bytes=stored.plan.bytes,
            build_s=stored.build_s,
            flags=stored.flags,
            proof=stored.precision_proof,
            built_by=stored.built_by,
            onnx_beside=stored.source_onnx.beside,
            rtx=stored.rtx,
        )

    def check_fits(self, machine: Machine, engine_path: Path) -> None:
        """Refuse a plan that was built for another machine.

        Raises:
            ModelFileError: TensorRT or the GPU differs. It names the difference and the command to rebuild.
        """
        wrong: list[str] = []
        wanted = self
        if not self._fits_version(machine.tensorrt):
            title = f"TensorRT{' for RTX' if self.rtx is not None else ''}"
            wrong.append(f"{title} {self.machine.tensorrt} (here {machine.tensorrt})")
        if self.rtx is not None:
            if not self.rtx.target.serves(machine.compute_capability):
                if reason := why_not_rtx(machine.compute_capability):
                    raise ModelFileError(
                        f"{printable(engine_path)}: this engine cannot run on {machine.gpu}, and none for RTX can: "
                        f"{reason}; build an engine of TensorRT here with: rrid-edge export {self.onnx_name}, or use "
                        "that ONNX file with the runtime onnxruntime-cuda"
                    )
                wrong.append(f"{self.rtx.target.describe()} (here {machine.gpu}, {machine.compute_capability})")
                target = self.rtx.target.including(machine.compute_capability)
                wanted = replace(self, rtx=replace(self.rtx, target=target))
        elif not self._fits_gpu(machine):
            wrong.append(
                f"{self.machine.gpu}, compute capability {self.machine.compute_capability} "
                f"(here {machine.gpu}, {machine.compute_capability})"
            )
        elif not self._fits_size(machine):
            wrong.append(
                f"{self.machine.gpu} with {self.machine.multiprocessors} multiprocessors (here "
                f"{machine.multiprocessors}: another model, or a power mode or an MPS share without some of them)"
            )
        if wrong:
            raise ModelFileError(
                f"{printable(engine_path)}: this engine was built for {' and '.join(wrong)}; build it for this machine "
                f"with: {rebuild_command(engine_path, wanted)}"
            )

    def serves_rtx(self, machine: RtxMachine) -> bool:
        """Whether this is an engine for RTX that a machine with these facts runs."""
        fits = machine.version in (None, self.machine.tensorrt)
        return self.rtx is not None and fits and self.rtx.target.serves(machine.compute_capability)

    def read_plan(self, engine_path: Path) -> bytes:
        """Read a plan whose bytes are those of the build.

        Raises:
            UsageError: the file cannot be read.
            ModelFileError: the size or the sha256 differs from the sidecar's.
        """
        # Deserialising a plan runs code from it. The size is compared first: a file of any size may lie there.
        try:
            size = engine_path.stat().st_size
            plan = engine_path.read_bytes() if size == self.plan_bytes else b""
        except OSError as error:
            raise UsageError(
                f"{printable(engine_path)}: cannot be read ({error.strerror or error}); give another model file",
                parameter="model",
            ) from error
        if size != self.plan_bytes:
            found = f"it has {size:,} bytes, expected {self.plan_bytes:,}"
        elif hashlib.sha256(plan).hexdigest() != self.plan_sha256:
            found = "its sha256 is not the one in its sidecar"
        else:
            return plan
        raise ModelFileError(
            f"{printable(engine_path)}: the engine file is damaged or was replaced ({found}); rebuild it with: "
            f"{rebuild_command(engine_path, self)}"
        )

    def _fits_version(self, version: str) -> bool:
        if version == self.machine.tensorrt:
            return True
        built, here = version_numbers(self.machine.tensorrt), version_numbers(version)
        return self.flags.version_compatible and here >= built and here[0] in _COMPATIBLE_MAJORS

    def _fits_gpu(self, machine: Machine) -> bool:
        if self.flags.hardware_compatible:
            return version_numbers(machine.compute_capability) >= _AMPERE
        return (machine.gpu, machine.compute_capability) == (self.machine.gpu, self.machine.compute_capability)

    def _fits_size(self, machine: Machine) -> bool:
        sizes = (self.machine.multiprocessors, machine.multiprocessors)
        return self.flags.hardware_compatible or None in sizes or sizes[0] == sizes[1]


def version_numbers(text: str) -> tuple[int, ...]:
    """The numbers at the start of a version: (10, 3, 0) for ``10.3.0-rc1``.

    Raises:
        ValueError: ``text`` does not begin with a number.
    """
    match = re.match(_VERSION, text)
    if match is None:
        raise ValueError(f"{text!r} is not a version")
    return tuple(int(part) for part in match.group().split("."))
