"""``auto`` between ONNX Runtime and OpenVINO: measured once, recorded, and never trusted where the record is odd."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rrid_edge.bench import running
from rrid_edge.bench.results import EngineRow
from rrid_edge.bench.variants import Variant
from rrid_edge.engines import RuntimeChoice, compiled_cache, measuring, opening, speeds
from rrid_edge.engines.base import Engine
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.engines.measuring import LONGEST_S, measure_runtimes, measure_speeds
from rrid_edge.engines.opening import FEW_IMAGES, choose_runtime, open_engine
from rrid_edge.engines.speeds import RuntimeSpeeds, SpeedRecord
from rrid_edge.errors import MissingDependencyError, OutputError
from support.commands import rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import noise, save_crops

FASTER, SLOWER = RuntimeSpeeds(154.1, 190.1), RuntimeSpeeds(86.0, 78.0)


class TimedEngine(FakeEngine):
    """Takes a known time per call on a clock of its own: longer in the first call."""

    def __init__(self, clock: list[float], call_s: float) -> None:
        super().__init__()
        self._clock, self._call_s, self.calls = clock, call_s, 0

    def _run_batch(self, images: NDArray[Any]) -> NDArray[np.float32]:
        self.calls += 1
        self._clock[0] += self._call_s * (10 if self.calls == 1 else 1)
        return super()._run_batch(images)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A float32 model on an x86 CPU without bfloat16, with a cache that takes small and new models."""
    monkeypatch.setattr(compiled_cache, "SMALLEST_MODEL_BYTES", 0)
    monkeypatch.setattr(compiled_cache, "_SETTLED_S", -3600.0)
    monkeypatch.setattr(opening, "computes_bf16", lambda: False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setenv("RRID_EDGE_CACHE", str(tmp_path / "cache"))
    return save_tiny_model(tmp_path / "rrid.onnx")


@pytest.fixture
def measured(monkeypatch):
    """Count the measurements, which find ONNX Runtime faster."""
    calls: list[set[str]] = []

    def measure(engines: Mapping[str, object]) -> RuntimeSpeeds:
        calls.append(set(engines))
        return FASTER

    monkeypatch.setattr(measuring, "measure_speeds", measure)
    return calls


def _record(model) -> SpeedRecord:
    found = SpeedRecord.of(model)
    assert found is not None
    return found


def test_the_median_of_turns_counts_and_not_the_first_call():
    clock = [0.0]
    first, second = TimedEngine(clock, 0.064), TimedEngine(clock, 0.072)
    found = measure_speeds({"onnxruntime": lambda: first, "openvino": lambda: second}, lambda: clock[0])
    assert [found.onnxruntime_ms, found.openvino_ms] == pytest.approx([64, 72])
    assert (first.calls, second.calls) == (8, 8)


@pytest.mark.parametrize(("call_s", "calls"), [(0.2, 6), (0.1, 8), (5.0, 2)])
def test_slow_machines_are_measured_in_few_turns(call_s, calls):
    """By hand: the first call takes ten times as long. Turns begin until 3 s have passed; the first always does."""
    clock = [0.0]
    slow, quick = TimedEngine(clock, call_s), TimedEngine(clock, 1e-4)
    found = measure_speeds({"onnxruntime": lambda: slow, "openvino": lambda: quick}, lambda: clock[0])
    assert (LONGEST_S, slow.calls, quick.calls) == (3.0, calls, calls)
    assert found.onnxruntime_ms == pytest.approx(1000 * call_s)


def test_auto_takes_the_faster_runtime_once_it_is_measured(model, measured):
    first = choose_runtime(model)
    assert (first.runtime, first.is_unmeasured, first.speeds) == ("openvino", True, None)
    assert first.describe().endswith("; ONNX Runtime and OpenVINO are not measured yet)")
    assert measure_runtimes(model).runtime == "onnxruntime"
    assert measure_runtimes(model).runtime == "onnxruntime"
    assert measured == [{"onnxruntime", "openvino"}]
    choice = choose_runtime(model)
    assert (choice.runtime, choice.is_unmeasured, choice.speeds) == ("onnxruntime", False, FASTER)
    assert choice.describe().endswith("; measured: ONNX Runtime 154 ms, OpenVINO 190 ms per image)")
    with open_engine(model) as engine:
        assert engine.runtime.startswith("onnxruntime")
    assert oct(_record(model).path.stat().st_mode)[-3:] == "600"


@pytest.mark.parametrize(("onnxruntime", "runtime"), [(94.9, "onnxruntime"), (95.1, "openvino"), (200.0, "openvino")])
def test_a_difference_within_the_spread_changes_nothing(model, onnxruntime, runtime):
    _record(model).keep(RuntimeSpeeds(onnxruntime, 100.0))
    assert choose_runtime(model).runtime == runtime


def test_a_few_images_run_where_the_model_opens_faster(model):
    _record(model).keep(FASTER)
    few, more = choose_runtime(model, images=FEW_IMAGES - 1), choose_runtime(model, images=FEW_IMAGES)
    assert (few.runtime, few.speeds, few.is_unmeasured) == ("openvino", None, False)
    assert more.runtime == "onnxruntime"


def test_nothing_is_measured_where_it_decides_nothing(model, measured, monkeypatch, tmp_path):
    half = save_tiny_model(tmp_path / "half.onnx", fake_spec().with_precision("int8"))
    assert not choose_runtime(half).is_unmeasured
    assert not choose_runtime(model, "openvino").is_unmeasured
    assert choose_runtime(model, precision="fp32").runtime == "openvino"
    with monkeypatch.context() as patch:
        patch.setattr(opening, "computes_bf16", lambda: True)
        assert measure_runtimes(model).runtime == "openvino"
    with monkeypatch.context() as patch:
        real = importlib.util.find_spec
        patch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else real(name))
        assert measure_runtimes(model).runtime == "openvino"
    with monkeypatch.context() as patch:
        patch.setenv("RRID_EDGE_CACHE", "off")
        assert measure_runtimes(model).runtime == "openvino"
    with monkeypatch.context() as patch:
        patch.setattr("platform.machine", lambda: "aarch64")
        assert measure_runtimes(model).runtime == "onnxruntime"
    (tmp_path / "words.onnx").write_text("words")
    assert measure_runtimes(tmp_path / "words.onnx").runtime == "openvino"
    assert measured == []


