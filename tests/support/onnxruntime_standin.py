"""A module ``onnxruntime`` with GPU sessions that read and write the memory of the CUDA stand-in."""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from rrid_edge.engines import FakeEngine
from rrid_edge.model.spec import ModelSpec
from support.cuda_standin import CudaStandin, install_cuda


class Binding:
    def __init__(self) -> None:
        self.bound: dict[str, tuple[tuple[int, ...], type, int]] = {}

    def bind_input(self, name, device_type, device_id, element_type, shape, buffer_ptr):
        assert (device_type, device_id) == ("cuda", 0)
        self.bound[name] = (tuple(shape), element_type, buffer_ptr)

    def bind_output(self, name, device_type="cpu", device_id=0, element_type=None, shape=None, buffer_ptr=None):
        assert (device_type, device_id) == ("cuda", 0)
        self.bound[name] = (tuple(shape), element_type, buffer_ptr)


class OnnxRuntimeWorld:
    """A module ``onnxruntime`` with one GPU session, and attributes that cause errors."""

    def __init__(self, cuda: CudaStandin, spec: ModelSpec) -> None:
        self.cuda = cuda
        self.spec = spec
        self.available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        self.started = list(self.available)
        self.error: str | None = None
        self.bindings: list[Binding] = []
        self.providers: list[object] = []
        self.preloaded = 0
        self.complaint = ""
        self.severities: list[int] = []
        world = self

        class InferenceSession:
            def __init__(self, path_or_bytes, sess_options=None, providers=None, provider_options=None, **kwargs):
                world.providers = providers
                self.stream = world.cuda.streams[int(providers[0][1]["user_compute_stream"])]

            def get_providers(self):
                return world.started

            def io_binding(self):
                world.bindings.append(Binding())
                return world.bindings[-1]

            def run_with_iobinding(self, iobinding, run_options=None):
                if world.error:
                    raise RuntimeError(world.error)
                world.run(self.stream, iobinding)

        self.module = ModuleType("onnxruntime")
        self.module.__dict__.update(
            InferenceSession=InferenceSession,
            SessionOptions=SimpleNamespace,
            get_available_providers=lambda: self.available,
            preload_dlls=self.preload,
            set_default_logger_severity=self.severities.append,
        )

    def preload(self) -> None:
        self.preloaded += 1
        if self.complaint:
            print(self.complaint)  # as the package does, on stdout

    def run(self, stream, binding: Binding) -> None:
        shape, kind, address = binding.bound["images"]
        out_shape, out_kind, out_address = binding.bound["descriptors"]
        dtype = np.dtype(self.spec.input_dtype)
        assert (kind, out_kind) == (dtype.type, np.float32)
        assert out_shape == (shape[0], self.spec.dimension)

        def work() -> None:
            source = self.cuda.device_buffer(address, dtype.itemsize * int(np.prod(shape)))
            images = np.frombuffer(memoryview(source), dtype, int(np.prod(shape))).reshape(shape)
            if dtype == np.float32:
                images = images.transpose(0, 2, 3, 1).astype(np.uint8)
            content = FakeEngine(self.spec).run(images).tobytes()
            ctypes.memmove(self.cuda.device_buffer(out_address, len(content)), content, len(content))

        stream.add(work)


def install_onnxruntime(monkeypatch: pytest.MonkeyPatch, spec: ModelSpec) -> OnnxRuntimeWorld:
    """Replace ONNX Runtime and CUDA by stand-ins for one test."""
    world = OnnxRuntimeWorld(install_cuda(monkeypatch), spec)
    monkeypatch.setitem(sys.modules, "onnxruntime", world.module)
    return world
