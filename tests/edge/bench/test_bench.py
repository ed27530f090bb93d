"""The report of a benchmark is complete and consistent."""

from __future__ import annotations

import functools
import json
import re
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from rrid_edge.bench import ceilings, engines
from rrid_edge.bench.ceilings import CeilingSettings, Layer
from rrid_edge.bench.engines import EffortSettings
from rrid_edge.bench.pipeline import FileKind
from rrid_edge.bench.probe import LoadCost, LoadRequest, measure_load
from rrid_edge.bench.running import BenchSettings
from rrid_edge.bench.variants import find_variants, sibling_models
from rrid_edge.engines import open_engine
from rrid_edge.engines.fake import fake_spec
from rrid_edge.machine.foreign_cpu import Repeats
from rrid_edge.machine.timing import Timing, interleave
from rrid_edge.parity.goldens import Goldens, save_goldens
from rrid_edge.ranking.labels import Labels
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import save_crops


def _little_effort(threads=0):
    """Everything that a quick run measures, with fewer repetitions."""
    repeats = Repeats(1)
    effort = EffortSettings((1, 8), 3, 5, budget_s=0.3, processes=1, threads=threads, repeats=repeats)
    kinds = (FileKind("crops 64 x 128", 64, 128, 0.3, 16, 400), FileKind("pictures 3000 x 4000", 3000, 4000, 0.1, 2, 2))
    return BenchSettings(
        effort,
        kinds,
        pairs=2,
        gallery_sizes=(1_000, 10_000),
        search_repetitions=2,
        ceilings=CeilingSettings(0, threads, repeats),
    )


