"""Parse the network and configure the builder, for each TensorRT generation.

The suffix of a function (``_trt8``, ``_trt10_11`` ...) lists the generations whose API it uses; see
:mod:`rrid_edge.engines.tensorrt.api`. The tests check each function against the API of these versions.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rrid_edge.engines.tensorrt.api import generation, titled
from rrid_edge.engines.tensorrt.log import logged_errors
from rrid_edge.engines.tensorrt.refusal import reason_of, without_noise
from rrid_edge.errors import ModelFileError, UsageError, printable
from rrid_edge.model.spec import HOW_MADE, INPUT_NAME, ModelSpec
from rrid_export.tensorrt.layers import outputs_of, tail_layers
from rrid_export.tensorrt.settings import BuildSettings, is_strongly_typed

if TYPE_CHECKING:
    import tensorrt as trt


def parse_network(
    trt: ModuleType, builder: trt.Builder, logger: trt.ILogger, onnx_path: Path, settings: BuildSettings
) -> tuple[trt.INetworkDefinition, trt.OnnxParser]:
    """Parse an ONNX file.

    Returns:
        The network, and the parser. The parser owns the weights: keep it until the build is done.

    Raises:
        ModelFileError: TensorRT's parser refuses the file. The message has the first and the last error, with node.
    """
    flags = {8: _network_flags_trt8, 10: _network_flags_trt10, 11: _network_flags_trt11}[generation(trt)](trt, settings)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    # Parse the file, not its bytes: TensorRT finds external weights relative to the file.
    if not parser.parse_from_file(str(onnx_path)):
        raise ModelFileError(
            f"{printable(onnx_path)}: {titled(trt)} cannot read this model: {_parser_errors(trt, parser, logger)}; "
            f"use the file with the runtime onnxruntime-cuda, or export it again with: {HOW_MADE}"
        )
    return network, parser


def _parser_errors(trt: ModuleType, parser: trt.OnnxParser, logger: trt.ILogger) -> str:
    """The first and the last error of the parser, each with its node; those in the log if the parser has none."""
    describe = _describe_error_trt8 if generation(trt) == 8 else _describe_error_trt10_11
    found = [parser.get_error(index) for index in range(parser.num_errors)]
    lines = [describe(error) for error in found if error.desc().strip()]
    if not lines:
        return reason_of(logged_errors(logger))
    between = [f"{len(lines) - 2} more"] if len(lines) > 2 else []
    return "; ".join([lines[0], *between, *lines[1:][-1:]])


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
    if settings.exclude_lean_runtime:
        config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
    if settings.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if settings.strip_weights:
        _strip_weights_trt10_11(trt, config)
    if generation(trt) == 8:
        _share_profile_trt8(trt, config)
    if not is_strongly_typed(trt, settings):
        _choose_precision_trt8_10(trt, config, network, spec.precision)
    profile = builder.create_optimization_profile()
    smallest, optimal, largest = (
        trt.Dims([batch, *spec.input_shape]) for batch in (settings.min_batch, settings.opt_batch, settings.max_batch)
    )
    profile.set_shape(INPUT_NAME, smallest, optimal, largest)
    if config.add_optimization_profile(profile) < 0:
        raise UsageError(
            f"TensorRT refuses batches of {settings.min_batch} to {settings.max_batch}: expected a model with a "
            f"dynamic batch; export it again with: {HOW_MADE}"
        )
    return config


def _share_profile_trt8(trt: ModuleType, config: trt.IBuilderConfig) -> None:
    # From 10 on always so. Without it, a second execution context gets no profile, and each CUDA graph needs a context.
    config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)


def _network_flags_trt8(trt: ModuleType, settings: BuildSettings) -> int:
    return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


def _network_flags_trt10(trt: ModuleType, settings: BuildSettings) -> int:
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if settings.strongly_typed else 0


def _network_flags_trt11(trt: ModuleType, settings: BuildSettings) -> int:
    return 0  # TensorRT 11 networks are always strongly typed


def _describe_error_trt8(error: trt.ParserError) -> str:
    return f"node {error.node()}: {without_noise(error.desc())}"


def _describe_error_trt10_11(error: trt.ParserError) -> str:
    description = without_noise(error.desc())
    if not error.node_operator():  # the file as a whole cannot be read
        return description
    return f"node {error.node_name()!r} ({error.node_operator()}): {description}"


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
        # 8.6 cannot obey: with constraints that it must keep, it finds no kernel for any int8 layer. So the types of
        # the tail are a wish here, and proof.check_tail looks at what came of it.
        config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
    else:
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    _constrain_tail_trt8_10(trt, network)


def _constrain_tail_trt8_10(trt: ModuleType, network: trt.INetworkDefinition) -> int:
    """Constrain the network's tail, which contains the L2 norm, to float32.

    Returns:
        Number of constrained layers.
    """
    # With flags alone TensorRT may compute the L2 norm in float16, where it overflows silently (rows of zeros).
    ends = (
        trt.LayerType.CAST,
        trt.LayerType.CONSTANT,
        trt.LayerType.SHAPE,
        trt.LayerType.CONVOLUTION,
        trt.LayerType.QUANTIZE,
        trt.LayerType.DEQUANTIZE,
    )
    return sum(_constrain_layer_trt8_10(trt, layer) for layer in tail_layers(network, ends))


def _constrain_layer_trt8_10(trt: ModuleType, layer: trt.ILayer) -> int:
    """Constrain a layer to float32 if all its outputs are floating point: number of constrained layers, 0 or 1."""
    if not all(_is_constrainable_trt8_10(trt, tensor) for tensor in outputs_of(layer)):
        return 0
    layer.precision = trt.DataType.FLOAT
    for index in range(layer.num_outputs):
        layer.set_output_type(index, trt.DataType.FLOAT)
    return 1


def _is_constrainable_trt8_10(trt: ModuleType, tensor: trt.ITensor) -> bool:
    # Shape arithmetic uses integers, and TensorRT refuses to constrain these layers.
    return tensor.dtype in (trt.DataType.FLOAT, trt.DataType.HALF) and not tensor.is_shape_tensor
