"""The sidecar ``<engine>.json`` of a TensorRT engine: its spec, its machine, and the proof of its precision.

The metadata is beside the plan, not inside it, so trtexec and C++ programs can read the plan.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rrid_edge.errors import ModelFileError, printable
from rrid_edge.files import write_text
from rrid_edge.model.names import onnx_beside, sidecar_path
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec

SIDECAR_FORMAT = 1
# Major versions that run version-compatible plans of earlier ones (NVIDIA's support matrix); there was no TensorRT 9.
_COMPATIBLE_MAJORS = (8, 10, 11)
_AMPERE = (8, 0)
_HEX64 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Machine:
    """The machine that a plan is bound to.

    Attributes:
        tensorrt: full version of TensorRT, for example ``10.3.0``.
        gpu: name of the GPU in CUDA.
        compute_capability: compute capability of the GPU, for example ``8.7``.
    """

    tensorrt: str
    gpu: str
    compute_capability: str


@dataclass(frozen=True)
class Profile:
    """The batch sizes of the plan's only optimisation profile, in images."""

    min_batch: int
    opt_batch: int
    max_batch: int


@dataclass(frozen=True)
class BuildFlags:
    """Build settings that change what a plan needs or computes.

    Attributes:
        strongly_typed: True if the ONNX file set the types (TensorRT 10 and later); False if builder flags did.
        version_compatible: the plan also runs on later TensorRT versions.
        hardware_compatible: the plan runs on every GPU from compute capability 8.0 on.
        strip_weights: the plan has no weights; they are read from the ONNX file at load time.
        tf32: products of float32 values may be rounded to TF32.
        workspace_mib: limit of the builder's scratch memory.
        optimization_level: effort of the builder, 0 to 5; None is TensorRT's default.
    """

    strongly_typed: bool
    version_compatible: bool
    hardware_compatible: bool
    strip_weights: bool
    tf32: bool
    workspace_mib: int
    optimization_level: int | None


@dataclass(frozen=True)
class PrecisionProof:
    """Number of layers of the built engine per type, from TensorRT's inspector.

    Attributes:
        half: layers with float16 tensors.
        int8: layers with int8 tensors.
        single: layers with float32 tensors only.
        other: layers without floating-point tensors (shape arithmetic, uint8 copies).
    """

    half: int
    int8: int
    single: int
    other: int


