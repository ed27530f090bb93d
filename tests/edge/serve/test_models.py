"""How the service opens models."""

from __future__ import annotations

import pytest

from rrid_edge.engines.runtime_choice import RuntimeChoice
from rrid_edge.serve import models
from rrid_edge.serve.settings import ServeSettings


@pytest.mark.parametrize(("runtime", "batch"), [("openvino", 8), ("onnxruntime", 8), ("onnxruntime-cuda", 32)])
def test_a_cpu_gets_small_batches(tmp_path, monkeypatch, runtime, batch):
    opened: dict[str, object] = {}
    monkeypatch.setattr(models, "choose_runtime", lambda path, *_, **__: RuntimeChoice(runtime, asked=False))
    monkeypatch.setattr(models, "open_engine", lambda path, asked, **options: opened.update(options, runtime=asked))
    models.ModelFiles(ServeSettings(("g",), threads=2)).open(tmp_path / "rrid.onnx")
    assert (opened["max_batch"], opened["threads"], opened["runtime"]) == (batch, 2, "auto")