def test_a_record_holds_for_its_network_processor_threads_and_versions(model, monkeypatch, tmp_path):
    def key(path=model, threads=0) -> str:
        found = SpeedRecord.of(path, threads)
        assert found is not None
        return found.key

    keys = [key(), key(threads=1), key(save_tiny_model(tmp_path / "other.onnx", fake_spec("other")))]
    for name, value in (
        ("processor_identity", lambda: "another"),
        ("installed_version", lambda name: f"{name} 9"),
        ("usable_cores", lambda: 999),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(speeds, name, value)
            keys.append(key())
    assert len(set(keys)) == len(keys)
    copied = save_tiny_model(tmp_path / "elsewhere" / "copy.onnx")
    assert key(copied) == keys[0] == key()


@pytest.mark.parametrize(
    "change",
    [
        lambda values: {},
        lambda values: [],
        lambda values: values | {"format": 2},
        lambda values: values | {"key": "0" * 64},
        lambda values: values | {"speeds": {"onnxruntime_ms": 0, "openvino_ms": 1}},
        lambda values: values | {"speeds": {"onnxruntime_ms": "1", "openvino_ms": 1}},
        lambda values: values | {"speeds": {"onnxruntime_ms": 1e300, "openvino_ms": 1}},
        lambda values: values | {"speeds": {"openvino_ms": 1}},
    ],
    ids=["empty", "list", "newer", "foreign", "zero", "text", "huge", "half"],
)
def test_an_odd_record_is_ignored_and_replaced(model, measured, change):
    record = _record(model)
    record.keep(SLOWER)
    values = json.loads(record.path.read_text())
    record.path.write_text(json.dumps(change(values)))
    assert choose_runtime(model).is_unmeasured
    assert measure_runtimes(model).speeds == FASTER
    assert json.loads(record.path.read_text()) == values | {"speeds": {"onnxruntime_ms": 154.1, "openvino_ms": 190.1}}


def test_a_cut_record_and_one_that_others_can_write_are_ignored(model):
    record = _record(model)
    record.keep(FASTER)
    content = record.path.read_bytes()
    for length in range(0, len(content) - 2, 40):
        record.path.write_bytes(content[:length])
        assert record.read() is None
    record.path.write_bytes(content)
    assert record.read() == FASTER
    record.path.chmod(0o666)
    assert record.read() is None
    record.path.unlink()
    record.path.mkdir(mode=0o700)
    assert record.read() is None


def test_nothing_is_measured_again_and_again_where_no_record_can_be_written(model, measured, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RRID_EDGE_CACHE", str(tmp_path / "file" / "cache"))
    choice = measure_runtimes(model)
    assert (choice.runtime, choice.is_unmeasured, measured) == ("openvino", False, [])
    assert choice.decided_by(FASTER, model) == choice  # what bench measured decides nothing that outlives it
    monkeypatch.setenv("RRID_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(speeds, "write_json", _full)
    assert measure_runtimes(model) == choose_runtime(model) == replace(choice, is_unmeasured=True)


def _full(*_args: object) -> None:
    raise OutputError("no space left on device")


def test_an_engine_that_does_not_open_leaves_the_rule(model, monkeypatch):
    def broken(*_args: object, **_settings: object) -> None:
        raise MissingDependencyError("onnxruntime is broken")

    monkeypatch.setattr(measuring, "open_engine", broken)
    choice = measure_runtimes(model)
    assert (choice.runtime, choice.is_unmeasured) == ("openvino", True)


def test_real_engines_are_measured_in_the_number_of_threads_asked_for(model, monkeypatch):
    asked = []

    def opened(path: Path, name: str, *, threads: int) -> Engine:
        asked.append((name, threads))
        return open_engine(path, name, threads=threads)

    monkeypatch.setattr(measuring, "open_engine", opened)
    choice = measure_runtimes(model, threads=1)
    assert asked == [("onnxruntime", 1), ("openvino", 1)]
    assert choice.speeds is not None
    assert choice.runtime == choice.speeds.fastest
    assert choose_runtime(model, threads=1) == choice
    assert choose_runtime(model, threads=2).is_unmeasured


def test_index_measures_once_and_match_does_not_wait_for_it(model, measured, tmp_path, monkeypatch):
    save_crops(tmp_path / "gallery", 3)
    noise(9).save(tmp_path / "query.jpg")
    ask = ("match", tmp_path / "query.jpg", tmp_path / "gallery", "--model", model)
    assert "runtime openvino" in rrid_edge(*ask).err
    assert measured == []
    monkeypatch.setenv("RRID_EDGE_MODEL", str(model))
    assert "not measured yet" in rrid_edge("--verbose", "info").out
    assert "auto takes    openvino (2 others passed over; doctor says why)\n" in rrid_edge("info").out
    doctor = {one["name"]: one for one in json.loads(rrid_edge("doctor", "--json").out)}
    assert doctor["auto"]["state"] == "note"
    assert doctor["auto"]["remedy"].startswith("rrid-edge bench --quick --model ")
    outcomes = [rrid_edge("--verbose", "index", tmp_path / "gallery", "--model", model) for _ in range(2)]
    assert ["measuring once whether" in outcome.err for outcome in outcomes] == [True, False]
    assert all("measured: ONNX Runtime 154 ms, OpenVINO 190 ms per image" in outcome.err for outcome in outcomes)
    assert len(measured) == 1
    assert "auto takes    onnxruntime (passed over: " in rrid_edge("-v", "info").out
    assert json.loads(rrid_edge("info", "--json").out)["auto"]["runtime"] == "onnxruntime"
    doctor = {one["name"]: one for one in json.loads(rrid_edge("doctor", "--json").out)}
    assert doctor["auto"]["state"] == "ok"
    assert "measured: " in doctor["auto"]["detail"]
    assert "runtime openvino" in rrid_edge(*ask).err  # one image


def test_bench_records_what_it_measured_undisturbed(model):
    names = [("onnxruntime", None), ("openvino", "fp32"), ("openvino", "bf16")]
    variants = [Variant("", FakeEngine, model, *name) for name in names]
    row = EngineRow(
        "", "", "fp32", None, None, None, None, None, None, None, 20, 0, 0, 0, {1: 1.0}, {1: 0.0}, 1, 1, None
    )  # fmt: skip
    rows = [replace(row, latency_p50_ms=ms, foreign_cpu=0.3) for ms in (154.1, 190.1, 20.0)]
    assert "not measured yet" in running._auto(model, rows, variants, 0).describe()
    rows = [replace(row, foreign_cpu=0.02) for row in rows]
    choice = running._auto(model, rows, variants, 0)
    told = choice.describe()
    assert running._in_brief(choice) == "runtime onnxruntime (measured: ONNX Runtime 154 ms, OpenVINO 190 ms per image)"
    assert told.startswith("runtime onnxruntime (")
    assert "measured: ONNX Runtime 154 ms" in told
    assert choose_runtime(model).speeds == FASTER
    assert _record(model).read() == FASTER
    half = [(variant, row) for variant, row in zip(variants, rows, strict=True) if variant.precision != "fp32"]
    assert "OpenVINO 190 ms" in running._auto(model, [row for _, row in half], [one for one, _ in half], 0).describe()


def test_a_choice_that_was_asked_for_is_not_decided_by_speed(model):
    asked = RuntimeChoice("openvino", asked=True)
    assert asked.decided_by(FASTER, model) == asked
    assert not _record(model).path.exists()


def test_writers_at_once_leave_one_whole_record(model):
    record = _record(model)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(record.keep, [FASTER, SLOWER] * 4))
    assert record.read() in (FASTER, SLOWER)
    assert list(record.path.parent.iterdir()) == [record.path]
