"""The benchmark scripts: what they compute can be trusted, and without a GPU they say so."""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import common
from rrid_edge.bench.copying import copy_bytes_per_s, copy_images_per_s, on_gpu
from rrid_edge.crops.images import read_image
from rrid_edge.crops.naming import name_reader
from rrid_edge.engines import FakeEngine, open_engine
from rrid_edge.engines.cuda import Cuda
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.machine.foreign_cpu import in_words
from rrid_edge.machine.timing import Timing
from rrid_edge.ranking.labels import LabelledCrops, Labels
from rrid_export.source import SourceNetwork
from rrid_train.model import RRID
from rrid_train.settings import PRESETS, ModelConfig
from support.cuda_standin import install_cuda
from support.datasets import write_dataset
from support.onnx_models import save_tiny_model

FOLDER = Path(__file__).parents[1] / "benchmarks"


def script(name: str):
    """A script of benchmarks/ as a module."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there for annotations
    spec.loader.exec_module(module)
    return module


def source() -> SourceNetwork:
    torch.manual_seed(0)
    return SourceNetwork(RRID(ModelConfig("resnet18", 192, 64, block_width=16), 5).eval(), Path("random"), "", "none")


def test_without_a_gpu_one_line_and_exit_3(tmp_path, monkeypatch, capsys):
    for name in ("cuda", "cuda.bindings"):  # also on a machine with a GPU
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(tmp_path), str(tmp_path / "none.safetensors")])
    assert script("gpu").main() == 3
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("gpu: ")


def test_decoding_measures_threads_and_processes():
    options = ["--files", "200", "--height", "96", "--width", "32", "--workers", "1", "--repetitions", "1"]
    done = subprocess.run(
        [sys.executable, FOLDER / "decoding.py", *options], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    has_fast = importlib.util.find_spec("simplejpeg") is not None
    assert [row[1] for row in rows] == ["threads"] * has_fast + ["threads", "processes"]
    assert all(int(row[2]) > 0 for row in rows)


def test_peers_compute_the_descriptors_of_all_crops(tmp_path):
    work, model = script("peer_work"), save_tiny_model(tmp_path / "rrid.onnx")
    files = common.write_crops(tmp_path / "crops", 5, common.jpeg_pictures(5))
    with open_engine(model) as engine:
        height_px, width_px = engine.spec.height_px, engine.spec.width_px
        expected = engine.run(np.stack([read_image(file, height_px, width_px) for file in files]))
    told, operations, compute = work.lean(tmp_path / "crops", tmp_path / "lean.npy", model, 2, 0)
    compute()
    np.testing.assert_allclose(np.load(tmp_path / "lean.npy"), expected, atol=2e-3)
    assert (f"{height_px} x {width_px}" in told, operations) == (True, 0.0)
    _, operations, compute = work.package(tmp_path / "crops", tmp_path / "gallery", model, 2, 0)
    compute()
    with LocalGallery(tmp_path / "gallery") as gallery:
        assert gallery.info().rows == 5


def test_operations_of_a_network_of_pytorch_are_counted(tmp_path):
    """By hand: 2 x 3 x 4 operations at each of 8 x 6 positions."""
    common.write_crops(tmp_path / "crops", 3, common.jpeg_pictures(3))
    network = torch.nn.Conv2d(3, 4, 1)
    _, operations, compute = script("peer_work")._torch(network, tmp_path / "crops", tmp_path / "a.npy", 2, 0, (8, 6))
    compute()
    assert np.load(tmp_path / "a.npy").shape == (3, 4, 8, 6)
    assert operations == 2 * 3 * 4 * 8 * 6 / 1e9


def test_rates_of_peers_are_compared_with_the_lean_script(capsys):
    peers = script("peers")
    cold = peers.Run("ours", 10.0, 0.5, 0.1, 50.0)
    runs = {"lean": peers.Run("lean", 10.0, 3.0, 2.0, 80.0), "package": peers.Run("ours", 10.0, 5.0, 4.0, 90.0)}
    peers.report({name: [(run, cold)] for name, run in runs.items()}, 100)
    out = capsys.readouterr().out
    assert "| lean | 3.00 | 2.00 | 50.0 | 10.0 | 500 | 1.00 | 80 | 0.50 |" in out
    assert "| package | 5.00 | 4.00 | 25.0 | 10.0 | 250 | 0.50 | 90 | 0.50 |" in out


def test_operations_are_those_of_two_views():
    """By hand for the first convolution: 2 x 3 x 49 x 64 operations at each of 96 x 32 positions."""
    gpu = script("gpu")
    found = gpu.operations_per_image(source())
    first = 2 * 2 * 3 * 49 * 64 * 96 * 32
    assert 5 * first < found < 200 * first
    assert found % 2 == 0


def test_a_row_states_its_shares():
    gpu = script("gpu")
    timing = Timing((0.01,) * 10)  # 8 images in 10 ms: 800 images/s
    row = gpu.line("x", 8, timing, 0.5, gpu.Ceilings(8e12, 8e9, 10**9, 10**6))
    assert row == "| 8 | x | 10.000 | 10.000 | 0% | 800 | 10.0% | 10.0% | 0.500000 |"


def test_the_matrix_ceiling_is_a_rate():
    assert script("gpu").matrix_ceiling(64, device="cpu", dtype=torch.float32) > 1e6


def test_engines_that_do_not_open_are_named(tmp_path):
    opened, passed_over = script("gpu").engines(tmp_path, tmp_path / "none.safetensors", 8)
    assert not opened
    assert len(passed_over) == 5


def test_copies_are_timed_and_everything_is_freed(monkeypatch):
    standin = install_cuda(monkeypatch)
    cuda = Cuda()
    assert copy_bytes_per_s(cuda, 1 << 16, seconds=0) > 0
    engine = FakeEngine()
    assert not on_gpu(engine)
    assert copy_images_per_s(engine, 8) is None
    engine.runtime = "tensorrt 10.3 · GPU"
    rate = copy_images_per_s(engine, 2)
    assert rate is not None
    assert rate > 0
    assert standin.live == 0


def test_layers_are_read_from_a_trace():
    profile = script("profile_engines")
    event = {"cat": "Node", "name": "a_kernel_time", "args": {"op_name": "Conv"}}
    events = [{**event, "dur": dur} for dur in (9000, 1000, 3000)] + [{"cat": "Session", "name": "x", "dur": 1}]
    assert profile.layers_of_events(events, skip=1) == [profile.Layer("a", "Conv", 2.0)]
    text = profile.table([profile.Layer("a", "Conv", 3.0), profile.Layer("b", "MatMul", 1.0)], 2)
    assert text.splitlines()[0].split() == ["75.0%", "3.00", "ms", "1", "x", "Conv"]


def test_profiles_of_both_runtimes(tmp_path):
    profile, path = script("profile_engines"), save_tiny_model(tmp_path / "m.onnx")
    images = np.zeros((2, 192, 64, 3), np.uint8)
    for way in (profile.profile_onnxruntime, profile.profile_openvino):
        layers = way(path, images, 1)
        assert any("MatMul" in layer.kind or "FullyConnected" in layer.kind for layer in layers)
        assert sum(layer.milliseconds for layer in layers) > 0


def test_training_speed_counts_images_and_waiting(tmp_path, monkeypatch):
    training = script("training_speed")
    small = replace(
        PRESETS["demo"], height=192, width=32, block_width=8, batch_size=4, batch_sample=2, num_val=0.25, num_workers=0
    )
    monkeypatch.setitem(PRESETS, "demo", small)
    data = write_dataset(tmp_path / "data", size=(192, 32))
    options = training.parser().parse_args(
        ["--data", str(data), "--rounds", "2", "--steps", "1", "--threads", "1", "--num-workers", "0"]
    )
    found = training.measure(options)
    assert list(found) == ["plain fp32", "ours"]
    for one in found.values():
        assert one.images == 8
        assert len(one.data_s) == len(one.step_s) == 2
        assert 0 < one.data_share < 1
        assert one.memory_mib > 10
    plain, ours = training.configs(argparse.Namespace(**vars(options)), str(tmp_path)).values()
    assert (plain.amp, plain.channels_last, plain.num_workers) == ("none", False, 0)
    assert (ours.amp, ours.channels_last) == ("auto", True)


def test_start_up_is_broken_down(tmp_path):
    model = save_tiny_model(tmp_path / "rrid.onnx")
    command = [sys.executable, str(FOLDER / "startup.py"), str(model), "--rows", "40", "--repetitions", "1"]
    done = subprocess.run([*command, "--folder", str(tmp_path / "gallery")], capture_output=True, text=True)
    assert done.returncode == 0, done
    for stage in (
        "opening the engine",
        "comparing folder and index",
        "searching",
        "of the engine alone",
        "lean script",
    ):
        assert stage in done.stdout


def test_a_folder_of_links_is_indexed_whole(tmp_path):
    memory = script("index_memory")
    memory.write_folder(tmp_path / "crops", 60, 7)
    with FakeEngine() as engine:
        report, samples = memory.index_watched(tmp_path / "crops", tmp_path / "index", engine)
    assert (report.rows, report.added) == (60, 60)
    assert len(samples) == 10


@pytest.mark.parametrize(("spread", "rank", "within"), [(0.14, 64, 0.98), (1, None, 0.5), (2, None, 0.2)])
def test_drawn_persons_look_like_themselves(spread, rank, within):
    drawn = common.DrawnPersons.draw(40, 2000, spread=spread, rank=rank)
    persons = np.arange(40)
    one, two = drawn.descriptors(persons, 1), drawn.descriptors(persons, 2)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, rtol=1e-5)
    cosines = one @ two.T
    np.testing.assert_allclose(np.diag(cosines), within, atol=0.09)
    assert abs(cosines[~np.eye(40, dtype=bool)].mean()) < 0.03
    np.testing.assert_array_equal(drawn.descriptors(persons, 1), one)


def test_crops_have_market_names_and_the_given_pictures(tmp_path):
    pictures = common.jpeg_pictures(3, 16, 32)
    assert len(set(pictures)) == 3
    paths = common.write_crops(tmp_path / "crops", 7, pictures)
    assert [path.read_bytes() for path in paths] == [pictures[index % 3] for index in range(7)]
    facts = name_reader()(paths[6].name)
    assert (facts.person, facts.camera, read_image(paths[6], 32, 16).shape) == ("0007", "1", (32, 16, 3))


def test_the_index_names_every_script():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in FOLDER.glob("*.py")}
    assert scripts == set(re.findall(r"`(\w+\.py)`", text))
    parts = {"common.py", "emulation.py", "load_clients.py", "peer_work.py", "search_trees.py"}
    assert scripts - parts == set(re.findall(r"^python benchmarks/(\w+\.py)", text, re.MULTILINE))


def test_every_table_has_its_place_and_its_scripts():
    tables, text = script("tables"), (FOLDER.parent / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert {table.name for table in tables.TABLES} == set(re.findall(r"^Table `([a-z0-9-]+)`", text, re.MULTILINE))
    for table in tables.TABLES:
        for command in table.commands:
            name = command.split()[0]
            assert name == "rrid-edge" or (FOLDER / name).is_file()
    inputs = {"model": "my models/m.onnx", "out": "x"}
    assert tables.command_of("rrid-edge bench --quick --model {model}", inputs)[-2:] == ["--model", "my models/m.onnx"]
    assert tables.command_of("growing.py", inputs)[-1] == str(FOLDER / "growing.py")


def test_tables_without_inputs_are_named(capsys):
    tables = script("tables")
    assert {table.name for table in tables.chosen([], {"out": "x"})} >= {"fused", "growing", "reranking"}
    assert "not measured: accuracy (give --checkpoint, --data)" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="'grwing' is unknown: expected one of limits, bench"):
        tables.chosen(["grwing"], {"out": "x"})


@pytest.mark.parametrize(("share", "code"), [(0.03, 0), (0.4, 1), (None, 0)], ids=["quiet", "busy", "unknown"])
def test_tables_are_kept_with_their_share_of_foreign_cpu(tmp_path, monkeypatch, capsys, share, code):
    tables = script("tables")
    monkeypatch.setattr(tables, "quietest", lambda measure, _repeats: (measure(), share))
    prints = [sys.executable, "-c", "print('| a | b |')"]
    monkeypatch.setattr(tables, "command_of", lambda line, _inputs: prints if "fails" not in line else ["false"])
    monkeypatch.setattr(tables, "TABLES", (tables.Table("one", ("growing.py --rows {model}",)),))
    monkeypatch.setattr(sys, "argv", ["tables.py", "--model", "3", "--out", str(tmp_path / "out")])
    assert tables.main() == code
    text = (tmp_path / "out/one.txt").read_text()
    assert text.endswith("$ growing.py --rows 3\n| a | b |\n")
    assert in_words(share) in text
    monkeypatch.setattr(tables, "TABLES", (tables.Table("two", ("fails.py", "growing.py")),))
    assert tables.main() == 1
    assert "failed: fails.py" in capsys.readouterr().out


def test_every_script_prints_its_share():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in set(re.findall(r"^python benchmarks/(\w+\.py)", text, re.MULTILINE)):
        content = (FOLDER / name).read_text(encoding="utf-8")
        assert "watched(main)" in content or "in_words(" in content, name


def test_a_script_prints_its_share_on_stderr_and_keeps_its_exit_code(capsys):
    with pytest.raises(SystemExit) as ended:
        common.watched(lambda: 3)
    assert ended.value.code == 3
    out, err = capsys.readouterr()
    assert (out, err) == ("", "foreign CPU: not measured (too short, or no /proc/stat on this system)\n")


def test_held_out_rates_of_stored_descriptors_are_a_table(tmp_path, capsys, monkeypatch):
    module = script("open_set")
    persons, cameras = np.repeat(np.arange(1, 61), 6), np.tile(np.arange(6), 60)
    rows = common.DrawnPersons.draw(60, 64, spread=1).descriptors(persons - 1, 1)
    sides = [LabelledCrops(rows[part], Labels(persons[part], cameras[part])) for part in (cameras < 2, cameras >= 2)]
    module.save(tmp_path / "d.npz", tuple(sides))
    monkeypatch.setattr(sys, "argv", ["open_set.py", str(tmp_path / "d.npz"), "--seeds", "2", "--rates", "0.1"])
    module.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "60 people, 120 queries, 240 gallery crops; 2 halves, both ways"
    assert [line.split(" | ")[1] for line in lines[3:]] == ["5", "20", "116"]


def test_a_growing_gallery_is_measured_step_by_step(tmp_path):
    seconds = script("growing").measure(tmp_path / "gallery", rows=30, rounds=3, dimension=60)
    assert {step: len(values) for step, values in seconds.items()} == {
        "add one row": 3,
        "search after it": 3,
        "search again": 3,
        "NumPy's product": 3,
    }
    with LocalGallery(tmp_path / "gallery") as gallery:
        assert gallery.info().rows == 33
