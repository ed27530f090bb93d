"""Engines that the command line builds: found again by the other commands, and told apart from other models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rrid_edge.engines import open_engine
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.files import sha256_of_file
from rrid_edge.model.engine_sidecar import EngineSidecar
from rrid_edge.model.reading import read_any_spec
from rrid_edge.parity.goldens import Goldens, save_goldens
from rrid_edge.ranking.labels import Labels
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model
from support.tensorrt_behaviour import install


@pytest.fixture
def models(tmp_path, monkeypatch):
    """The folder ``models``, empty, on a machine with TensorRT."""
    install(monkeypatch, "10.13.3.9")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RRID_EDGE_MODEL", raising=False)
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def _export(path, precision="fp32"):
    outcome = rrid_edge("export", save_tiny_model(path, fake_spec().with_precision(precision)), "--json")
    assert outcome.code == 0, outcome
    return outcome


def _save_goldens(path, spec, count=4):
    images = np.random.default_rng(0).integers(0, 256, (count, spec.height_px, spec.width_px, 3), dtype=np.uint8)
    with FakeEngine(spec) as engine:
        unknown = np.full(count, -1)
        save_goldens(
            path, Goldens(images, engine.run(images), ("x",) * count, spec.fingerprint, Labels(unknown, unknown))
        )


@pytest.mark.parametrize(("name", "precision"), [("rrid.onnx", "fp32"), ("rrid.fp16.onnx", "fp16")])
def test_an_engine_that_was_built_is_found_by_the_commands(models, name, precision):
    outcome = _export(models / name, precision)
    engine = models / f"rrid.{precision}.engine"
    assert str(engine) in outcome.out
    assert {path.name for path in models.glob("*.engine*")} == {engine.name, f"{engine.name}.json"}
    assert f"models/{engine.name} (the best in models/)" in rrid_edge("info").out
    _save_goldens(models / "rrid.goldens.npz", fake_spec())
    outcome = rrid_edge("parity")
    assert outcome.code == 0, outcome
    assert f"models/{engine.name}.parity.json" in outcome.out
    assert not (models / "parity.json").exists()


def test_engines_of_two_networks_lie_side_by_side(models):
    for name in ("person.v2.onnx", "person.v3.onnx"):
        _export(models / name)
    assert {path.name for path in models.glob("*.engine")} == {"person.v2.fp32.engine", "person.v3.fp32.engine"}


def test_info_prints_an_engine(models):
    onnx = models / "rrid.fp16.onnx"
    _export(onnx, "fp16")
    path = models / "rrid.fp16.engine"
    for outcome in (rrid_edge("info"), rrid_edge("info", path)):
        assert outcome.code == 0, outcome
        for words in (
            "uint8 (batch, 192, 64, 3), RGB",
            "precision     fp16",
            fake_spec().fingerprint,
            f"rrid.fp16.onnx, sha256 {sha256_of_file(onnx)}",
            "TensorRT 10.13.3.9, Orin, compute capability 8.7, 16 multiprocessors",
            "1 to 32 images, tuned for 8",
        ):
            assert words in outcome.out
    facts = json.loads(rrid_edge("info", path, "--json").out)
    assert (facts["kind"], facts["precision"], facts["fingerprint"]) == ("engine", "fp16", fake_spec().fingerprint)
    assert facts["engine"]["tensorrt"] == "10.13.3.9"
    assert facts["engine"]["gpu"] == "Orin"
    assert facts["engine"]["multiprocessors"] == 16
    assert facts["engine"]["profile"] == {"min_batch": 1, "opt_batch": 8, "max_batch": 32}
    assert facts["engine"]["source_onnx"] == {"name": "rrid.fp16.onnx", "sha256": sha256_of_file(onnx), "beside": True}
    assert json.loads(rrid_edge("info", onnx, "--json").out)["kind"] == "onnx"
    assert read_any_spec(path) == EngineSidecar.read(path).spec


def test_info_refuses_an_engine_whose_facts_are_not_known(models):
    _export(models / "rrid.onnx")
    path = models / "rrid.fp32.engine"
    path.write_bytes(path.read_bytes() + b"x")
    refused(rrid_edge("info", path), 4, "damaged or was replaced", f"rrid-edge export {models / 'rrid.onnx'}")
    path.with_name("rrid.fp32.engine.json").unlink()
    refused(rrid_edge("info", path), 4, "needs this sidecar", f"rrid-edge export {models / 'rrid.onnx'}")


def test_an_engine_in_the_place_of_an_onnx_file_is_called_an_engine(models):
    _export(models / "rrid.onnx")
    path = models / "rrid.fp32.engine"
    (models / "crops").mkdir()
    refused(rrid_edge("export", path), 2, "rrid.fp32.engine: this is an engine already")
    refused(rrid_edge("calibrate", path, "--images", models / "crops"), 4, "this is a TensorRT engine, not an ONNX")
    with open_engine(path) as engine:
        assert engine.runtime.startswith("tensorrt")


def test_the_log_of_a_build_and_of_parity_is_kept(models, monkeypatch):
    monkeypatch.setenv("RRID_EDGE_TENSORRT_LOG", "")
    onnx = save_tiny_model(models / "rrid.onnx", fake_spec())
    outcome = rrid_edge("export", onnx, "--tensorrt-log", "logs/build.log")
    assert outcome.code == 0, outcome
    assert "23 convolutions and matrix products of 38 layers: 0 in float16, 0 in int8, 23 in float32" in outcome.out
    assert "VERBOSE" in Path("logs/build.log").read_text()
    assert Path("logs/build.log.inspector.json").is_file()
    _save_goldens(models / "rrid.goldens.npz", fake_spec())
    assert rrid_edge("parity", "--tensorrt-log", "parity.log").code == 0
    assert Path("parity.log").is_file()
    before = Path("parity.log").read_bytes()
    assert rrid_edge("parity").code == 0  # the option was for one command only
    assert Path("parity.log").read_bytes() == before
    engine = models / "rrid.fp32.engine"
    for command in (("export", onnx), ("parity", engine), ("engine", "adopt", engine, "--onnx", onnx)):
        refused(
            rrid_edge(*command, "--tensorrt-log", onnx / "x.log"),
            2,
            "x.log: TensorRT's log cannot be written here",
            "is a file",
        )
