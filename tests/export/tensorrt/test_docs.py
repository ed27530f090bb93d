"""The code in docs/plan-without-rrid-edge.md runs on every TensorRT version and uses only its API."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from rrid_edge.engines import FakeEngine
from rrid_edge.engines.fake import fake_spec
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.settings import BuildSettings
from support.onnx_models import save_tiny_model
from support.tensorrt_behaviour import install
from support.tensorrt_standin import VERSIONS
from support.tensorrt_syntax import check_modules

DOCS = Path(__file__).parents[3] / "docs"


def _python_code() -> str:
    text = (DOCS / "plan-without-rrid-edge.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return code


@pytest.mark.parametrize("version", VERSIONS)
def test_the_code_runs_on_every_version(monkeypatch, tmp_path, version):
    world = install(monkeypatch, version)
    spec = fake_spec()
    engine_path = tmp_path / "m.engine"
    build_engine(save_tiny_model(tmp_path / "m.onnx", spec), engine_path, BuildSettings(opt_batch=2, max_batch=4))
    package = ModuleType("cuda.bindings")
    package.__dict__["runtime"] = world.cuda
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", package)
    names: dict[str, Any] = {}
    exec(compile(_python_code(), "docs", "exec"), names)
    images = np.random.default_rng(0).integers(0, 256, (3, spec.height_px, spec.width_px, 3), dtype=np.uint8)
    np.testing.assert_array_equal(names["describe"](engine_path, images), FakeEngine(spec).run(images))
    assert world.cuda.live == 0
    with pytest.raises(RuntimeError, match="takes batches of"):
        names["describe"](engine_path, np.concatenate([images, images]))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_code_uses_only_the_api_of_every_version(tmp_path, version):
    path = tmp_path / "code.py"
    path.write_text(_python_code())
    report = check_modules([path], version)
    assert report.problems == []
    assert "IExecutionContext.execute_async_v3" in report.uses


def test_the_page_names_what_was_not_measured():
    text = (DOCS / "tensorrt.md").read_text(encoding="utf-8")
    assert "not measured" in text
    assert "Never install TensorRT over JetPack's" in text
