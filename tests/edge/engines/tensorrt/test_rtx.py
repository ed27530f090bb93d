"""TensorRT for RTX: its import names and its API generation."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from rrid_edge.engines.tensorrt.api import RTX_MODULES, generation, is_rtx, load_tensorrt_rtx, titled
from rrid_edge.errors import MissingDependencyError


def _module(name: str, version: str, *flags: str) -> ModuleType:
    module = ModuleType(name)
    module.__dict__["__version__"] = version
    module.__dict__["ComputeCapability"] = SimpleNamespace(SM89=89)
    module.__dict__["NetworkDefinitionCreationFlag"] = SimpleNamespace(**dict.fromkeys(flags, 0))
    return module


@pytest.mark.parametrize("name", RTX_MODULES)
def test_both_packagings_are_found(monkeypatch, name):
    for other in RTX_MODULES:
        monkeypatch.setitem(sys.modules, other, None)
    module = _module(name, "1.7.1.116", "STRONGLY_TYPED")
    monkeypatch.setitem(sys.modules, name, module)
    assert load_tensorrt_rtx() is module
    assert is_rtx(module)
    assert titled(module) == "TensorRT for RTX 1.7.1.116"


def test_the_generation_follows_the_features_not_the_version():
    assert generation(_module("tensorrt_rtx", "1.4.0.76", "EXPLICIT_BATCH", "STRONGLY_TYPED")) == 10
    assert generation(_module("tensorrt_rtx", "1.7.1.116", "STRONGLY_TYPED")) == 11
    assert generation(_module("tensorrt_rtx_bindings", "2.0", "STRONGLY_TYPED")) == 11
    ordinary = _module("tensorrt", "10.3.0", "EXPLICIT_BATCH", "STRONGLY_TYPED")
    assert (generation(ordinary), is_rtx(ordinary), titled(ordinary)) == (10, False, "TensorRT 10.3.0")


def test_an_unknown_api_is_refused_with_the_versions_that_were_tried():
    with pytest.raises(MissingDependencyError, match=r"1\.4\.0\.76 and 1\.7\.1\.116 were tried"):
        generation(_module("tensorrt_rtx", "3.0", "EXPLICIT_BATCH"))


def test_where_it_is_missing_the_extra_is_named(monkeypatch):
    for name in RTX_MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'rrid-edge\[gpu-rtx-cu12\]'"):
        load_tensorrt_rtx()
