"""The limits of a machine, and the rows that are compared with them."""

from __future__ import annotations

import builtins
from dataclasses import replace

import numpy as np
import onnx
import pytest

from rrid_edge.bench import ceilings
from rrid_edge.bench.ceilings import Ceiling, Ceilings, CeilingSettings, Layer, layer_network, measure_ceilings
from rrid_edge.bench.results import BenchReport, EngineRow, PipelineRow, SearchRow
from rrid_edge.bench.shares import Limits, with_shares
from rrid_edge.bench.table import table
from rrid_edge.engines.onnxruntime.cpu import import_onnxruntime
from rrid_edge.machine.foreign_cpu import Repeats
from rrid_edge.model.onnx_graph import parse_graph
from rrid_edge.model.operations import Work, count_work

LAYERS = (Layer("convolution", 2, 8, 6, 4, 3), Layer("pointwise", 2, 8, 6, 4), Layer("product", 16, 32))
LIMITS = Ceilings(
    {"fp32": Ceiling(150e9, "x", "openvino"), "bf16": Ceiling(300e9, "x", "openvino")}, 20e9, foreign_cpu=0.02
)
ROW = EngineRow(
    name="rrid.onnx openvino fp32", runtime="openvino CPU fp32", arithmetic="fp32", model_mb=1.0, load_cold_s=1.0,
    load_cached_s=1.0, load_warm_s=1.0, memory_mib=1.0, peak_memory_mib=None, device_memory_mib=None, latency_calls=20,
    latency_p50_ms=100.0, latency_p90_ms=110.0, latency_p99_ms=120.0, images_per_s={1: 10.0, 8: 12.5},
    spread={1: 0.1, 8: 0.1}, min_cosine=1.0, top1_agreement=1.0, map_change=None, foreign_cpu=0.04,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch):
    monkeypatch.setattr(ceilings, "_OPERATIONS", 0)
    monkeypatch.setattr(ceilings, "_READ_BYTES", 1 << 22)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_networks_of_layers_have_the_operations_that_they_state(monkeypatch, layer, precision):
    monkeypatch.setattr(ceilings, "_OPERATIONS", 3 * layer.operations)
    content = layer_network(layer, precision)
    onnx.checker.check_model(onnx.load_model_from_string(content), full_check=True)
    assert layer.count == 3
    work = count_work(parse_graph(memoryview(content)), {"images": layer.shape})
    assert work.operations == 3 * layer.operations
    assert work.weights == 3 * np.prod(layer.weight_shape)


def test_int8_layers_are_int8_in_the_runtime(tmp_path):
    """ONNX Runtime replaces quantisation, convolution and quantisation by one int8 layer."""
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3  # it warns that the file depends on this processor
    content = layer_network(LAYERS[0], "int8")
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"images": np.ones(LAYERS[0].shape, np.float32)})
    assert result.shape == (2, 8, 1, 1)
    assert "QLinearConv" in {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}


def test_all_installed_runtimes_are_measured(monkeypatch):
    monkeypatch.setattr(ceilings, "LAYERS", LAYERS)
    found = measure_ceilings(CeilingSettings(0, 1, Repeats(1)))
    assert {"fp32", "int8"} <= found.compute.keys()
    for one in found.compute.values():
        assert one.operations_per_s > 0
        assert one.runtime in ("openvino", "onnxruntime")
        assert one.layer in {layer.name for layer in LAYERS}
    assert found.memory_bytes_per_s > 1e8
    assert not found.missing


def test_without_runtimes_the_memory_is_measured_and_the_rest_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **more):
        if name in ("openvino", "onnxruntime"):
            raise ImportError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    found = measure_ceilings(CeilingSettings(0, 1, Repeats(1)))
    assert found.compute == {}
    assert found.memory_bytes_per_s > 0
    assert found.missing == ("ceilings on openvino: not installed", "ceilings on onnxruntime: not installed")


def test_a_runtime_that_fails_is_named_and_the_other_one_counts(monkeypatch):
    monkeypatch.setattr(ceilings, "LAYERS", LAYERS[:1])

    def failing(_threads):
        def open_call(_content, _precision, _images):
            raise RuntimeError("no memory")

        return open_call

    monkeypatch.setattr(ceilings, "_openvino", failing)
    found = measure_ceilings(CeilingSettings(0, 1, Repeats(1)))
    assert {one.runtime for one in found.compute.values()} == {"onnxruntime"}
    assert "ceiling of int8 on openvino: RuntimeError: no memory" in found.missing


def test_shares_by_hand():
    """12.5 images/s of 6 Gop are 75 of 150 Gop/s; 50 million weights of 4 bytes in 0.1 s are 2 of 20 GB/s."""
    row = with_shares(ROW, Limits(LIMITS, Work(6_000_000_000, 50_000_000)), on_gpu=False)
    assert (row.operations_per_s, row.of_ceiling, row.of_memory) == pytest.approx((75e9, 0.5, 0.1))
    half = with_shares(replace(ROW, arithmetic="bf16"), Limits(LIMITS, Work(6_000_000_000, 50_000_000)), on_gpu=False)
    assert (half.of_ceiling, half.of_memory) == pytest.approx((0.25, 0.05))


