"""Gives every Python that has this folder on its path a GPU: the stand-ins of CUDA and TensorRT, loaded when imported.

``RRID_EDGE_STANDIN`` names the version of TensorRT; ``none`` is a machine whose driver finds no GPU. The folder
``tests`` must be on the path too.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import ModuleType


class StandinFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``tensorrt`` and ``cuda.bindings`` before real ones, all of one world."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._made: dict[str, ModuleType] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname in ("tensorrt", "cuda", "cuda.bindings"):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=fullname != "tensorrt")
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        if not self._made:
            self._make_world()
        return self._made[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the stand-in is complete."""

    def _make_world(self) -> None:
        from support.cuda_standin import CudaStandin
        from support.tensorrt_behaviour import TensorRTStandin

        world = TensorRTStandin("10.3.0" if self._version == "none" else self._version, CudaStandin())
        world.cuda.devices = int(self._version != "none")
        bindings = ModuleType("cuda.bindings")
        bindings.__dict__["runtime"] = world.cuda
        self._made = {"tensorrt": world.module, "cuda": ModuleType("cuda"), "cuda.bindings": bindings}


if version := os.environ.get("RRID_EDGE_STANDIN"):
    sys.meta_path.insert(0, StandinFinder(version))
