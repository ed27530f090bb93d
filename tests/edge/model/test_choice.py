"""The choice of a model, and the spec of any model file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import ModelFileError, UsageError
from rrid_edge.model import choice
from rrid_edge.model.choice import choose_model
from rrid_edge.model.preprocessing import Preprocessing
from rrid_edge.model.reading import read_any_spec
from support.onnx_models import save_tiny_model

ENGINES = ["rrid.fp16.engine", "rrid.int8.engine", "rrid.fp32.engine"]
ORDER = [*ENGINES, "rrid.onnx", "rrid.int8.onnx", "rrid.fp16.onnx", "rrid.nchw.fp16.engine", "rrid.nchw.onnx"]


@pytest.fixture(autouse=True)
def _no_model_of_the_user(monkeypatch):
    monkeypatch.delenv("RRID_EDGE_MODEL", raising=False)


@pytest.mark.parametrize("usable", [True, False])
def test_the_best_usable_file_of_the_folder_is_chosen(tmp_path, monkeypatch, usable):
    monkeypatch.setattr(choice, "_engine_usable", lambda: usable)
    for name in (*ORDER, "person.v2.onnx"):
        (tmp_path / name).write_bytes(b"")
    for name in [name for name in ORDER if usable or not name.endswith(".engine")]:
        assert choose_model(None, folder=tmp_path)[0] == tmp_path / name
        (tmp_path / name).unlink()
    with pytest.raises(UsageError, match="no model: none was given") as caught:
        choose_model(None, folder=tmp_path)
    assert "--" not in caught.value.message  # only the command line knows options
    assert caught.value.parameters == ("model",)


def test_a_named_model_wins_over_the_environment_the_gallery_and_the_folder(tmp_path, monkeypatch):
    paths = [save_tiny_model(tmp_path / name) for name in ("one.onnx", "two.onnx", "three.onnx", "rrid.onnx")]
    monkeypatch.setenv("RRID_EDGE_MODEL", str(paths[1]))
    assert choose_model(paths[0], paths[2], folder=tmp_path) == (paths[0], "given")
    assert choose_model(None, paths[2], folder=tmp_path) == (paths[1], "from RRID_EDGE_MODEL")
    monkeypatch.delenv("RRID_EDGE_MODEL")
    assert choose_model(None, paths[2], folder=tmp_path)[0] == paths[2]
    assert choose_model(None, tmp_path / "gone.onnx", folder=tmp_path)[0] == paths[3]
    with pytest.raises(UsageError, match=r"gone\.onnx: no such model file \(given\); .* holds one\.onnx, .*; make one"):
        choose_model(tmp_path / "gone.onnx")
    with pytest.raises(
        UsageError, match=r"this is a folder \(given\); expected a model file; .* holds one\.onnx, rrid\."
    ):
        choose_model(tmp_path)
    monkeypatch.setenv("RRID_EDGE_MODEL", "nowhere.onnx")
    with pytest.raises(UsageError, match=r"nowhere\.onnx: no such model file \(from RRID_EDGE_MODEL\)"):
        choose_model(None)


def test_files_of_other_kinds_are_refused_by_their_kind(tmp_path):
    spec = replace(fake_spec(), training_data="tiny")
    assert read_any_spec(save_tiny_model(tmp_path / "person.v2.onnx", spec)) == spec
    for name, kind in (
        ("rrid.goldens.npz", "this is a file of goldens, not an ONNX file"),
        ("best.pth", r"this is a checkpoint, not an ONNX file; make one with: rrid-edge export .*best\.pth"),
        ("rrid.fp16.engine.json", "this is a model's sidecar"),
        ("words.txt", "this is a text file, not an ONNX file"),
        ("bytes", "not an ONNX file, or damaged"),
    ):
        (tmp_path / name).write_bytes(b"words" if name == "words.txt" else b"\x80\x01words")
        with pytest.raises(ModelFileError, match=kind):
            read_any_spec(tmp_path / name)
    for name in ("none.onnx", "none.engine"):
        with pytest.raises(UsageError, match=f"{name}: no such"):
            read_any_spec(tmp_path / name)


def _adopted(path, mark: str):
    facts = Preprocessing("rgb", 255.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "nchw", "l2", "pixels", "features")
    spec = replace(fake_spec(), stripes=(), family="adopted", preprocessing=facts, fingerprint=mark * 64, flip=False)
    return save_tiny_model(path, spec)


def test_the_only_adopted_network_of_the_folder_is_found(tmp_path):
    for name in ("osnet.onnx", "osnet.fp16.onnx", "copy.fp16.onnx"):
        _adopted(tmp_path / name, "a")
    (tmp_path / "original.onnx").write_bytes(b"words")
    save_tiny_model(tmp_path / "renamed.onnx")  # a file of export under another name counts as little as before
    assert choose_model(None, folder=tmp_path) == (tmp_path / "copy.fp16.onnx", f"the best in {tmp_path}/")
    (tmp_path / "copy.fp16.onnx").unlink()
    assert choose_model(None, folder=tmp_path)[0] == tmp_path / "osnet.onnx"
    (tmp_path / "osnet.onnx").unlink()
    assert choose_model(None, folder=tmp_path)[0] == tmp_path / "osnet.fp16.onnx"
    _adopted(tmp_path / "rrid.onnx", "b")
    assert choose_model(None, folder=tmp_path)[0] == tmp_path / "rrid.onnx"


def test_two_adopted_networks_are_refused_by_name(tmp_path):
    for name, mark in (("osnet.onnx", "a"), ("osnet.fp16.onnx", "a"), ("agw.onnx", "b")):
        _adopted(tmp_path / name, mark)
    with pytest.raises(UsageError, match=r"2 adopted networks \(agw\.onnx, osnet\.fp16\.onnx\): give one") as caught:
        choose_model(None, folder=tmp_path)
    assert caught.value.parameters == ("model",)
    for number in range(5):
        _adopted(tmp_path / f"net{number}.onnx", str(number))
    with pytest.raises(UsageError, match=r"7 adopted networks \(agw\.onnx, .*net3\.onnx and 2 more\): give one"):
        choose_model(None, folder=tmp_path)


def test_an_adopted_network_is_no_substitute_for_an_engine_that_cannot_run_here(tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "_engine_usable", lambda: False)
    (tmp_path / "rrid.fp16.engine").write_bytes(b"")
    _adopted(tmp_path / "osnet.onnx", "a")
    with pytest.raises(UsageError, match="holds no model that this machine can run"):
        choose_model(None, folder=tmp_path)
    (tmp_path / "rrid.fp16.engine").rename(tmp_path / "osnet.fp16.engine")
    assert choose_model(None, folder=tmp_path)[0] == tmp_path / "osnet.onnx"
    with pytest.raises(UsageError, match="rrid-edge export CHECKPOINT, or rrid-edge adopt FILE"):
        choose_model(None, folder=tmp_path / "nowhere")