def test_a_missing_share_has_a_reason():
    work = Work(6_000_000_000, 50_000_000)
    on_gpu = with_shares(ROW, Limits(LIMITS, work), on_gpu=True)
    unknown = with_shares(replace(ROW, arithmetic="int8"), Limits(LIMITS, work), on_gpu=False)
    uncounted = with_shares(ROW, Limits(LIMITS, None), on_gpu=False)
    for row, reason in ((on_gpu, "runs on a GPU"), (unknown, "computes in int8"), (uncounted, "could not be counted")):
        assert (row.of_ceiling, row.of_memory) == (None, None)
        assert row.no_share is not None
        assert reason in row.no_share
    assert on_gpu.operations_per_s == pytest.approx(75e9)


def report(*rows: EngineRow) -> BenchReport:
    search = SearchRow(1000, 1, 1.0, 2.0, 3.0, "scan", 10, of_reading=0.5, of_products=31.4, foreign_cpu=0.4)
    return BenchReport(
        machine={"processor": "x"}, threads=1, date="2026-11-26", model="rrid.onnx", fingerprint="a" * 64,
        reference="goldens", sample="2 crops", repetitions=3, engines=rows, pipeline=(), search=(search,),
        passed_over=(), ceilings=LIMITS, operations_per_image=6_000_000_000, foreign_cpu=0.03,
    )  # fmt: skip


def test_disturbed_rows_are_marked_and_counted():
    found = report(ROW, replace(ROW, name="b", foreign_cpu=0.31), replace(ROW, name="c", foreign_cpu=None))
    text = table(found)
    blocks = {block.split("\n")[0].strip(): block for block in text.split("\n\n")}
    shown = [blocks[name].split("foreign CPU ")[1].split()[0] for name in (ROW.name, "b", "c")]
    assert shown == ["4%", "31%!", "-"]
    text = " ".join(text.split())
    assert "! marks 2 rows during which other programs took more than 10% of the CPU" in text
    assert "0.50x reading all vectors, 31x computing all scores (fp32 limit)" in text
    assert "foreign CPU: 3% (quiet: at most 10%), over the whole run" in text
    content = found.to_dict()
    assert [row["disturbed"] for row in content["engines"]] == [False, True, False]
    assert [row["disturbed"] for row in content["search"]] == [True]


def test_a_machine_without_proc_says_so():
    """As on macOS: no share of foreign CPU and no memory, in a report that is otherwise whole."""
    bare = replace(report(replace(ROW, foreign_cpu=None, memory_mib=None)), search=(), foreign_cpu=None)
    text = " ".join(table(bare).split())
    assert "foreign CPU: not measured (too short, or no /proc/stat on this system), over the whole run" in text
    assert "marks" not in text


@pytest.mark.parametrize(("family", "command"), [("rrid", "export CHECKPOINT"), ("adopted", "adopt FILE")])
def test_the_row_of_one_view_names_the_command_of_its_family(family, command):
    row = replace(ROW, of_two_views=1.9)
    text = table(replace(report(row), family=family))
    _, _, below = text.partition("1.90x the images/s of two views, in turns at batch")
    first, second = [line.strip() for line in below.split("\n")[2:4]]
    assert first.startswith(f"rrid-edge {command} --no-flip --")
    assert second.startswith("rrid-edge evaluate FOLDER/")


def test_a_report_fits_80_columns_and_says_everything():
    """Also long names, many engines, many batch sizes, and a machine of many facts."""
    long = f"{'a-very-long-name-of-a-model-' * 4}.onnx openvino bf16"
    rates = {2**power: 12345.6 for power in range(8)}
    rows = [
        replace(
            ROW, name=f"{number} {long}", images_per_s=rates, spread=dict.fromkeys(rates, 0.1),
            latency_p99_ms=98765.4,
            device_memory_mib=81234.0, map_change=-0.1234, no_share="computes in fp8, whose limit is not measured here",
            of_two_views=1.9,
        )
        for number in range(30)
    ]  # fmt: skip
    pipeline = PipelineRow(
        long, "crops 64 x 128", 400, 32, 2, 3, 890.1, 812.3, 0.91, 0.88, 0.93, 2400.0, 999.0, 31000.0, "compute", 0.03,
        0.002, 0.5,
    )  # fmt: skip
    found = replace(
        report(*rows), machine={f"package-{number}": "1.2.3" for number in range(20)}, pipeline=(pipeline,),
        passed_over=(f"{long}: not installed",), model=long, sample="many crops of many people " * 5,
    )  # fmt: skip
    text = table(replace(found, auto=f"runtime x (passed over: {long})", auto_in_brief="runtime x"), in_full=True)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    joined = "".join(text.split())
    assert all("".join(row.name.split()) in joined for row in rows)
    for value in ("p99 98765.4 ms", "12345.6 at batch 128", "GPU 81234 MiB", "mAP change -0.1234", "copy 999"):
        assert "".join(value.split()) in joined
    head = next(number for number, line in enumerate(lines) if line.endswith("  engine"))
    assert [line.split()[4] for line in lines[head + 1 : head + 31]] == [str(number) for number in range(30)]


def test_the_choice_of_a_runtime_is_one_clause_unless_asked_for():
    found = replace(report(ROW), auto="runtime x (passed over: y)", auto_in_brief="runtime x (1 other passed over)")
    assert "auto      takes runtime x (1 other passed over)\n" in table(found)
    assert "auto      takes runtime x (passed over: y)\n" in table(found, in_full=True)
    assert found.to_dict()["auto"] == "runtime x (passed over: y)"
    assert "auto_in_brief" not in found.to_dict()
