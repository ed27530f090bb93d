"""Asking a file of Milvus Lite that does not exist makes none."""

from __future__ import annotations

import pytest

from rrid_edge.gallery.opening import open_existing, parse_location, store_exists
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import noise, save_crops

ADDRESS = "milvus+file:below/gone.db/crops"


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_crops(tmp_path / "crops", 3)
    save_tiny_model(tmp_path / "models" / "rrid.onnx")
    noise(5).save(tmp_path / "query.png")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ("match", "query.png", ADDRESS),
        ("info", ADDRESS),
        ("gallery", "list", ADDRESS),
        ("gallery", "verify", ADDRESS),
        ("gallery", "copy", ADDRESS, "back"),
        ("gallery", "export", ADDRESS, "--output", "a.npz"),
        ("gallery", "forget", ADDRESS, "--person", "1"),
        ("serve", ADDRESS, "--port", "0"),
    ],
)
def test_a_command_that_reads_says_that_there_is_no_file(desk, command):
    before = sorted(path.name for path in desk.iterdir())
    refused(rrid_edge(*command), 4, "below/gone.db/crops: no such file of Milvus Lite; create it with: rrid-edge index")
    assert sorted(path.name for path in desk.iterdir()) == before


def test_a_program_learns_it_too(desk):
    location = parse_location(ADDRESS)
    assert not store_exists(location)
    assert open_existing(location) is None
    assert not (desk / "below").exists()


def test_index_makes_the_file(desk):
    outcome = rrid_edge("index", "crops", "--gallery", ADDRESS)
    assert "3 crops (3 added" in outcome.out, outcome
    assert (desk / "below" / "gone.db").exists()
