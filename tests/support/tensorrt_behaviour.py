"""The behaviour of the TensorRT stand-in: it parses, "builds" a plan of JSON, and runs it on the CUDA stand-in.

The behaviour follows NVIDIA's documentation where wrong code would go unnoticed. Methods return None or False instead
of raising. The inspector hides types until the shapes of its context are resolved. The lean runtime needs permission.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from rrid_edge.engines.fake import FakeEngine
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec
from support.cuda_standin import CudaStandin, install_cuda
from support.tensorrt_contexts import contexts, enqueued
from support.tensorrt_layers import answer
from support.tensorrt_parser import complaint
from support.tensorrt_standin import RTX_GENERATIONS, build_module

MAGIC = b"ftrt"
EMPTY_ERRORS = {
    8: "1: [defaultAllocator.cpp::deallocate::61] Error Code 1: Cuda Runtime ()",
    10: "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at "
    "/_src/common/dispatch/checkMacros.cpp:250)",
}
"""The last error of real lists, by generation (that of 11 is the one of 10). It gives no reason."""
NO_ENGINE = (
    "2: [builder.cpp::buildSerializedNetwork::751] Error Code 2: Internal Error (Assertion engine != nullptr failed. )"
)
NO_KERNEL = (
    "10: [optimizer.cpp::computeCosts::3728] Error Code 10: Internal Error (Could not find any implementation for node"
)


class TensorRTStandin:
    """The module, with attributes that cause errors."""

    def __init__(self, version: str, cuda: CudaStandin) -> None:
        self.version = version
        self.generation = RTX_GENERATIONS.get(version) or int(version.split(".")[0])
        self.cuda = cuda
        self.log: list[str] = []
        self.compute: Callable[[ModelSpec, np.ndarray], np.ndarray] = lambda spec, images: FakeEngine(spec).run(images)
        self.parser_errors: list[str] = []
        self.parser_logger: Any = None
        self.builder_error: str | None = None
        self.runtime_error: str | None = None
        self.build_error: str | None = None
        self.load_error: str | None = None
        self.context_error: str | None = None
        self.enqueue_error: str | None = None
        self.built_precision: str | None = None  # overrides the precision that was asked for
        self.cuts_names = False  # the inspector gives only names
        self.half_tail = False  # the engine computes the norm in float16
        self.cache_fits = True
        self.cache_serialises = True
        self.lean_runtimes = {f"libnvinfer_lean.so.{self.generation}": version}  # library -> its version
        self.progress: list[tuple[str, ...]] = []
        self.configs: list[Any] = []
        self.networks: list[Any] = []
        self.enqueued: list[int] = []
        self.stray_enqueue_failures = 0
        self.activation_bytes = 640  # device memory of a context
        self.contexts_made = 0
        self.module: ModuleType = build_module(version, self._behaviour(), self.log)

    def make(self, name: str, /, **state: object) -> Any:
        """Make an object of a class that has no public constructor."""
        made = object.__new__(getattr(self.module, name))
        for key, value in state.items():
            setattr(made, f"fake_{key}", value)
        return made

    def host_memory(self, content: bytes) -> Any:
        return self.make("IHostMemory", content=content, nbytes=len(content))

    def dims(self, *shape: int) -> Any:
        return self.make("Dims", shape=tuple(shape))

    def _behaviour(self) -> dict[str, Callable[..., Any]]:
        found: dict[str, Callable[..., Any]] = {}
        for part in (_building(self), _parsing(self), _loading(self), _running(self)):
            found |= part
        return found

    def load_library(self, library: str) -> None:
        if library not in self.lean_runtimes:
            raise OSError(f"{library}: cannot open shared object file")

    def need_gpu(self) -> None:
        if not self.cuda.asked or self.cuda.devices < 1:
            raise SystemError("the real TensorRT would crash the process here: nobody asked CUDA for a device")

    def refuse_to_start(self, logger: Any, reason: str | None) -> None:
        """Answer as NVIDIA's bindings do if the library makes no object."""
        if reason is not None:
            self.error(logger, reason)
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def say(self, logger: Any, severity: str, message: str) -> None:
        """Send a message to the log. NVIDIA's own logger prints."""
        if type(logger) is not self.module.Logger:
            logger.log(getattr(self.module.ILogger, severity), message)

    def error(self, logger: Any, *messages: str) -> None:
        """Log errors as the real libraries do: warnings stand between them, and the last one is empty."""
        self.say(logger, "WARNING", "a warning that must not be taken for the reason")
        for message in (*messages, EMPTY_ERRORS[min(self.generation, 10)]):
            self.say(logger, "ERROR", message)


