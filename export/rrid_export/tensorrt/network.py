"""The network and the builder's configuration, by TensorRT generation.

A function whose name ends in ``_trt8``, ``_trt10``, ``_trt11`` (or several of them) names things that only those
generations have; see :mod:`rrid_edge.engines.tensorrt.api`. The tests hold each against the API of its versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rrid_edge.engines.cuda import is_jetson
from rrid_edge.engines.tensorrt.api import generation
from rrid_edge.errors import ModelFileError, UsageError, printable
from rrid_edge.model.engine_sidecar import Machine, Profile, version_numbers
from rrid_edge.model.spec import INPUT_NAME, PRECISIONS, ModelSpec

if TYPE_CHECKING:
    import tensorrt as trt

MIN_WORKSPACE_MIB = 16


@dataclass(frozen=True)
class BuildSettings:
    """How to build an engine.

    Attributes:
        min_batch: smallest batch of the profile; smaller ones are padded.
        opt_batch: batch size to be fastest at.
        max_batch: largest batch of the profile; larger ones are split.
        workspace_mib: limit of the builder's scratch memory. TensorRT's own default is the whole device, which on a
            Jetson is the memory of everything else.
        precision: the precision that was asked for, or None to take the ONNX file's own.
        timing_cache_folder: where measured kernel times are kept between builds; beside the engine if None.
        optimization_level: the builder's effort, 0 to 5; None leaves TensorRT's default.
        strongly_typed: on TensorRT 10, obey the types of the ONNX (True) or let builder flags choose (False, for
            10.0 to 10.11 where parity of the strongly typed engine fails). 8.6 has flags alone, 11 types alone.
        version_compatible: make a plan that later versions of TensorRT can run too.
        hardware_compatible: make a plan for every GPU from compute capability 8.0 on; slower; not on Jetson.
        strip_weights: leave the weights out of the plan; the ONNX must then lie beside it.
        tf32: allow TF32 rounding of float32 products. Off by default: parity of fp32 needs all 24 bits.
    """

    min_batch: int = 1
    opt_batch: int = 8
    max_batch: int = 32
    workspace_mib: int = 1024
    precision: str | None = None
    timing_cache_folder: Path | None = None
    optimization_level: int | None = None
    strongly_typed: bool = True
    version_compatible: bool = False
    hardware_compatible: bool = False
    strip_weights: bool = False
    tf32: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.min_batch <= self.opt_batch <= self.max_batch:
            raise UsageError(
                f"batch sizes {self.min_batch}, {self.opt_batch}, {self.max_batch} do not work: expected "
                "1 <= smallest <= best <= largest"
            )
        if self.workspace_mib < MIN_WORKSPACE_MIB:
            raise UsageError(
                f"a workspace of {self.workspace_mib} MiB does not work: expected at least {MIN_WORKSPACE_MIB} MiB, "
                "for example 1024"
            )
        if self.optimization_level not in (None, 0, 1, 2, 3, 4, 5):
            raise UsageError(f"optimization level {self.optimization_level} does not work: expected 0 to 5")
        if self.precision not in (None, *PRECISIONS):
            raise UsageError(f"precision {self.precision!r} is none of {', '.join(PRECISIONS)}")

    @property
    def profile(self) -> Profile:
        """The batch sizes."""
        return Profile(self.min_batch, self.opt_batch, self.max_batch)


def is_strongly_typed(trt: ModuleType, settings: BuildSettings) -> bool:
    """Whether the engine obeys the types of the ONNX: never on 8.6, always on 11, as wanted on 10."""
    return {8: False, 10: settings.strongly_typed, 11: True}[generation(trt)]


def check_settings(trt: ModuleType, settings: BuildSettings, machine: Machine) -> None:
    """Refuse what this version of TensorRT or this GPU does not have.

    Raises:
        UsageError: names the option and what to do without it.
    """
    version = f"TensorRT {trt.__version__}"
    if settings.strip_weights and generation(trt) < 10:
        raise UsageError(
            f"strip_weights does not work with {version}: expected 10 or later; leave it out", parameter="strip_weights"
        )
    if not settings.strongly_typed and generation(trt) > 10:
        raise UsageError(f"builder flags do not choose precisions in {version}: leave strong typing on")
    if settings.hardware_compatible and is_jetson():
        raise UsageError(
            "hardware_compatible is not offered on a Jetson: build the engine on each device",
            parameter="hardware_compatible",
        )
    if settings.hardware_compatible and version_numbers(machine.compute_capability) < (8, 0):
        raise UsageError(
            f"hardware_compatible needs a GPU of compute capability 8.0 or later, this {machine.gpu} has "
            f"{machine.compute_capability}: leave it out",
            parameter="hardware_compatible",
        )


def parse_network(
    trt: ModuleType, builder: trt.Builder, logger: trt.ILogger, onnx_path: Path, settings: BuildSettings
) -> tuple[trt.INetworkDefinition, trt.OnnxParser]:
    """The network of an ONNX file, and the parser, which owns the weights and must outlive the build.

    Raises:
        ModelFileError: TensorRT's parser refuses the file; every error with the node it is about.
    """
    flags = {8: _network_flags_trt8, 10: _network_flags_trt10, 11: _network_flags_trt11}[generation(trt)](trt, settings)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    # From the file and not from bytes: external weights are found relative to it.
    if not parser.parse_from_file(str(onnx_path)):
        describe = _describe_error_trt8 if generation(trt) == 8 else _describe_error_trt10_11
        lines = [describe(parser.get_error(index)) for index in range(parser.num_errors)]
        raise ModelFileError(
            f"{printable(onnx_path)}: TensorRT {trt.__version__} cannot read this model: "
            f"{'; '.join(lines) or 'it gave no reason'}; export it again with: rrid-edge export CHECKPOINT"
        )
    return network, parser


def configure(
    trt: ModuleType, builder: trt.Builder, network: trt.INetworkDefinition, spec: ModelSpec, settings: BuildSettings
) -> trt.IBuilderConfig:
    """The builder's configuration: memory, profile, precision, compatibility.

    Raises:
        UsageError: TensorRT refuses the profile.
    """
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib * (1 << 20))
    # Without it the inspector shows layer names alone, and the precision could not be proved.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not settings.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if settings.optimization_level is not None:
        config.builder_optimization_level = settings.optimization_level
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if settings.strip_weights:
        _strip_weights_trt10_11(trt, config)
    if not is_strongly_typed(trt, settings):
        _choose_precision_trt8_10(trt, config, network, spec.precision)
    profile = builder.create_optimization_profile()
    low, best, high = (
        trt.Dims([batch, spec.height_px, spec.width_px, 3])
        for batch in (settings.min_batch, settings.opt_batch, settings.max_batch)
    )
    profile.set_shape(INPUT_NAME, low, best, high)
    if config.add_optimization_profile(profile) < 0:
        raise UsageError(
            f"TensorRT refuses batches of {settings.min_batch} to {settings.max_batch}: expected a model with a "
            "dynamic batch; export it again with: rrid-edge export CHECKPOINT"
        )
    return config


def _network_flags_trt8(trt: ModuleType, settings: BuildSettings) -> int:
    return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


def _network_flags_trt10(trt: ModuleType, settings: BuildSettings) -> int:
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if settings.strongly_typed else 0


def _network_flags_trt11(trt: ModuleType, settings: BuildSettings) -> int:
    return 0  # strong typing is all there is


def _describe_error_trt8(error: trt.ParserError) -> str:
    return f"node {error.node()}: {' '.join(error.desc().split())}"


def _describe_error_trt10_11(error: trt.ParserError) -> str:
    return f"node {error.node_name()!r} ({error.node_operator()}): {' '.join(error.desc().split())}"


def _strip_weights_trt10_11(trt: ModuleType, config: trt.IBuilderConfig) -> None:
    config.set_flag(trt.BuilderFlag.STRIP_PLAN)


def _choose_precision_trt8_10(
    trt: ModuleType, config: trt.IBuilderConfig, network: trt.INetworkDefinition, precision: str
) -> None:
    """Allow the precision of the ONNX by flags, and hold the network's end in float32."""
    if precision == "fp32":
        return
    config.set_flag(trt.BuilderFlag.FP16)
    if precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    _hold_tail_trt8_10(trt, network)


