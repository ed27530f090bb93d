"""``rrid-edge embed-many``: without a cluster, and what it says where Ray is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import save_crops


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table of ten crops and one row without image, beside a model."""
    monkeypatch.chdir(tmp_path)
    paths = save_crops(tmp_path / "crops", 10)
    images = [path.read_bytes() for path in paths]
    pq.write_table(
        pa.table({"path": [*(path.name for path in paths), "none.jpg"], "image": [*images, None]}), "t.parquet"
    )
    save_tiny_model(tmp_path / "rrid.onnx")
    return "t.parquet"


def test_a_table_is_embedded_and_found(table):
    first = rrid_edge("embed-many", "--input", table, "--gallery", "g", "--model", "rrid.onnx", "--no-ray")
    assert first.code == 0, first
    assert "left out none.jpg: the table has no image bytes in this row" in first.err
    assert first.out.startswith("g: 10 crops (10 added, 0 changed, 0 unchanged, 1 failed)")
    again = rrid_edge("embed-many", "--input", table, "--gallery", "g", "--no-ray", "--json")  # the model is remembered
    told = json.loads(again.out)
    assert (told["rows"], told["added"], told["unchanged"], told["failures"]) == (10, 0, 10, 1)
    query = min(Path("crops").iterdir())
    found = rrid_edge("match", query, "g", "--json", "--top-k", 1)
    assert json.loads(found.out)["results"][0]["matches"][0]["path"] == query.name


def test_a_missing_ray_is_one_line(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "rrid_edge.gallery.bulk.on_ray", raising=False)
    outcome = rrid_edge("embed-many", "--input", table, "--gallery", "g", "--model", "rrid.onnx")
    refused(outcome, 3, "embedding on a cluster needs the package 'ray'", "pip install 'rrid-edge[ray]'")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--input", "gone.parquet"), ("gone.parquet: no such file or folder", "option --input")),
        (("--input", "t.parquet", "--root", "gone"), ("gone: no such folder", "option --root")),
        (("--input", "t.parquet", "--pattern", "("), ("pattern",)),
        (("--input", "t.parquet", "--address", "auto"), ("exclude each other", "option --address", "option --no-ray")),
    ],
)
def test_wrong_use_is_one_line(table, options, words):
    outcome = rrid_edge("embed-many", *options, "--gallery", "g", "--model", "rrid.onnx", "--no-ray")
    refused(outcome, 2, *words)


def test_a_table_without_a_readable_crop_is_refused(table):
    pq.write_table(pa.table({"path": ["a.jpg"], "image": [b"no image"]}), "bad.parquet")
    outcome = rrid_edge("embed-many", "--input", "bad.parquet", "--gallery", "g", "--model", "rrid.onnx", "--no-ray")
    refused(outcome, 2, "none of its 1 crops could be read")


def test_a_table_of_another_folder_is_told_to_name_its_folder(table):
    pq.write_table(pa.table({"path": ["a.jpg", "b.jpg"]}), "paths.parquet")
    options = ("--gallery", "g", "--model", "rrid.onnx", "--no-ray")
    outcome = rrid_edge("embed-many", "--input", "paths.parquet", *options)
    here = Path.cwd()
    refused(outcome, 2, f"none of its 2 crops could be read below {here}; expected the folder that", "option --root")
    names = [path.name for path in Path("crops").iterdir()]
    pq.write_table(pa.table({"path": names}), "paths.parquet")
    assert "10 added" in rrid_edge("embed-many", "--input", "paths.parquet", "--root", "crops", *options).out
