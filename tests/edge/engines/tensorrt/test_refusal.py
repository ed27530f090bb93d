"""One line from TensorRT's log: the reason, and what helps against it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from rrid_edge.engines.tensorrt.refusal import Refusal, reason_of, without_noise
from rrid_edge.errors import ArtefactError, GpuFaultError, MissingDependencyError, ModelFileError, UsageError

TRT = ModuleType("tensorrt")
TRT.__dict__["__version__"] = "10.3.0"
REFUSAL = Refusal(
    TRT,
    Path("m.onnx"),
    "building an engine",
    otherwise="use another runtime",
    written="nothing was written",
)
NO_KERNEL = (
    "10: [optimizer.cpp::computeCosts::3728] Error Code 10: Internal Error (Could not find any implementation for "
)
NO_ENGINE = (
    "2: [builder.cpp::buildSerializedNetwork::751] Error Code 2: Internal Error (Assertion engine != nullptr failed. )"
)
# As TensorRT for RTX 1.7.1.116 said it on a machine without a driver.
OLD_DRIVER = (
    "IRuntime::deserializeCudaEngine: Error Code 1: Cuda Runtime (In ScopedCudaStream at "
    "/_src/common/dispatch/cudaResources.cpp:25 (cudaError 35: CUDA driver version is insufficient for CUDA runtime "
    "version))"
)


# As 1.7.1.116 said it for a plan that is no plan, and with a workspace of one byte.
NO_PLAN = [
    "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion header.magicTag == "
    "kEXPECTED_MAGIC_TAG failed. In throwUnlessHeaderOk at /_src/runtime/dispatch/runtime.cpp:48)",
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at "
    "/_src/common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver version is insufficient for CUDA runtime "
    "version))",
]
ONE_BYTE = (
    "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([tactic.cpp:1676: enumerate_tactics] Tactic Selection: no "
    "tactics to implement the operation within workspace limit. Consider increase the allowed workspace size if "
    "applicable.; [tactic.cpp:264: run] Error during tactic selection. In compileGraph at "
    "/_src/optimizer/myelin/codeGenerator.cpp:2012)"
)

# As 8.6.0 said it on an H200 with a file libnvinfer_builder_resource.so.8.6.0 that was not NVIDIA's.
DIGEST = (
    "2: [builder.cpp::createCaskKernelLibraryImpl::182] Error Code 2: Internal Error (Assertion "
    "validateCaskKLibDigest(sha256sum) failed. )"
)


def test_places_and_the_state_of_cuda_are_left_out():
    told = (
        "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion header.magicTag == "
        "kEXPECTED_MAGIC_TAG failed)"
    )
    assert reason_of(NO_PLAN) == told
    assert without_noise(" ".join(NO_PLAN)) == told
    assert type(REFUSAL.error(NO_PLAN)) is ArtefactError  # not the driver's fault
    assert type(REFUSAL.error(NO_PLAN[1:])) is MissingDependencyError


@pytest.mark.parametrize(
    "empty",
    [
        "",
        " ",
        "Error Code 1: Cuda Runtime",
        "Error Code 1: Cuda Runtime ()",
        "1: [defaultAllocator.cpp::deallocate::61] Error Code 1: Cuda Runtime ()",
        "IRuntime::deserializeCudaEngine: Error Code 1: Cuda Runtime ( )",
        "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime",
    ],
)
def test_an_empty_error_is_no_reason(empty):
    assert reason_of(["the cause", empty]) == "the cause"
    assert reason_of([empty, "the cause", empty, "what followed", empty]) == (
        "first error: the cause; last error: what followed"
    )
    assert reason_of([empty]) == (
        f"TensorRT gave no reason but {empty!r}" if empty.strip() else "TensorRT gave no reason"
    )


def test_reasons_are_told_once_and_shortened():
    assert reason_of([]) == "TensorRT gave no reason"
    assert reason_of(["no", "no"]) == "no"
    assert reason_of([OLD_DRIVER]) == (
        "IRuntime::deserializeCudaEngine: Error Code 1: Cuda Runtime ((cudaError 35: CUDA driver version is "
        "insufficient for CUDA runtime version))"
    )
    long = reason_of([f"Could not find {'node + ' * 1000}due to insufficient workspace"])
    assert long.startswith("Could not find node + node")
    assert long.endswith("node + due to insufficient workspace")
    assert len(long) < 500


@pytest.mark.parametrize(
    ("errors", "kind", "remedy"),
    [
        ([NO_KERNEL + "node c due to insufficient workspace. See verbose log for requested sizes.)"], ArtefactError,
         "try more workspace"),
        (["Error Code 4: Internal Error (insufficient workspace)", NO_ENGINE], ArtefactError, "try more workspace"),
        (["[virtualMemoryBuffer.cpp::resizePhysical::140] Error Code 1: Cuda Runtime (out of memory)"], UsageError,
         "memory does not suffice"),
        (["Requested amount of GPU memory (1073741824 bytes) could not be allocated. There may not be enough free "
          "memory for allocation to succeed.", NO_KERNEL + "node c due to insufficient workspace.)"], UsageError,
         "memory does not suffice"),
        ([ONE_BYTE], ArtefactError, "try more workspace"),
        ([NO_KERNEL + "node node_conv2d + node_relu.)", NO_ENGINE], ArtefactError,
         "no kernel for that layer on this GPU: use another precision of the model"),
        (["Unable to load library: libnvinfer_lean.so.10: cannot open shared object file: No such file or directory",
          "Error Code 6: API Usage Error (no lean runtime)"], MissingDependencyError,
         r"lean runtime of TensorRT 10.3.0 \(libnvinfer_lean.so.10\), .* is not installed: .*exclude_lean_runtime"),
        (["Failed to load libcudnn.so.8: cannot open shared object file"], MissingDependencyError,
         "the library libcudnn.so.8 is missing: install the package"),
        ([OLD_DRIVER], MissingDependencyError, "driver is missing or too old for this TensorRT: rrid-edge"),
        (["Error Code 1: Cuda Runtime (an illegal memory access was encountered)"], GpuFaultError, "dmesg"),
        ([DIGEST], MissingDependencyError, "libnvinfer_builder_resource.: install this TensorRT again"),
        (["something else"], ArtefactError, "use another runtime; RRID_EDGE_TENSORRT_LOG=FILE keeps all"),
        ([], ArtefactError, "use another runtime"),
    ],
    ids=["room", "room-1", "memory", "memory-1", "rtx", "kernel", "lean", "cudnn", "driver", "fault", "digest", "other",
         "no"],
)  # fmt: skip
def test_the_remedy_follows_the_reason(errors, kind, remedy):
    error = REFUSAL.error([*errors, "Error Code 1: Cuda Runtime ()"] if errors else [])
    assert type(error) is kind
    with pytest.raises(kind, match=remedy):
        raise error
    assert ("workspace" in error.message.split("(")[-1].split(")")[-1]) == (remedy == "try more workspace")
    assert "Cuda Runtime ()" not in error.message
    assert "\n" not in error.message
    if kind is not UsageError:
        assert error.message.startswith("m.onnx: TensorRT 10.3.0 refused building an engine (")
        assert ("; nothing was written; " in error.message) == ("lean" not in remedy)


def test_only_workspace_names_its_parameter():
    assert REFUSAL.error(["insufficient workspace"]).parameters == ("workspace_mib",)
    assert REFUSAL.error(["insufficient kernels"]).parameters == ()


def test_a_refusal_has_the_class_that_was_asked_for():
    refusal = Refusal(TRT, Path("m.engine"), "loading it", "rebuild it", kind=ModelFileError)
    error = refusal.error(["The engine plan file is generated on an incompatible device"])
    assert type(error) is ModelFileError
    assert error.message == (
        "m.engine: TensorRT 10.3.0 refused loading it (The engine plan file is generated on an incompatible device); "
        "rebuild it; RRID_EDGE_TENSORRT_LOG=FILE keeps all that TensorRT says"
    )
