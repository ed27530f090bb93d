"""Which file ``export --fp16`` sends its user to: that of the machine it runs on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rrid_edge.cli.best_here import best_here, say_best
from rrid_edge.engines.fake import fake_spec
from support.onnx_models import save_tiny_model


@pytest.fixture
def files(tmp_path):
    exact = save_tiny_model(tmp_path / "rrid.onnx", fake_spec())
    return exact, save_tiny_model(tmp_path / "rrid.fp16.onnx", fake_spec().with_precision("fp16"))


def here(monkeypatch, *, gpu=False, runtime="openvino", bf16=False):
    """Pretend to be a machine."""
    monkeypatch.setattr("rrid_edge.machine.gpu.this_gpu", lambda: SimpleNamespace(present=gpu))
    monkeypatch.setattr("rrid_edge.machine.processor.computes_bf16", lambda: bf16)
    monkeypatch.setattr("rrid_edge.engines.choose_runtime", lambda _path: SimpleNamespace(runtime=runtime))


@pytest.mark.parametrize(
    ("machine", "half_is_best", "word"),
    [
        ({"gpu": True, "bf16": True}, True, "NVIDIA GPU"),
        ({"runtime": "onnxruntime-cuda"}, True, "NVIDIA GPU"),
        ({"bf16": True}, False, "both in bf16"),
        ({"bf16": False}, False, "both in float32"),
        ({"runtime": "onnxruntime", "bf16": True}, False, "both in float32"),
    ],
)
def test_the_best_file_is_that_of_the_machine(files, monkeypatch, capsys, machine, half_is_best, word):
    exact, half = files
    here(monkeypatch, **machine)
    best, why = best_here(exact, half)
    assert best == (half if half_is_best else exact)
    assert word in why
    assert say_best(exact, half) == best
    told = capsys.readouterr().err
    assert told == ("" if half_is_best else f"{half} is for GPUs; on this machine take {exact}: {why}\n")
