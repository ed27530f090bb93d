"""Parse the network and configure the builder, for each TensorRT generation.

The suffix of a function (``_trt8``, ``_trt10_11`` ...) lists the generations whose API it uses; see
:mod:`rrid_edge.engines.tensorrt.api`. The tests check each function against the API of these versions.
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
        min_batch: smallest batch of the profile, in images. The engine pads smaller batches.
        opt_batch: batch size that TensorRT optimises for, in images.
        max_batch: largest batch of the profile, in images. The engine splits larger batches.
        workspace_mib: largest scratch memory of the builder, in MiB.
        precision: the expected precision of the ONNX file, or None to accept any.
        timing_cache_folder: folder that keeps measured kernel times between builds; the engine's folder if None.
        optimization_level: effort of the builder, 0 to 5; TensorRT's default if None.
        strongly_typed: on TensorRT 10, True takes the types of the ONNX file and False lets builder flags choose. Use
            False on 10.0 to 10.11 if a strongly typed engine fails parity. TensorRT 8.6 always uses flags, 11 types.
        version_compatible: build a plan that later versions of TensorRT can run too.
        hardware_compatible: build a slower plan for all GPUs of compute capability 8.0 or later; not on Jetson.
        strip_weights: leave the weights out of the plan. The ONNX file must then be in the engine's folder.
        tf32: allow TF32 rounding of float32 products.
    """

    # workspace_mib: TensorRT's default is the whole device memory, which a Jetson shares with all its processes.
    # tf32: off, because fp32 parity needs all 24 bits of the significand.

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
        """The batch sizes of the optimisation profile."""
        return Profile(self.min_batch, self.opt_batch, self.max_batch)


def is_strongly_typed(trt: ModuleType, settings: BuildSettings) -> bool:
    """Whether the engine takes the types of the ONNX file: never on 8.6, as set on 10, always on 11."""
    return {8: False, 10: settings.strongly_typed, 11: True}[generation(trt)]


def check_settings(trt: ModuleType, settings: BuildSettings, machine: Machine) -> None:
    """Refuse settings that this version of TensorRT or this GPU does not support.

    Raises:
        UsageError: names the setting, and what to do instead.
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
    """Parse an ONNX file.

    Returns:
        The network, and the parser. The parser owns the weights: keep it until the build is done.

    Raises:
        ModelFileError: TensorRT's parser refuses the file. The message lists each error with its node.
    """
    flags = {8: _network_flags_trt8, 10: _network_flags_trt10, 11: _network_flags_trt11}[generation(trt)](trt, settings)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    # Parse the file, not its bytes: TensorRT finds external weights relative to the file.
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
    """Configure the builder: memory, profile, precision, compatibility.

    Raises:
        UsageError: TensorRT refuses the profile.
    """
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib * (1 << 20))
    # Without it the inspector lists only layer names, and the precision cannot be proved.
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
    smallest, optimal, largest = (
        trt.Dims([batch, spec.height_px, spec.width_px, 3])
        for batch in (settings.min_batch, settings.opt_batch, settings.max_batch)
    )
    profile.set_shape(INPUT_NAME, smallest, optimal, largest)
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
    return 0  # TensorRT 11 networks are always strongly typed


def _describe_error_trt8(error: trt.ParserError) -> str:
    return f"node {error.node()}: {' '.join(error.desc().split())}"


def _describe_error_trt10_11(error: trt.ParserError) -> str:
    return f"node {error.node_name()!r} ({error.node_operator()}): {' '.join(error.desc().split())}"


def _strip_weights_trt10_11(trt: ModuleType, config: trt.IBuilderConfig) -> None:
    config.set_flag(trt.BuilderFlag.STRIP_PLAN)


def _choose_precision_trt8_10(
    trt: ModuleType, config: trt.IBuilderConfig, network: trt.INetworkDefinition, precision: str
) -> None:
    """Allow the precision of the ONNX file by builder flags, and constrain the network's tail to float32."""
    if precision == "fp32":
        return
    config.set_flag(trt.BuilderFlag.FP16)
    if precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    _constrain_tail_trt8_10(trt, network)


def _constrain_tail_trt8_10(trt: ModuleType, network: trt.INetworkDefinition) -> int:
    """Constrain the network's tail, which contains the L2 norm, to float32.

    The tail is searched from the output back. In an fp16 ONNX it ends at the cast back to float32; in an int8
    ONNX at the last convolutions and dequantisations.

    Returns:
        Number of constrained layers.
    """
    # With flags alone TensorRT may compute the L2 norm in float16, where it overflows silently (rows of zeros).
    tail_ends = (
        trt.LayerType.CAST,
        trt.LayerType.CONSTANT,
        trt.LayerType.SHAPE,
        trt.LayerType.CONVOLUTION,
        trt.LayerType.QUANTIZE,
        trt.LayerType.DEQUANTIZE,
    )
    producers = _producers_trt8_10(network)
    pending = [network.get_output(index).name for index in range(network.num_outputs)]
    constrained = 0
    while pending:
        layer = producers.pop(pending.pop(), None)
        if layer is None or layer.type in tail_ends:
            continue
        constrained += _constrain_layer_trt8_10(trt, layer)
        pending += _input_names_trt8_10(layer)
    return constrained


def _input_names_trt8_10(layer: trt.ILayer) -> list[str]:
    inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
    return [tensor.name for tensor in inputs if tensor is not None]


def _producers_trt8_10(network: trt.INetworkDefinition) -> dict[str, trt.ILayer]:
    """Tensor name -> the layer that computes it."""
    producers: dict[str, object] = {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for output in range(layer.num_outputs):
            producers[layer.get_output(output).name] = layer
    return producers


def _constrain_layer_trt8_10(trt: ModuleType, layer: trt.ILayer) -> int:
    """Constrain a layer to float32 if all its outputs are floating point: number of constrained layers, 0 or 1."""
    floats = (trt.DataType.FLOAT, trt.DataType.HALF)
    outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
    # Shape arithmetic uses integers, and TensorRT refuses to constrain these layers.
    if not all(tensor.dtype in floats and not tensor.is_shape_tensor for tensor in outputs):
        return 0
    layer.precision = trt.DataType.FLOAT
    for index in range(layer.num_outputs):
        layer.set_output_type(index, trt.DataType.FLOAT)
    return 1
