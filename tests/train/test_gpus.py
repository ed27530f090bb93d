"""Why a training run finds no GPU, in one line."""

from __future__ import annotations

import pytest
import torch

from rrid_edge.errors import UsageError
from rrid_edge.machine.gpu import Gpu
from rrid_train import distributed


@pytest.mark.parametrize(
    ("built", "said"),
    [
        (
            "13.0",
            r"is for CUDA 13, but this driver serves CUDA 12\.4: install a newer NVIDIA driver .* built for CUDA 12\)",
        ),
        (None, r"is built for the CPU\)"),
        ("12.8", r"the GPUs of this machine; use 0"),
    ],
)
def test_training_says_why_torch_finds_no_gpu(built, said, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(distributed, "this_gpu", lambda: Gpu("server", "x86_64", "550.54.14", (12, 4)))
    with pytest.raises(UsageError, match=f"gpus 1: expected at most 0, .*{said}"):
        distributed.join_processes(1)
