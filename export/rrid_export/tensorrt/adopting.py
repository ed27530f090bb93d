"""Adopt a plan that another program built, for example trtexec: prove it, and write its sidecar.

Nothing is taken on trust. The plan must have the tensors of its ONNX file, its layers must have the file's precision,
and its descriptors must be those of the network. Needs tensorrt, but not torch or onnx.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from rrid_edge.engines.cuda import Cuda
from rrid_edge.engines.tensorrt.api import check_tensors, generation, load_tensorrt, this_machine
from rrid_edge.engines.tensorrt.engine import TensorRTEngine
from rrid_edge.engines.tensorrt.plan import LoadedPlan, load_plan
from rrid_edge.errors import CheckFailedError, MissingDependencyError, ModelFileError, UsageError, printable
from rrid_edge.files import sha256_of_file
from rrid_edge.model.engine_sidecar import BuildFlags, EngineSidecar, PrecisionProof, Profile
from rrid_edge.model.names import ENGINE_SUFFIXES, Kind, goldens_path, kind_of, named_precision, sidecar_path
from rrid_edge.model.spec import ModelSpec
from rrid_edge.model.weights import read_checked_spec
from rrid_edge.parity.check import ParityReport, are_unit_lengths, check_parity
from rrid_edge.parity.reference import Reference, computed_reference, open_exact, read_crops
from rrid_export.drawn import drawn_patterns
from rrid_export.tensorrt.folders import is_beside
from rrid_export.tensorrt.nodes import read_node_names, refuse_file_for_cpus
from rrid_export.tensorrt.proof import check_precision, check_tail, count_layers, inspect_engine

_UNKNOWN = PrecisionProof(0, 0, 0, 0)


@dataclass(frozen=True)
class AdoptSettings:
    """What a plan does not tell, and what to compare its descriptors on.

    Attributes:
        built_by: program that built the plan.
        version_compatible: the plan was built to run on later versions of TensorRT too. Loading it runs code from it.
        exclude_lean_runtime: a version-compatible plan was built without the lean runtime.
        strip_weights: the plan was built without weights. Its ONNX file must lie beside it.
        crops: folder of crops to compare on. None takes the goldens beside the ONNX file or the plan, or drawn patterns
            if there are none.
        count: largest number of crops to read from the folder.
        replace: replace a sidecar that exists.
    """

    built_by: str = "trtexec"
    version_compatible: bool = False
    exclude_lean_runtime: bool = False
    strip_weights: bool = False
    crops: Path | None = None
    count: int = 64
    replace: bool = False

    def __post_init__(self) -> None:
        if self.exclude_lean_runtime and not self.version_compatible:
            raise UsageError(
                "exclude_lean_runtime does not work without version_compatible, because other plans contain no lean "
                "runtime: give both or neither",
                parameter=("version_compatible", "exclude_lean_runtime"),
            )


@dataclass(frozen=True)
class Adoption:
    """A plan that was adopted.

    Attributes:
        sidecar: the sidecar that was written.
        report: agreement of the plan's descriptors with the reference.
        left_out: one line per crop that cannot be read.
    """

    sidecar: EngineSidecar
    report: ParityReport
    left_out: tuple[str, ...] = ()


def adopt_plan(plan_path: Path, onnx_path: Path, settings: AdoptSettings | None = None) -> Adoption:
    """Prove a plan on this machine, and write its sidecar beside it. A plan that is refused gets none.

    Deserialising a plan runs code from it: adopt only plans that you built.

    Args:
        plan_path: the plan. Its name must be that of an engine.
        onnx_path: the ONNX file that it was built from.
        settings: what the plan does not tell; the defaults if None.

    Raises:
        MissingDependencyError: no GPU, driver, cuda-bindings or TensorRT; or no runtime for the ONNX file, and no
            goldens.
        UsageError: a file is missing, the plan's name is not that of an engine of this precision, or it has a sidecar.
        ModelFileError: the ONNX file is damaged, TensorRT refuses the plan, or its tensors are not those of the file.
        FingerprintMismatchError: the goldens are those of another network.
        CheckFailedError: the plan has another precision or gives other descriptors than its ONNX file.
        OutputError: the sidecar cannot be written.
    """
    settings = settings or AdoptSettings()
    spec = read_checked_spec(onnx_path)
    refuse_file_for_cpus(onnx_path)
    _check_names(plan_path, spec, replace=settings.replace)
    content = _read(plan_path)
    cuda = Cuda()  # first: without a GPU, TensorRT crashes the process
    cuda.select_device()
    trt = load_tensorrt()
    sidecar = EngineSidecar(
        spec=spec,
        machine=this_machine(trt, cuda),
        profile=Profile(1, 1, 1),  # replaced by the plan's own
        onnx_name=onnx_path.name,
        onnx_sha256=sha256_of_file(onnx_path),
        plan_sha256=hashlib.sha256(content).hexdigest(),
        plan_bytes=len(content),
        build_s=None,
        flags=_flags(trt, settings),
        proof=_UNKNOWN,
        built_by=settings.built_by,
        onnx_beside=is_beside(onnx_path, plan_path),
    )
    del content
    plan = _loaded(trt, plan_path, sidecar)
    try:
        sidecar = plan.sidecar = _inspected(trt, plan, onnx_path)
        report, left_out = _compared(plan, onnx_path, settings)
    finally:
        plan.release()
    sidecar.write(plan_path)
    return Adoption(sidecar, report, left_out)


def _check_names(plan_path: Path, spec: ModelSpec, *, replace: bool) -> None:
    """Refuse a name that no command would find the engine by, and a sidecar that would be lost."""
    where = printable(plan_path)
    if kind_of(plan_path) is not Kind.ENGINE:
        raise UsageError(
            f"{where}: not the name of a TensorRT engine: expected the ending {' or '.join(ENGINE_SUFFIXES)}; rename it"
        )
    named = named_precision(plan_path)
    if named not in (None, spec.precision):
        raise UsageError(
            f"{where}: its name says {named}, but its ONNX file is {spec.precision}: rename the plan, or give the ONNX "
            "file that it was built from"
        )
    sidecar = sidecar_path(plan_path)
    if sidecar.exists() and not replace:
        raise UsageError(
            f"{printable(sidecar)}: this engine has a sidecar already; replace it, or leave the engine as it is",
            parameter="replace",
        )


def _read(plan_path: Path) -> bytes:
    try:
        return plan_path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{printable(plan_path)}: cannot be read ({error.strerror or error}); give the plan that trtexec saved"
        ) from error


def _flags(trt: ModuleType, settings: AdoptSettings) -> BuildFlags:
    """What is known of the build. TensorRT 8.6 has no strong typing, and 11 has nothing else."""
    return BuildFlags(
        strongly_typed={8: False, 11: True}.get(generation(trt)),
        version_compatible=settings.version_compatible,
        hardware_compatible=False,  # replaced by what the plan says
        strip_weights=settings.strip_weights,
        tf32=None,
        workspace_mib=None,
        optimization_level=None,
        exclude_lean_runtime=settings.exclude_lean_runtime,
    )


def _inspected(trt: ModuleType, plan: LoadedPlan, onnx_path: Path) -> EngineSidecar:
    """The sidecar with what TensorRT says of the plan: profile, compatibility, layers."""
    sidecar = plan.sidecar
    profile = check_tensors(trt, plan.engine, sidecar.spec, plan.path)
    if plan.engine.profiling_verbosity != trt.ProfilingVerbosity.DETAILED:
        raise CheckFailedError(
            f"{printable(plan.path)}: the plan does not say the types of its layers, so its precision cannot be "
            "proved; build it with trtexec --profilingVerbosity=detailed; nothing was written"
        )
    compatible = plan.engine.hardware_compatibility_level == trt.HardwareCompatibilityLevel.AMPERE_PLUS
    proof = _proved(trt, plan, onnx_path, profile)
    flags = replace(sidecar.flags, hardware_compatible=compatible)
    return replace(sidecar, profile=profile, flags=flags, proof=proof)


def _loaded(trt: ModuleType, plan_path: Path, sidecar: EngineSidecar) -> LoadedPlan:
    try:
        return load_plan(trt, plan_path, sidecar)
    except ModelFileError as error:
        if sidecar.flags.version_compatible:
            raise
        raise ModelFileError(
            f"{error.message}; a plan built with trtexec --versionCompatible has to be named as such",
            parameter="version_compatible",
        ) from error


def _proved(trt: ModuleType, plan: LoadedPlan, onnx_path: Path, profile: Profile) -> PrecisionProof:
    """Count the layers of the plan by type, and refuse another precision than that of the ONNX file."""
    context = plan.engine.create_execution_context()
    if context is None:
        raise plan.refused("making a context of the plan")
    spec, typed = plan.sidecar.spec, plan.sidecar.flags.strongly_typed
    nodes = read_node_names(onnx_path)
    try:
        information = inspect_engine(trt, plan.engine, context, spec, profile.opt_batch)
        proof = count_layers(information, nodes)
        check_precision(proof, spec.precision, nodes)
        if spec.precision != "fp32" and not typed:
            check_tail(information, nodes, must_show=typed is False)
    except CheckFailedError as error:
        raise CheckFailedError(f"{printable(plan.path)}: {error.message}") from error
    return proof


def _compared(plan: LoadedPlan, onnx_path: Path, settings: AdoptSettings) -> tuple[ParityReport, tuple[str, ...]]:
    """Compare the plan's descriptors with the network's: the parity report, and crops that cannot be read.

    Raises:
        CheckFailedError: they differ.
    """
    reference = _reference(plan.path, onnx_path, plan.sidecar.spec, settings)
    with TensorRTEngine(plan.path, loaded=plan) as engine:
        report = check_parity(engine, reference.goldens, reference_name=reference.name)
    if report.failures:
        # A plan without weights runs, and gives no descriptors of unit length.
        is_empty = not settings.strip_weights and not are_unit_lengths(*report.engine_lengths)
        hint = "; a plan built with trtexec --stripWeights has to be named as such" if is_empty else ""
        raise CheckFailedError(
            f"{printable(plan.path)}: this plan does not answer as {printable(onnx_path)} does "
            f"({reference.name}): {'; '.join(report.failures)}; nothing was written; give the ONNX file that the plan "
            f"was built from, or build it again{hint}",
            parameter="strip_weights" if is_empty else (),
        )
    return report, reference.left_out


def _reference(plan_path: Path, onnx_path: Path, spec: ModelSpec, settings: AdoptSettings) -> Reference:
    """Goldens if some lie beside the files and no crops are given, else the ONNX file run on this machine."""
    if settings.crops is None:
        for path in dict.fromkeys((goldens_path(onnx_path), goldens_path(plan_path))):
            if path.is_file():
                return Reference.of_goldens(path, spec)
        crops = drawn_patterns(spec)
    else:
        crops = read_crops(settings.crops, spec, settings.count)
    with contextlib.ExitStack() as stack:
        try:
            engine = stack.enter_context(open_exact(onnx_path))
        except MissingDependencyError as error:
            raise MissingDependencyError(
                f"{error.message}; without it, put the goldens {printable(goldens_path(onnx_path).name)} beside the "
                "ONNX file"
            ) from error
        what = f"{printable(onnx_path)} on {engine.runtime}"
        return computed_reference(engine, what if settings.crops else f"{what}, drawn patterns", crops, spec)
