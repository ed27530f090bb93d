"""Build a TensorRT engine from an ONNX file. Needs tensorrt, but not torch or onnx.

An engine of TensorRT is built on the device that will run it, one of TensorRT for RTX on any machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rrid_edge.engines.cuda import Cuda
from rrid_edge.engines.tensorrt.api import (
    check_tensors,
    generation,
    load_tensorrt,
    load_tensorrt_rtx,
    make_runtime,
    this_machine,
)
from rrid_edge.engines.tensorrt.log import keep_inspector, logged_layers, make_logger
from rrid_edge.engines.tensorrt.refusal import Refusal
from rrid_edge.errors import RridEdgeError, UsageError, printable
from rrid_edge.files import atomic_output, sha256_of_file
from rrid_edge.model.engine_sidecar import BuildFlags, EngineSidecar, Machine, PrecisionProof
from rrid_edge.model.names import sidecar_path, timing_cache_name
from rrid_edge.model.rtx_target import RtxBuild
from rrid_edge.model.spec import ModelSpec
from rrid_edge.model.weights import read_checked_spec
from rrid_edge.progress import NO_PROGRESS, Progress
from rrid_export.tensorrt.folders import check_folders, is_beside
from rrid_export.tensorrt.information import layers_of_log
from rrid_export.tensorrt.network import configure, parse_network
from rrid_export.tensorrt.network_types import count_network
from rrid_export.tensorrt.nodes import NodeNames, read_node_names, refuse_file_for_cpus
from rrid_export.tensorrt.progress import BuildProgress, watch_trt10_11
from rrid_export.tensorrt.proof import check_precision, check_tail, count_layers, inspect_engine
from rrid_export.tensorrt.rtx import gpu_is_here, set_target_rtx, target_machine
from rrid_export.tensorrt.settings import BuildSettings, check_settings, is_strongly_typed

if TYPE_CHECKING:
    import tensorrt as trt

_MOST_CACHE_BYTES = 256 << 20
"""Larger timing caches are not read. Real ones have some MB."""


def build_engine(
    onnx_path: Path,
    engine_path: Path,
    settings: BuildSettings | None = None,
    *,
    progress: Progress = NO_PROGRESS,
) -> EngineSidecar:
    """Build an engine, prove its precision, then write plan and sidecar. A failed build writes nothing.

    Args:
        onnx_path: a model of this package. The engine gets its precision: an fp16 engine needs an fp16 ONNX file.
        engine_path: the plan to write. Its sidecar is ``<engine_path>.json``.
        settings: batch sizes, memory, compatibility; the defaults if None.
        progress: advanced in thousandths of the build. TensorRT 8.6 reports no progress before the end.

    Returns:
        The sidecar that was written.

    Raises:
        MissingDependencyError: no GPU, driver, cuda-bindings or TensorRT; for RTX, no TensorRT for RTX.
        ModelFileError: the ONNX file is damaged, its weights changed, it is not of this package, or TensorRT's parser
            refuses it.
        UsageError: this TensorRT version or GPU lacks a setting; ``settings.precision`` is not the file's; the GPU's
            memory is too small; an engine without weights is to be written to another folder than the ONNX file's.
        ArtefactError: TensorRT could not build the engine.
        CheckFailedError: the engine that was built has another precision.
        OutputError: the files cannot be written.
    """
    settings = settings or BuildSettings()
    spec = read_checked_spec(onnx_path)
    refuse_file_for_cpus(onnx_path)
    if settings.precision not in (None, spec.precision):
        raise UsageError(
            f"{printable(onnx_path)}: this model is stored in {spec.precision}, and an engine takes its precision from "
            f"there: make the {settings.precision} file first, with: rrid-edge export CHECKPOINT --{settings.precision}"
        )
    check_folders(onnx_path, engine_path, settings)
    trt, machine = _library(settings)
    build = _Build(trt, onnx_path, spec, machine, settings, BuildProgress(progress))
    check_settings(trt, settings, build.machine)
    started = time.perf_counter()
    plan, timing_cache = build.make_plan(engine_path)
    build_s = time.perf_counter() - started
    proof = build.prove(plan, engine_path)
    sidecar = build.describe(plan, engine_path, proof, build_s)
    _write(engine_path, plan, sidecar)
    if timing_cache:
        _write_bytes(timing_cache_path(settings, engine_path, build.machine), timing_cache)
    build.progress.complete()
    return sidecar


def _library(settings: BuildSettings) -> tuple[ModuleType, Machine]:
    """The library that builds, and the machine that the plan will be bound to."""
    if settings.rtx is not None:
        trt = load_tensorrt_rtx()
        return trt, target_machine(trt, settings.rtx)
    cuda = Cuda()  # first: without a GPU, TensorRT's Builder and Runtime crash or give no reason
    cuda.select_device()
    trt = load_tensorrt()
    return trt, this_machine(trt, cuda)


def timing_cache_path(settings: BuildSettings, engine_path: Path, machine: Machine) -> Path:
    """The file with kernel times of this TensorRT version and compute capability."""
    folder = settings.timing_cache_folder or engine_path.parent
    return folder / timing_cache_name(machine.tensorrt, machine.compute_capability)


@dataclass
class _Build:
    """One build in progress."""

    trt: ModuleType
    onnx_path: Path
    spec: ModelSpec
    machine: Machine
    settings: BuildSettings
    progress: BuildProgress
    errors: list[str] = field(default_factory=list)
    network_proof: PrecisionProof | None = None
    built_layers: str = ""

    def make_plan(self, engine_path: Path) -> tuple[bytes, bytes]:
        """Build the engine: the serialised plan, and the timing cache (empty if TensorRT gives none)."""
        logger = make_logger(self.trt, self.errors)
        try:
            builder = self.trt.Builder(logger)
        except TypeError as error:  # Python's bindings answer so if the library gives no builder
            raise self._refused("starting its builder") from error
        network, _parser = parse_network(self.trt, builder, logger, self.onnx_path, self.settings)
        config = configure(self.trt, builder, network, self.spec, self.settings)
        if self.settings.rtx is not None:
            self.network_proof = count_network(self.trt, network)
            set_target_rtx(self.trt, config, self.settings.rtx)
        else:
            load_timing_cache(self.trt, config, timing_cache_path(self.settings, engine_path, self.machine))
        if generation(self.trt) >= 10:
            watch_trt10_11(self.trt, config, self.progress)
        self.errors.clear()  # a timing cache that does not fit is an error in the log, but not the reason of a failure
        plan = builder.build_serialized_network(network, config)
        self.built_layers = logged_layers(logger)
        if self.progress.interrupted:
            raise KeyboardInterrupt
        if plan is None:
            raise self._refused(f"building an engine with {self.settings.workspace_mib} MiB of workspace")
        # RTX times no kernels. There the calls for a timing cache do nothing, and will go away.
        cache = config.get_timing_cache() if self.settings.rtx is None else None
        times = None if cache is None else cache.serialize()
        return bytes(plan), b"" if times is None else bytes(times)

    @property
    def inspected(self) -> bool:
        """Whether the plan is loaded to count its layers; otherwise those in the log count, or the network's."""
        return self.settings.rtx is None or gpu_is_here(self.settings.rtx)

    def prove(self, plan: bytes, engine_path: Path) -> PrecisionProof:
        """Count the precisions of the plan's layers, and refuse a plan of another precision than the model's."""
        nodes = read_node_names(self.onnx_path)
        if self.network_proof is not None and not self.inspected:
            check_precision(self.network_proof, self.spec.precision, nodes)
            return self._prove_by_log(nodes) if self.built_layers else self.network_proof
        self.errors.clear()
        logger = make_logger(self.trt, self.errors)
        runtime = make_runtime(self.trt, logger)
        if runtime is None:
            raise self._refused("starting its runtime")
        if self.settings.version_compatible:
            runtime.engine_host_code_allowed = True  # this process built the plan
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self._refused("loading the engine it just built")
        check_tensors(self.trt, engine, self.spec, engine_path)
        context = engine.create_execution_context()
        if context is None:
            raise self._refused("making a context of the engine it just built")
        information = inspect_engine(self.trt, engine, context, self.spec, self.settings.opt_batch)
        proof = count_layers(information, nodes)
        check_precision(proof, self.spec.precision, nodes)
        if self.spec.precision != "fp32" and not is_strongly_typed(self.trt, self.settings):
            check_tail(information, nodes, must_show=self.spec.precision == "int8")  # fp16 builds only if it obeys
        return proof

    def _prove_by_log(self, nodes: NodeNames) -> PrecisionProof:
        """Count the layers that the builder logged: those of the engine, which no GPU can load here."""
        information = layers_of_log(self.built_layers)
        keep_inspector(information)
        proof = count_layers(information, nodes)
        check_precision(proof, self.spec.precision, nodes)
        return proof

    def describe(self, plan: bytes, engine_path: Path, proof: PrecisionProof, build_s: float) -> EngineSidecar:
        """The sidecar of the plan."""
        settings = self.settings
        return EngineSidecar(
            spec=self.spec,
            machine=self.machine,
            profile=settings.profile,
            onnx_name=self.onnx_path.name,
            onnx_sha256=sha256_of_file(self.onnx_path),
            onnx_beside=is_beside(self.onnx_path, engine_path),
            plan_sha256=hashlib.sha256(plan).hexdigest(),
            plan_bytes=len(plan),
            build_s=build_s,
            flags=BuildFlags(
                strongly_typed=is_strongly_typed(self.trt, settings),
                version_compatible=settings.version_compatible,
                exclude_lean_runtime=settings.exclude_lean_runtime,
                hardware_compatible=settings.hardware_compatible,
                strip_weights=settings.strip_weights,
                tf32=settings.tf32,
                workspace_mib=settings.workspace_mib,
                optimization_level=settings.optimization_level,
            ),
            proof=proof,
            rtx=None if settings.rtx is None else RtxBuild(settings.rtx, self.inspected),
        )

    def _refused(self, doing: str) -> RridEdgeError:
        return Refusal(
            self.trt,
            self.onnx_path,
            doing,
            otherwise="use the ONNX file with the runtime onnxruntime-cuda",
            written="nothing was written",
        ).error(self.errors)


def load_timing_cache(trt: ModuleType, config: trt.IBuilderConfig, path: Path) -> None:
    """Use the kernel times of earlier builds, or an empty cache if TensorRT refuses them."""
    earlier = b""
    with contextlib.suppress(OSError):
        if path.is_file() and path.stat().st_size <= _MOST_CACHE_BYTES:
            earlier = path.read_bytes()
    for content in (earlier, b""):
        cache = config.create_timing_cache(content)
        # Do not ignore a mismatch: times of another GPU or driver select slow kernels.
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return


def _write(engine_path: Path, plan: bytes, sidecar: EngineSidecar) -> None:
    """Write plan and sidecar. Both are complete under temporary names before either is renamed."""
    with atomic_output(sidecar_path(engine_path)) as partial_sidecar, atomic_output(engine_path) as partial_plan:
        partial_plan.write_bytes(plan)
        partial_sidecar.write_text(sidecar.to_text(), encoding="utf-8")


def _write_bytes(path: Path, content: bytes) -> None:
    with atomic_output(path) as partial:
        partial.write_bytes(content)