@dataclass(frozen=True)
class EngineSidecar:
    """The content of a sidecar.

    Attributes:
        spec: spec of the model, with the precision that the inspector confirmed.
        machine: machine that the plan was built on and is bound to.
        profile: batch sizes that the plan accepts.
        onnx_name: file name of the source ONNX file.
        onnx_sha256: sha256 (hex) of the source ONNX file.
        plan_sha256: sha256 (hex) of the plan.
        plan_bytes: size of the plan.
        build_s: duration of the build.
        flags: build settings.
        proof: layers per type.
    """

    spec: ModelSpec
    machine: Machine
    profile: Profile
    onnx_name: str
    onnx_sha256: str
    plan_sha256: str
    plan_bytes: int
    build_s: float
    flags: BuildFlags
    proof: PrecisionProof

    def to_json(self) -> dict[str, object]:
        """The sidecar as JSON values, with names, dtypes and shapes for readers without this package."""
        spec = self.spec
        return {
            "format": SIDECAR_FORMAT,
            **asdict(self.machine),
            "precision": spec.precision,
            "fingerprint": spec.fingerprint,
            "blocks": list(spec.blocks),
            "input": {"name": INPUT_NAME, "dtype": "uint8", "shape": ["batch", spec.height_px, spec.width_px, 3]},
            "output": {"name": OUTPUT_NAME, "dtype": "float32", "shape": ["batch", spec.dimension]},
            "profile": asdict(self.profile),
            "source_onnx": {"name": self.onnx_name, "sha256": self.onnx_sha256},
            "plan": {"sha256": self.plan_sha256, "bytes": self.plan_bytes},
            "build_s": round(self.build_s, 3),
            "flags": asdict(self.flags),
            "precision_proof": asdict(self.proof),
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
                wrong type or contradict each other.
        """
        path = sidecar_path(engine_path)
        where = printable(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelFileError(
                f"{where}: cannot be read ({error.strerror or error}); {engine_path.name} needs this sidecar: copy it "
                f"from the machine that built the engine, or rebuild with: {rebuild_command(engine_path, None)}"
            ) from error
        except ValueError as error:
            raise _damaged(engine_path, f"not JSON: {error}") from error
        try:
            return _parse(values, where)
        except (KeyError, TypeError, ValueError) as error:
            missing = isinstance(error, KeyError)
            raise _damaged(engine_path, f"{error.args[0]!r} is missing" if missing else str(error)) from error

    def check_fits(self, machine: Machine, engine_path: Path) -> None:
        """Refuse a plan that was built for another machine.

        Raises:
            ModelFileError: TensorRT or the GPU differs. It names the difference and the command to rebuild.
        """
        wrong: list[str] = []
        if not self._fits_version(machine.tensorrt):
            wrong.append(f"TensorRT {self.machine.tensorrt} (here {machine.tensorrt})")
        if not self._fits_gpu(machine):
            wrong.append(
                f"{self.machine.gpu}, compute capability {self.machine.compute_capability} "
                f"(here {machine.gpu}, {machine.compute_capability})"
            )
        if wrong:
            raise ModelFileError(
                f"{printable(engine_path)}: this engine was built for {' and '.join(wrong)}; build it for this machine "
                f"with: {rebuild_command(engine_path, self.onnx_name)}"
            )

    def check_plan(self, plan: bytes, engine_path: Path) -> None:
        """Refuse a plan whose bytes changed since the build.

        Raises:
            ModelFileError: the size or the sha256 differs from the sidecar's.
        """
        # Deserialising a plan runs code from it.
        if len(plan) != self.plan_bytes:
            found = f"it has {len(plan):,} bytes, expected {self.plan_bytes:,}"
        elif hashlib.sha256(plan).hexdigest() != self.plan_sha256:
            found = "its sha256 is not the one in its sidecar"
        else:
            return
        raise ModelFileError(
            f"{printable(engine_path)}: the engine file is damaged or was replaced ({found}); rebuild it with: "
            f"{rebuild_command(engine_path, self.onnx_name)}"
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


def rebuild_command(engine_path: Path, onnx_name: str | None) -> str:
    """The command that rebuilds an engine on this machine.

    Args:
        engine_path: the engine.
        onnx_name: file name of its source ONNX file; None if there is no sidecar to read it from.
    """
    source = engine_path.with_name(onnx_name) if onnx_name else onnx_beside(engine_path)
    return f"rrid-edge export {printable(source)}"


def version_numbers(text: str) -> tuple[int, ...]:
    """The numbers at the start of a version: (10, 3, 0) for ``10.3.0-rc1``.

    Raises:
        ValueError: ``text`` does not begin with a number.
    """
    match = re.match(r"\d+(?:\.\d+)*", text)
    if match is None:
        raise ValueError(f"{text!r} is not a version")
    return tuple(int(part) for part in match.group().split("."))


def _damaged(engine_path: Path, reason: str) -> ModelFileError:
    return ModelFileError(
        f"{printable(sidecar_path(engine_path))}: this engine's sidecar is damaged ({reason}); rebuild the engine "
        f"with: {rebuild_command(engine_path, None)}"
    )


def _parse(values: Any, where: str) -> EngineSidecar:  # noqa: ANN401 - any JSON value
    if not isinstance(values, dict):
        raise TypeError("expected a JSON object")
    version = _typed(values, "format", int)
    if version > SIDECAR_FORMAT:
        raise ValueError(f"format {version} is newer than this rrid-edge reads ({SIDECAR_FORMAT}): update rrid-edge")
    metadata: dict[str, str] = _typed(values, "metadata", dict)
    spec = ModelSpec.from_metadata(metadata, where=where)
    if (values["fingerprint"], values["precision"]) != (spec.fingerprint, spec.precision):
        raise ValueError("fingerprint or precision contradicts the metadata")
    profile = Profile(**_integers(_typed(values, "profile", dict), "min_batch", "opt_batch", "max_batch"))
    if not 1 <= profile.min_batch <= profile.opt_batch <= profile.max_batch:
        raise ValueError("the profile does not satisfy 1 <= min <= opt <= max")
    source, plan = _typed(values, "source_onnx", dict), _typed(values, "plan", dict)
    machine = Machine(**{key: _typed(values, key, str) for key in ("tensorrt", "gpu", "compute_capability")})
    version_numbers(machine.tensorrt)
    version_numbers(machine.compute_capability)
    return EngineSidecar(
        spec=spec,
        machine=machine,
        profile=profile,
        onnx_name=_file_name(_typed(source, "name", str)),
        onnx_sha256=_hash(_typed(source, "sha256", str)),
        plan_sha256=_hash(_typed(plan, "sha256", str)),
        plan_bytes=_typed(plan, "bytes", int),
        build_s=float(values["build_s"]),
        flags=_flags(_typed(values, "flags", dict)),
        proof=PrecisionProof(
            **_integers(_typed(values, "precision_proof", dict), "half", "int8", "single", "other"),
        ),
    )


def _flags(values: Mapping[str, Any]) -> BuildFlags:
    names = ("strongly_typed", "version_compatible", "hardware_compatible", "strip_weights", "tf32")
    level = values["optimization_level"]
    return BuildFlags(
        **{name: _typed(values, name, bool) for name in names},
        workspace_mib=_typed(values, "workspace_mib", int),
        optimization_level=None if level is None else _typed(values, "optimization_level", int),
    )


def _integers(values: Mapping[str, Any], *names: str) -> dict[str, int]:
    return {name: _typed(values, name, int) for name in names}


def _typed(values: Mapping[str, Any], name: str, kind: type) -> Any:  # noqa: ANN401 - of type kind
    value = values[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{name!r} is {value!r}, expected {kind.__name__}")
    return value


def _hash(text: str) -> str:
    if not _HEX64.fullmatch(text):
        raise ValueError(f"{text!r} is not a sha256")
    return text


def _file_name(text: str) -> str:
    # The name becomes part of a path that is read, so it must not leave the engine's folder.
    if not text or Path(text).name != text:
        raise ValueError(f"source_onnx {text!r} is not a plain file name")
    return text
