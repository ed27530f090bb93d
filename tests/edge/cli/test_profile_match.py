"""A match on an indexed folder imports few packages, and opens, reads and parses each file once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support.commands import rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import save_crops

TOOL = Path(__file__).parents[3] / "tools" / "profile_match.py"


def test_one_match_opens_and_parses_the_model_once(tmp_path):
    save_crops(tmp_path / "gallery", 12)
    save_crops(tmp_path / "queries", 1)
    model = save_tiny_model(tmp_path / "rrid.onnx")
    query = next((tmp_path / "queries").iterdir())
    assert rrid_edge("index", tmp_path / "gallery", "--model", model).code == 0
    command = [sys.executable, str(TOOL), str(model), str(query), str(tmp_path / "gallery"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["code"] == 0, done.stderr
    assert (found["opened"], found["facts_read"], found["headers_parsed"]) == (1, 1, 1)
    assert {"cli", "crops", "engines", "matching", "gallery/local"} <= set(found["rooms"])
    assert len(found["rooms"]) <= 19, found["rooms"]
    assert any(module.endswith("comparison.py") for module in found["modules"])  # profiled although it runs in a thread