def _hold_tail_trt8_10(trt: ModuleType, network: trt.INetworkDefinition) -> int:
    """Constrain every layer between the last cast and the output to float32.

    An L2 norm in float16 overflows without a word (rows of zeros); with flags alone TensorRT may choose just that. The
    tail is what follows the cast back to float32 that the fp16 ONNX has before its norm, or the last convolutions and
    dequantisations of the int8 ONNX.

    Returns:
        How many layers were constrained.
    """
    borders = (
        trt.LayerType.CAST,
        trt.LayerType.CONSTANT,
        trt.LayerType.SHAPE,
        trt.LayerType.CONVOLUTION,
        trt.LayerType.QUANTIZE,
        trt.LayerType.DEQUANTIZE,
    )
    makers = _makers_trt8_10(network)
    waiting = [network.get_output(index).name for index in range(network.num_outputs)]
    held = 0
    while waiting:
        layer = makers.pop(waiting.pop(), None)
        if layer is None or layer.type in borders:
            continue
        held += _hold_layer_trt8_10(trt, layer)
        waiting += _input_names_trt8_10(layer)
    return held


def _input_names_trt8_10(layer: trt.ILayer) -> list[str]:
    inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
    return [tensor.name for tensor in inputs if tensor is not None]


def _makers_trt8_10(network: trt.INetworkDefinition) -> dict[str, trt.ILayer]:
    makers: dict[str, object] = {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for output in range(layer.num_outputs):
            makers[layer.get_output(output).name] = layer
    return makers


def _hold_layer_trt8_10(trt: ModuleType, layer: trt.ILayer) -> int:
    floats = (trt.DataType.FLOAT, trt.DataType.HALF)
    outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
    # Shape arithmetic works on integers, which TensorRT refuses to constrain.
    if not all(tensor.dtype in floats and not tensor.is_shape_tensor for tensor in outputs):
        return 0
    layer.precision = trt.DataType.FLOAT
    for index in range(layer.num_outputs):
        layer.set_output_type(index, trt.DataType.FLOAT)
    return 1