@pytest.fixture(autouse=True, scope="module")
def _an_engine_is_loaded_in_fresh_processes_once():
    """Two runs on the same file share the cost of loading it: each measurement starts three processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "measure_load", functools.cache(measure_load))
        # The limits of a machine are measured on small layers here.
        patch.setattr(ceilings, "LAYERS", (Layer("convolution", 1, 8, 6, 4, 3), Layer("product", 16, 16)))
        patch.setattr(ceilings, "_OPERATIONS", 0)
        patch.setattr(ceilings, "_READ_BYTES", 1 << 22)
        yield


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """One quick run on a tiny model: the JSON, and the folder of the chart."""
    folder = tmp_path_factory.mktemp("bench")
    path = save_tiny_model(folder / "rrid.onnx")
    images = np.random.default_rng(0).integers(0, 256, (12, 192, 64, 3), dtype=np.uint8)
    with open_engine(path, "onnxruntime") as engine:
        labels = Labels(np.arange(12) % 4 + 1, np.arange(12) // 4)
        save_goldens(
            folder / "rrid.goldens.npz",
            Goldens(images, engine.run(images), ("x",) * 12, engine.spec.fingerprint, labels),
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BenchSettings, "quick", _little_effort)
        options = ("--threads", 1, "--json", "--chart", folder / "chart.png")
        outcome = rrid_edge("bench", "--quick", "--model", path, *options)
    assert outcome.code == 0, outcome
    return json.loads(outcome.out), folder


def test_every_row_is_complete(report):
    content, _ = report
    assert {"processor", "cores", "gpu", "python", "rrid-edge", "onnxruntime", "openvino"} <= content["machine"].keys()
    runtimes = {(row["runtime"].split()[0], row["arithmetic"]) for row in content["engines"]}
    assert {("onnxruntime", "fp32"), ("openvino", "fp32")} <= runtimes
    for row in content["engines"]:
        # No GPU here, all shares are measured, and a tiny model has no view to leave out.
        absent = {"device_memory_mib", "no_share", "of_two_views"}
        missing = [name for name, value in row.items() if value is None and name not in absent]
        assert {name for name in absent if row[name] is None} == absent
        assert not missing
        assert row["images_per_s"].keys() == {"1", "8"}
    assert any("onnxruntime-cuda" in reason for reason in content["passed_over"])
    assert any(reason.startswith("no-flip: ") and "0 places" in reason for reason in content["passed_over"])
    assert [(row["rows"], row["queries"]) for row in content["search"]] == [
        (1000, 1),
        (1000, 64),
        (10000, 1),
        (10000, 64),
    ]


def test_the_report_is_consistent_with_itself(report):
    content, _ = report
    for row in content["engines"]:
        assert row["latency_p50_ms"] <= row["latency_p90_ms"] <= row["latency_p99_ms"]
        assert 10 < row["memory_mib"] <= row["peak_memory_mib"] + 1
        assert min(row["load_cold_s"], row["load_cached_s"], row["load_warm_s"]) > 0
        assert row["latency_calls"] >= 3
        assert row["spread"].keys() == row["images_per_s"].keys()
        assert 0.99 < row["min_cosine"] <= 1 + 1e-9
        assert 0 <= row["top1_agreement"] <= 1
    assert [row["kind"] for row in content["pipeline"]] == ["crops 64 x 128", "pictures 3000 x 4000"]
    for row in content["pipeline"]:
        rates = {name: row[f"{name}_images_per_s"] for name in ("decode", "copy", "store")}
        rates["compute"] = row["engine_images_per_s"]
        assert rates["copy"] is None  # no GPU here
        del rates["copy"]
        assert row["limiting_stage"] == min(rates, key=lambda name: rates[name])
        assert row["end_to_end_images_per_s"] <= row["engine_images_per_s"]
        assert 0 < row["lowest_share"] <= row["share"] <= row["highest_share"] <= 1
        assert 0 <= row["waited_for_decoding"] <= 1
    for row in content["search"]:
        assert row["search_p50_ms"] <= row["search_p90_ms"]


def test_shares_follow_from_rates_and_limits(report):
    """By hand: the tiny network is one product of 36 x D, and its weights are 36 x D float32 values."""
    content, _ = report
    dimension = fake_spec().dimension
    assert content["operations_per_image"] == 2 * 36 * dimension
    limits = content["ceilings"]
    assert {"fp32", "int8"} <= limits["compute"].keys()
    assert all(one["operations_per_s"] > 0 and one["runtime"] and one["layer"] for one in limits["compute"].values())
    memory = limits["memory_bytes_per_s"]
    for row in content["engines"]:
        rate = max(row["images_per_s"].values()) * 2 * 36 * dimension
        assert row["operations_per_s"] == pytest.approx(rate)
        if row["arithmetic"] in limits["compute"]:
            assert row["of_ceiling"] == pytest.approx(rate / limits["compute"][row["arithmetic"]]["operations_per_s"])
        if row["arithmetic"] == "fp32":
            read = 4 * 36 * dimension / (row["latency_p50_ms"] / 1000)
            assert row["of_memory"] == pytest.approx(read / memory)
    for row in content["search"]:
        values, seconds = row["rows"] * dimension, row["search_p50_ms"] / 1000
        assert row["of_reading"] == pytest.approx(seconds / (2 * values / memory))
        products_s = 2 * row["queries"] * values / limits["compute"]["fp32"]["operations_per_s"]
        assert row["of_products"] == pytest.approx(seconds / products_s)


def test_every_row_states_foreign_cpu(report):
    content, _ = report
    assert content["foreign_cpu_limit"] == 0.1
    assert 0 <= content["foreign_cpu"] <= 1
    for row in (*content["engines"], *content["pipeline"], *content["search"]):
        assert row["disturbed"] == (row["foreign_cpu"] is not None and row["foreign_cpu"] > 0.1)
    assert all(0 <= row["foreign_cpu"] <= 1 for row in (*content["engines"], *content["search"]))


def test_the_chart_is_written(report):
    with Image.open(report[1] / "chart.png") as chart:
        assert chart.size == (900, 560)


@pytest.fixture
def least_effort(monkeypatch):
    """For tests that need a run, whatever it measures: one repetition of everything that is small."""

    def quick(threads=0):
        repeats = Repeats(1)
        effort = EffortSettings((1,), 3, 3, budget_s=0.2, processes=1, threads=threads, repeats=repeats)
        kinds = (FileKind("crops 64 x 128", 64, 128, 0.1, 16, 64),)
        return BenchSettings(
            effort,
            kinds,
            pairs=1,
            gallery_sizes=(1_000,),
            search_repetitions=1,
            ceilings=CeilingSettings(0, threads, repeats),
        )

    monkeypatch.setattr(BenchSettings, "quick", quick)


def test_table_names_every_engine(report, least_effort):
    outcome = rrid_edge("bench", "--quick", "--model", report[1] / "rrid.onnx", "--threads", 1)
    assert max(map(len, outcome.out.splitlines())) <= 80
    blocks = {block.split("\n")[0] for block in outcome.out.split("\n\n")}
    assert {row["name"] for row in report[0]["engines"]} <= blocks
    text = " ".join(outcome.out.split())
    assert "files to index" in text
    assert re.search(r" limits Gop/s: fp32 \d+, .*int8 \d+; memory [\d.]+ GB/s; one image is ", text)
    assert re.search(r" foreign CPU: \d+%.*over the whole run", text)


def test_yardsticks_come_first_and_labelled_data_give_parity(tmp_path, tiny_export, monkeypatch, least_effort):
    """Parity is measured on the crops of a folder. torch.compile is replaced by eager PyTorch.

    The cost of loading an engine is not measured here: the report of the tiny model measures it in fresh processes.
    """
    monkeypatch.setattr(torch, "compile", lambda branch, **_: branch)
    monkeypatch.setattr(engines, "measure_load", lambda _request, **_: LoadCost(1.0, 1.0, 1.0, 1.0, 1.0, None))
    save_crops(tmp_path / "crops", 14)
    yardsticks = ("--against", "torch-compile", "--against", "published", "--checkpoint", tiny_export / "tiny.pth")
    where = ("--model", tiny_export / "rrid.onnx", "--data", tmp_path / "crops", "--count", 12, "--threads", 1)
    outcome = rrid_edge("bench", "--quick", *where, *yardsticks, "--json")
    assert outcome.code == 0, outcome
    content = json.loads(outcome.out)
    assert "12 crops of" in content["reference"]
    assert content["sample"] == "12 crops of 4 people in 3 cameras, 12 queries, 0 distractors"
    names = [row["name"] for row in content["engines"]]
    assert names[:2] == ["published (PyTorch)", "torch-compile (PyTorch)"]
    assert {"onnxruntime", "openvino"} <= {row["runtime"].split()[0] for row in content["engines"][2:]}
    *both_views, one_view = content["engines"]
    assert one_view["name"] in {f"{name} no-flip" for name in names[2:]}
    assert one_view["of_two_views"] > 1
    assert (one_view["views"], one_view["load_cold_s"]) == (1, None)
    assert 0.5 < one_view["min_cosine"] < 0.9999
    rate = max(one_view["images_per_s"].values())
    assert one_view["operations_per_s"] == pytest.approx(rate * content["operations_per_image"] / 2)
    assert content["engines"][1]["operations_per_s"] is not None
    for row in both_views:
        assert (row["views"], row["of_two_views"]) == (2, None)
        assert row["min_cosine"] > 0.99
        assert row["map_change"] is not None
    assert content["engines"][0]["min_cosine"] > 0.999999
    assert content["engines"][0]["load_cold_s"] is None


def test_wrong_settings_are_refused(tmp_path):
    path = save_tiny_model(tmp_path / "rrid.onnx")
    refused(rrid_edge("bench", "--model", path), 2, "no such goldens file")
    refused(rrid_edge("bench", "--model", path, "--against", "boxes"), 2, "'boxes' is unknown", "(option --against)")
    refused(
        rrid_edge("bench", "--model", path, "--against", "published"), 2, "give its checkpoint (option --checkpoint)"
    )
    refused(rrid_edge("bench", "--model", path, "--data", tmp_path), 2, "give its checkpoint (option --checkpoint)")
    both = ("--data", tmp_path, "--goldens", tmp_path / "x.npz", "--checkpoint", path)
    refused(rrid_edge("bench", "--model", path, *both), 2, "exclude each other")


def test_a_call_that_used_its_time_budget_is_not_timed_again():
    calls: dict[str, int] = {"slow": 0, "quick": 0}

    def slow():
        calls["slow"] += 1
        time.sleep(0.02)

    timings = interleave({"slow": slow, "quick": lambda: None}, repetitions=50, warm_up=0, budget_s=0.05)
    assert 3 <= len(timings["slow"].seconds) <= 4
    assert len(timings["quick"].seconds) == 50


def test_memory_includes_the_open_model(tmp_path, monkeypatch):
    """A model of 64 MB adds more than half its size to the memory of its process."""
    small = save_tiny_model(tmp_path / "small.onnx")
    spec = replace(fake_spec(), block_width=16 * 64 * 16)
    large = save_tiny_model(tmp_path / "large.onnx", spec)
    costs = [measure_load(LoadRequest(str(path), "onnxruntime", None, 1)) for path in (small, large)]
    assert costs[0] is not None
    assert costs[1] is not None
    assert costs[0].memory_mib is not None
    assert costs[1].memory_mib is not None
    assert costs[1].memory_mib - costs[0].memory_mib > 0.5 * large.stat().st_size / 2**20
    assert measure_load(LoadRequest(str(tmp_path / "none.onnx"), "onnxruntime", None, 1)) is None
    for program in ("/bin/echo", "/bin/true", "/bin/false"):  # other text, nothing, an error
        monkeypatch.setattr(sys, "executable", program)
        assert measure_load(LoadRequest(str(small), "onnxruntime", None, 1)) is None


def test_calls_are_timed_in_turns():
    order: list[str] = []
    timings = interleave({name: partial(order.append, name) for name in "ab"}, repetitions=3, warm_up=1)
    assert order == ["a", "b", "a", "b", "a", "b", "a", "b"]
    assert len(timings["a"].seconds) == 3


def test_timing_is_wall_clock_time():
    timing = interleave({"sleep": lambda: time.sleep(0.01)}, repetitions=3)["sleep"]
    assert timing.median >= 0.01
    assert Timing((1.0, 2.0, 3.0)).percentile_ms(50) == 2000


def test_only_files_of_the_same_network_are_measured(tmp_path):
    """``person.v2`` and ``person.v3`` share a folder, and one file named as v2 holds another network."""
    spec = fake_spec()
    for name in ("person.v2.onnx", "person.v3.onnx", "person.onnx", "person.v2.fp16.onnx", "other[1].onnx"):
        save_tiny_model(tmp_path / name, spec.with_precision("fp16" if "fp16" in name else "fp32"))
    stale = save_tiny_model(tmp_path / "person.v2.int8.onnx", replace(spec, precision="int8", fingerprint="1" * 64))
    (tmp_path / "person.v2.fp32.engine").write_bytes(b"a plan without its sidecar")
    (tmp_path / "person.v2.goldens.npz").write_bytes(b"")
    found = sibling_models(tmp_path / "person.v2.onnx")
    assert found[0] == tmp_path / "person.v2.onnx"
    beside = ["person.v2.fp16.onnx", "person.v2.fp32.engine", "person.v2.int8.onnx"]
    assert [path.name for path in found[1:]] == beside
    assert sibling_models(tmp_path / "person.onnx") == [tmp_path / "person.onnx"]
    assert sibling_models(tmp_path / "other[1].onnx") == [tmp_path / "other[1].onnx"]
    variants, passed_over = find_variants(found, spec.fingerprint, threads=1, max_batch=2)
    assert {variant.path for variant in variants} == {tmp_path / "person.v2.onnx", tmp_path / "person.v2.fp16.onnx"}
    assert f"{stale.name}: another network (fingerprint 111111111111)" in passed_over
    assert any(line.startswith("person.v2.fp32.engine: ") and "needs this sidecar" in line for line in passed_over)
