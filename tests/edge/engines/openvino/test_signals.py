"""Signals reach a process whose engines were closed in the order of their opening."""

from __future__ import annotations

import os
import subprocess
import sys

from support.onnx_models import save_tiny_model

_PROGRAM = """
import faulthandler, gc, signal, sys
from pathlib import Path
from rrid_edge.engines.openvino.engine import OpenVinoEngine

faulthandler.enable()  # it sets a stack for signals, which OpenVINO replaces and gives back
signal.signal(signal.SIGUSR1, lambda *_: print("reached", flush=True))
engines = [OpenVinoEngine(Path(sys.argv[1])) for _ in range(2)]
while engines:
    engines.pop(0).close()
    gc.collect()
signal.raise_signal(signal.SIGUSR1)
"""


def test_a_signal_after_two_engines_does_not_kill_the_process(tmp_path):
    model = save_tiny_model(tmp_path / "m.onnx")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(model)], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stdout) == (0, "reached\n"), done.stderr