def install(monkeypatch: pytest.MonkeyPatch, version: str) -> TensorRTStandin:
    """Replace CUDA and TensorRT by stand-ins for one test."""
    standin = TensorRTStandin(version, install_cuda(monkeypatch))
    monkeypatch.setattr("rrid_edge.engines.tensorrt.lean.load_library", standin.load_library)
    monkeypatch.setitem(sys.modules, "tensorrt", standin.module)
    return standin


def _building(world: TensorRTStandin) -> dict[str, Callable[..., Any]]:
    def check_logger(logger: Any) -> None:
        if not getattr(logger, "fake_ready", False):
            raise TypeError("ILogger.__init__() was not called")

    def new_builder(self: Any, logger: Any) -> None:
        world.need_gpu()
        check_logger(logger)
        world.refuse_to_start(logger, world.builder_error)
        self.fake_logger = logger

    def new_network(self: Any, flags: int = 0) -> Any:
        names = world.module.NetworkDefinitionCreationFlag
        typed = world.generation == 11
        if world.generation == 8:
            assert flags & 1 << int(names.EXPLICIT_BATCH), "an implicit batch cannot take this model"
        elif world.generation == 10:
            typed = bool(flags & 1 << int(names.STRONGLY_TYPED))
        network = world.make("INetworkDefinition", typed=typed, layers=[], spec=None)
        world.networks.append(network)
        return network

    def new_config(self: Any) -> Any:
        flags = {"TF32"}
        level = world.module.HardwareCompatibilityLevel.NONE
        state: dict[str, Any] = {"flag_names": flags, "pools": {}, "profiles": [], "cache": None, "given": []}
        state["previews"] = set()
        config = world.make("IBuilderConfig", hardware_compatibility_level=level, **state)
        config.fake_logger = self.fake_logger
        world.configs.append(config)
        return config

    def add_profile(self: Any, profile: Any) -> int:
        if not hasattr(profile, "fake_shapes"):
            return -1
        self.fake_profiles.append(profile.fake_shapes)
        return len(self.fake_profiles) - 1

    def set_shape(self: Any, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002 - NVIDIA's names
        assert input == INPUT_NAME
        self.fake_shapes = [list(min), list(opt), list(max)]

    def create_cache(self: Any, serialized_timing_cache: bytes) -> Any:
        self.fake_given.append(bytes(serialized_timing_cache))
        return world.make("ITimingCache", content=bytes(serialized_timing_cache))

    def set_cache(self: Any, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.fake_content and not world.cache_fits:
            world.error(self.fake_logger, "The timing cache was made on another GPU")
            return False
        self.fake_cache = cache
        return True

    return {
        "Logger.__init__": lambda self, min_severity=None: setattr(self, "fake_ready", True),
        "ILogger.__init__": lambda self: setattr(self, "fake_ready", True),
        "Builder.__init__": new_builder,
        "Builder.create_network": new_network,
        "Builder.create_builder_config": new_config,
        "Builder.create_optimization_profile": lambda self: world.make("IOptimizationProfile"),
        "Builder.build_serialized_network": lambda self, network, config: _build(world, self, network, config),
        "IBuilderConfig.set_flag": lambda self, flag: self.fake_flag_names.add(flag.name),
        "IBuilderConfig.set_preview_feature": lambda self, feature, enable: (
            self.fake_previews.add(feature.name) if enable else self.fake_previews.discard(feature.name)
        ),
        "IBuilderConfig.clear_flag": lambda self, flag: self.fake_flag_names.discard(flag.name),
        "IBuilderConfig.set_memory_pool_limit": lambda self, pool, pool_size: self.fake_pools.update(
            {pool.name: pool_size}
        ),
        "IBuilderConfig.add_optimization_profile": add_profile,
        "IOptimizationProfile.set_shape": set_shape,
        "IBuilderConfig.create_timing_cache": create_cache,
        "IBuilderConfig.set_timing_cache": set_cache,
        "IBuilderConfig.get_timing_cache": lambda self: self.fake_cache,
        "ITimingCache.serialize": lambda self: (
            world.host_memory(self.fake_content + b"+times") if world.cache_serialises else None
        ),
        "IProgressMonitor.__init__": lambda self: setattr(self, "fake_ready", True),
        "Dims.__init__": lambda self, shape=(): setattr(self, "fake_shape", tuple(shape)),
    }


def _build(world: TensorRTStandin, builder: Any, network: Any, config: Any) -> Any:
    monitor = getattr(config, "fake_progress_monitor", None)
    if monitor is not None and not _report_progress(world, monitor):
        return None
    flags, spec = config.fake_flag_names, network.fake_spec
    build_error = world.build_error
    if world.generation == 8 and {"INT8", "OBEY_PRECISION_CONSTRAINTS"} <= flags:
        build_error = f"{NO_KERNEL} node_conv2d + node_relu.)"
    world.say(builder.fake_logger, "VERBOSE", "Original: 102 layers\nAfter dead-layer removal: 101 layers")
    lean = f"libnvinfer_lean.so.{world.generation}"
    if "VERSION_COMPATIBLE" in flags and "EXCLUDE_LEAN_RUNTIME" not in flags and lean not in world.lean_runtimes:
        build_error = (
            f"Unable to load library: {lean}: {lean}: cannot open shared object file: No such file or directory"
        )
    if build_error is not None:
        world.error(builder.fake_logger, build_error, NO_ENGINE)
        return None
    allowed = (
        network.fake_typed or spec.precision == "fp32" or {"fp16": "FP16", "int8": "INT8"}[spec.precision] in flags
    )
    plan = {
        "version": world.version,
        "metadata": spec.to_metadata(),
        "profile": config.fake_profiles[0],
        "precision": world.built_precision or (spec.precision if allowed else "fp32"),
        "detailed": config.fake_profiling_verbosity.name == "DETAILED",
        "lean_runtime": "VERSION_COMPATIBLE" in flags and "EXCLUDE_LEAN_RUNTIME" not in flags,
        "stripped": "STRIP_PLAN" in flags,
        "compatibility": config.fake_hardware_compatibility_level.name,
        "shares_profile": world.generation > 8 or "PROFILE_SHARING_0806" in config.fake_previews,
    }
    return world.host_memory(MAGIC + json.dumps(plan).encode())


def _report_progress(world: TensorRTStandin, monitor: Any) -> bool:
    """Report two nested phases, like the real builder. Return False if the monitor ends the build."""
    assert monitor.fake_ready
    monitor.phase_start("whole", None, 4)
    for step in range(4):
        monitor.phase_start("inner", "whole", 5)
        for inner in range(5):
            if not monitor.step_complete("inner", inner):
                return False
        monitor.phase_finish("inner")
        if not monitor.step_complete("whole", step):
            return False
    monitor.phase_finish("whole")
    return True


def _parsing(world: TensorRTStandin) -> dict[str, Callable[..., Any]]:
    def new_parser(self: Any, network: Any, logger: Any) -> None:
        self.fake_network = network
        world.parser_logger = logger

    def parse(self: Any, model: str) -> bool:
        if found := complaint(Path(model), world.version):
            world.parser_errors.append(found)
        if world.parser_errors:
            return False
        self.fake_network.fake_spec = read_spec(Path(model))
        self.fake_network.fake_layers = _layers(world, self.fake_network.fake_spec.precision)
        return True

    def error_at(self: Any, index: int) -> Any:
        return world.make("ParserError", text=world.parser_errors[index], index=index)

    return {
        "OnnxParser.__init__": new_parser,
        "OnnxParser.parse_from_file": parse,
        "OnnxParser.num_errors": lambda self: len(world.parser_errors),
        "OnnxParser.get_error": error_at,
        "ParserError.desc": lambda self: self.fake_text,
        "ParserError.node": lambda self: 40 + self.fake_index,
        "ParserError.node_name": lambda self: f"/layer{self.fake_index}/Resize",
        "ParserError.node_operator": lambda self: "Resize",
        "INetworkDefinition.num_layers": lambda self: len(self.fake_layers),
        "INetworkDefinition.get_layer": lambda self, index: self.fake_layers[index],
        "INetworkDefinition.num_outputs": lambda self: 1,
        "INetworkDefinition.get_output": lambda self, index: self.fake_layers[-1].fake_outputs[index],
        "ILayer.num_inputs": lambda self: len(self.fake_inputs),
        "ILayer.num_outputs": lambda self: len(self.fake_outputs),
        "ILayer.get_input": lambda self, index: self.fake_inputs[index],
        "ILayer.get_output": lambda self, index: self.fake_outputs[index],
        "ILayer.set_output_type": lambda self, index, dtype: self.fake_types.update({index: dtype.name}),
    }


def _layers(world: TensorRTStandin, precision: str) -> list[Any]:
    """Make images -> to float -> to half -> conv -> back to float -> concat -> norm -> divide, and a shape branch.

    In int8, quantise -> dequantise -> conv replace the two casts.
    """
    types = world.module.DataType

    def tensor(name: str, dtype: Any, *, shape: bool = False) -> Any:
        return world.make("ITensor", name=name, dtype=dtype, is_shape_tensor=shape)

    def layer(kind: str, name: str, inputs: list[Any], output: Any) -> Any:
        kind = getattr(world.module.LayerType, kind)
        return world.make("ILayer", type=kind, name=name, inputs=inputs, outputs=[output], types={})

    images = tensor(INPUT_NAME, types.UINT8)
    chain = [layer("CAST", "to_float", [images], tensor("float", types.FLOAT))]
    halves = (("CAST", "to_half", types.HALF), ("CONVOLUTION", "conv", types.HALF), ("CAST", "back", types.FLOAT))
    eighths = (
        ("QUANTIZE", "quantise", types.INT8),
        ("DEQUANTIZE", "dequantise", types.FLOAT),
        ("CONVOLUTION", "conv", types.FLOAT),
    )
    for kind, name, dtype in (
        *(eighths if precision == "int8" else halves),
        ("CONCATENATION", "concat", types.FLOAT),
        ("REDUCE", "norm", types.FLOAT),
    ):
        chain.append(layer(kind, name, [chain[-1].fake_outputs[0]], tensor(name, dtype)))
    eps = layer("CONSTANT", "eps", [], tensor("eps", types.FLOAT))
    shape = layer("SHAPE", "shape", [chain[4].fake_outputs[0]], tensor("shape", types.INT32, shape=True))
    sums = layer("ELEMENTWISE", "sizes", [shape.fake_outputs[0]], tensor("sizes", types.INT32, shape=True))
    inputs = [chain[4].fake_outputs[0], chain[5].fake_outputs[0], eps.fake_outputs[0], sums.fake_outputs[0], None]
    return [*chain, eps, shape, sums, layer("ELEMENTWISE", "divide", inputs, tensor(OUTPUT_NAME, types.FLOAT))]


def _loading(world: TensorRTStandin) -> dict[str, Callable[..., Any]]:
    def new_runtime(self: Any, logger: Any) -> None:
        world.need_gpu()
        world.refuse_to_start(logger, world.runtime_error)
        self.fake_logger, self.fake_version = logger, world.version
        self.fake_engine_host_code_allowed = False

    def load_runtime(self: Any, path: str) -> Any:
        if path not in world.lean_runtimes:
            world.error(self.fake_logger, f"cannot load {path}")
            return None
        version = world.lean_runtimes[path]
        return world.make("Runtime", logger=self.fake_logger, engine_host_code_allowed=False, version=version)

    def load(self: Any, serialized_engine: bytes) -> Any:
        content = bytes(serialized_engine)
        reason = world.load_error
        if not content.startswith(MAGIC):
            reason = "the plan's magic tag does not match"
        plan: dict[str, Any] = {} if reason else json.loads(content[len(MAGIC) :])
        if plan and plan["lean_runtime"] and not self.fake_engine_host_code_allowed:
            reason = "host code is not allowed"
        elif plan and not plan["lean_runtime"] and plan["version"] != self.fake_version:
            reason = f"the plan was built by {plan['version']}, this is {self.fake_version}"
        if reason:
            world.error(self.fake_logger, reason)
            return None
        spec = ModelSpec.from_metadata(plan["metadata"], where="plan")
        # The engine keeps the runtime alive here. The real engine only refers to it.
        return world.make("ICudaEngine", plan=plan, spec=spec, runtime=self, weights=not plan["stripped"])

    return {
        "Runtime.__init__": new_runtime,
        "Runtime.deserialize_cuda_engine": load,
        "Runtime.load_runtime": load_runtime,
        **_refitting(),
        "ICudaEngine.profiling_verbosity": lambda self: getattr(
            world.module.ProfilingVerbosity, "DETAILED" if self.fake_plan["detailed"] else "LAYER_NAMES_ONLY"
        ),
        "ICudaEngine.hardware_compatibility_level": lambda self: getattr(
            world.module.HardwareCompatibilityLevel, self.fake_plan["compatibility"]
        ),
        "ICudaEngine.create_engine_inspector": lambda self: world.make("EngineInspector", engine=self),
        "EngineInspector.get_engine_information": lambda self, format: _information(world, self, format),  # noqa: A006
    }


def _refitting() -> dict[str, Callable[..., Any]]:
    def refit(self: Any, model: str) -> bool:
        self.fake_refitter.fake_source = read_spec(Path(model))
        return True

    def refit_engine(self: Any) -> bool:
        self.fake_engine.fake_weights = self.fake_source == self.fake_engine.fake_spec
        return bool(self.fake_engine.fake_weights)

    def new_refitter(self: Any, engine: Any, logger: Any) -> None:
        self.fake_engine = engine

    def new_parser_refitter(self: Any, refitter: Any, logger: Any) -> None:
        self.fake_refitter = refitter

    return {
        "Refitter.__init__": new_refitter,
        "Refitter.refit_cuda_engine": refit_engine,
        "OnnxParserRefitter.__init__": new_parser_refitter,
        "OnnxParserRefitter.refit_from_file": refit,
    }


def _information(world: TensorRTStandin, inspector: Any, form: Any) -> str:
    assert form.name == "JSON"
    plan = inspector.fake_engine.fake_plan
    if world.cuts_names or not plan["detailed"]:
        return json.dumps({"Layers": [f"layer {index}" for index in range(6)]})
    context = getattr(inspector, "fake_execution_context", None)
    shaped = getattr(context, "fake_inferred", None) is not None
    return answer(world.generation, plan["precision"], shaped=shaped, tail="half" if world.half_tail else "single")


def _running(world: TensorRTStandin) -> dict[str, Callable[..., Any]]:
    def modes() -> dict[str, Any]:
        return {INPUT_NAME: world.module.TensorIOMode.INPUT, OUTPUT_NAME: world.module.TensorIOMode.OUTPUT}

    def shape_of(spec: ModelSpec, name: str, batch: int) -> tuple[int, ...]:
        tail = spec.input_shape if name == INPUT_NAME else (spec.dimension,)
        return (batch, *tail)

    def set_input_shape(self: Any, name: str, shape: Any) -> bool:
        assert self.fake_profile >= 0, "TensorRT 8.6 crashes: another context uses the profile"
        low, _best, high = self.fake_engine.fake_plan["profile"]
        if name != INPUT_NAME or not low[0] <= shape[0] <= high[0] or list(shape)[1:] != low[1:]:
            return False
        self.fake_batch, self.fake_inferred = shape[0], None
        return True

    def infer_shapes(self: Any) -> list[str]:
        self.fake_inferred = getattr(self, "fake_batch", None)
        return [INPUT_NAME] if self.fake_inferred is None else []

    def execute(self: Any, stream_handle: int) -> bool:
        stream = world.cuda.streams[stream_handle]
        if stream.captured is not None and world.stray_enqueue_failures:
            return False
        if world.enqueue_error is not None:
            world.error(self.fake_engine.fake_runtime.fake_logger, world.enqueue_error)
            return False
        work = _kernel(world, self.fake_engine, self.fake_batch, dict(self.fake_addresses))
        stream.add(enqueued(world, self, work, captured=stream.captured is not None))
        world.enqueued.append(self.fake_batch)
        return True

    def dtype(self: Any, name: str) -> Any:
        types = world.module.DataType
        pixels = {"uint8": types.UINT8, "float32": types.FLOAT}[self.fake_spec.input_dtype]
        return {INPUT_NAME: pixels, OUTPUT_NAME: types.FLOAT}[name]

    def profile_shape(self: Any, name: str, profile_index: int) -> list[Any]:
        assert (name, profile_index) == (INPUT_NAME, 0)
        return [world.dims(*shape) for shape in self.fake_plan["profile"]]

    return {
        "ICudaEngine.num_io_tensors": lambda self: 2,
        "ICudaEngine.num_optimization_profiles": lambda self: 1,
        "ICudaEngine.get_tensor_name": lambda self, index: (OUTPUT_NAME, INPUT_NAME)[index],
        "ICudaEngine.get_tensor_mode": lambda self, name: modes()[name],
        "ICudaEngine.get_tensor_dtype": dtype,
        "ICudaEngine.get_tensor_location": lambda self, name: world.module.TensorLocation.DEVICE,
        "ICudaEngine.get_tensor_shape": lambda self, name: world.dims(*shape_of(self.fake_spec, name, -1)),
        "ICudaEngine.get_tensor_profile_shape": profile_shape,
        **contexts(world),
        "IExecutionContext.set_input_shape": set_input_shape,
        "IExecutionContext.infer_shapes": infer_shapes,
        "IExecutionContext.get_tensor_shape": lambda self, name: world.dims(
            *shape_of(self.fake_engine.fake_spec, name, self.fake_batch)
        ),
        "IExecutionContext.set_tensor_address": lambda self, name, memory: bool(
            self.fake_addresses.update({name: memory}) or memory in world.cuda.device_memory
        ),
        "IExecutionContext.execute_async_v3": execute,
    }


def _kernel(world: TensorRTStandin, engine: Any, batch: int, addresses: dict[str, int]) -> Callable[[], None]:
    """Return the work of one enqueue, with the shape and the addresses at the time of the enqueue."""
    spec = engine.fake_spec
    shape, dtype = (batch, *spec.input_shape), np.dtype(spec.input_dtype)

    def run() -> None:
        source = world.cuda.device_buffer(addresses[INPUT_NAME], dtype.itemsize * int(np.prod(shape)))
        images = np.frombuffer(memoryview(source), dtype, int(np.prod(shape))).reshape(shape)
        if dtype == np.float32:  # the compute below takes the pixels of the image contract
            images = images.transpose(0, 2, 3, 1).astype(np.uint8)
        values = world.compute(spec, images) if engine.fake_weights else np.zeros((batch, spec.dimension))
        content = np.ascontiguousarray(values, np.float32).tobytes()
        memoryview(world.cuda.device_buffer(addresses[OUTPUT_NAME], len(content))).cast("B")[: len(content)] = content

    return run
