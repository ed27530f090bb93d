"""Tests of the cache of compiled models: same results, no stale, damaged or foreign entries, and a bounded size."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from rrid_edge.engines import compiled_cache as module
from rrid_edge.engines.compiled_cache import CompiledCache, cache_folder
from rrid_edge.engines.opening import open_engine
from rrid_edge.engines.openvino.engine import OpenVinoEngine
from rrid_edge.files import workplace
from support.onnx_models import save_tiny_model


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return a cache that also takes small and new models."""
    monkeypatch.setattr(module, "SMALLEST_MODEL_BYTES", 0)
    monkeypatch.setattr(module, "_SETTLED_S", -3600.0)
    return CompiledCache(tmp_path / "cache")


@pytest.fixture
def model(tmp_path):
    return save_tiny_model(tmp_path / "m.onnx")


IMAGES = np.random.default_rng(0).integers(0, 256, (3, 192, 64, 3), dtype=np.uint8)


def _run(model, cache, **settings):
    """Return the descriptors, and whether the model came from the cache."""
    with OpenVinoEngine(model, precision="fp32", cache=cache, **settings) as engine:
        return engine.run(IMAGES), engine.from_cache


def _entries(cache):
    return sorted(cache.folder.glob("*"))


def test_answers_are_the_same_with_and_without(model, cache):
    without, _ = _run(model, None)
    first, was_there = _run(model, cache)
    second, is_there = _run(model, cache)
    assert (was_there, is_there) == (False, True)
    np.testing.assert_array_equal(first, without)
    np.testing.assert_array_equal(second, without)


@pytest.mark.parametrize("place", [0, 30, 60, 70, 4096, -1])
def test_a_flipped_bit_is_found_and_the_entry_made_again(model, cache, place):
    expected, _ = _run(model, cache)
    (entry,) = _entries(cache)
    content = bytearray(entry.read_bytes())
    content[place] ^= 4
    entry.write_bytes(content)
    found, served = _run(model, cache)
    assert not served
    np.testing.assert_array_equal(found, expected)
    assert _run(model, cache)[1]


@pytest.mark.parametrize("size", [0, 50, 4096, 6000])
def test_a_torn_entry_is_made_again(model, cache, size):
    _run(model, cache)
    os.truncate(_entries(cache)[0], size)
    assert not _run(model, cache)[1]
    assert _run(model, cache)[1]


def test_an_entry_of_a_lying_length_is_made_again(model, cache):
    """A sparse file whose header names its huge size is not summed up."""
    _run(model, cache)
    (entry,) = _entries(cache)
    length = 1 << 40
    facts = entry.read_bytes()[len(module._MAGIC) :][:32]
    with entry.open("r+b") as stream:
        stream.seek(len(module._MAGIC))
        stream.write(module._FACTS.pack(facts, length, 0))
        stream.truncate(module._HEADER_BYTES + length)
    assert not _run(model, cache)[1]


def test_an_entry_that_the_runtime_refuses_is_made_again(model, cache):
    expected, _ = _run(model, cache)
    (entry,) = _entries(cache)
    key = entry.read_bytes()[len(module._MAGIC) :][:32]
    cache.keep(key, lambda: b"no model " * 1000)
    found, served = _run(model, cache)
    assert not served
    np.testing.assert_array_equal(found, expected)
    assert _run(model, cache)[1]


@pytest.mark.parametrize("in_place", [False, True])
def test_another_model_under_the_same_name_size_and_time_is_not_mistaken(model, cache, tmp_path, in_place):
    before, _ = _run(model, cache)
    facts = model.stat()
    other = save_tiny_model(tmp_path / "other" / "m.onnx", seed=1)
    if in_place:
        model.write_bytes(other.read_bytes())
    else:
        other.replace(model)
    os.utime(model, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert model.stat().st_size == facts.st_size
    found, served = _run(model, cache)
    assert not served
    np.testing.assert_array_equal(found, _run(model, None)[0])
    assert np.abs(found - before).max() > 0.01


def test_settings_processor_and_place_have_entries_of_their_own(model, cache, monkeypatch, tmp_path):
    _run(model, cache)
    assert not _run(model, cache, threads=1)[1]
    monkeypatch.setattr(module, "processor_identity", lambda: "another")
    assert not _run(model, cache)[1]
    assert len(_entries(cache)) == 3


def test_a_model_that_changed_a_moment_ago_is_not_cached(model, cache, monkeypatch):
    monkeypatch.setattr(module, "_SETTLED_S", 3.0)
    assert cache.key(model) is None
    monkeypatch.setattr(time, "time", lambda: model.stat().st_ctime + 4)
    assert cache.key(model) is not None


def test_small_models_are_not_cached(model, cache, monkeypatch):
    monkeypatch.setattr(module, "SMALLEST_MODEL_BYTES", 1 << 20)
    assert cache.key(model) is None
    assert cache.key(model.with_name("none.onnx")) is None


def test_an_entry_that_others_may_write_does_not_serve(model, cache):
    _run(model, cache)
    _entries(cache)[0].chmod(0o666)
    assert not _run(model, cache)[1]


def test_a_folder_that_cannot_be_made_costs_nothing_but_time(model, tmp_path, cache):
    (tmp_path / "file").write_text("")
    blocked = CompiledCache(tmp_path / "file" / "cache")
    assert not _run(model, blocked)[1]
    assert not _run(model, blocked)[1]


def test_the_longest_unused_entries_go_first(cache, monkeypatch):
    size = 10_000 + module._HEADER_BYTES
    monkeypatch.setattr(module, "LARGEST_BYTES", 2 * size)
    keys = [bytes([number]) * 32 for number in range(4)]
    for number, key in enumerate(keys[:2]):
        cache.keep(key, lambda: bytes(10_000))
        os.utime(cache._path(key), (number, number))
    assert cache.load(keys[0]) is not None  # used now
    cache.keep(keys[2], lambda: bytes(10_000))
    assert [cache.load(key) is not None for key in keys] == [True, False, True, False]
    cache.keep(keys[3], lambda: bytes(3 * size))
    assert cache.load(keys[3]) is None
    assert all(path.suffix == ".blob" for path in cache.folder.iterdir())


def test_what_a_killed_process_left_goes_too(cache):
    cache.keep(b"a" * 32, lambda: b"12345678")
    child = os.fork()
    if not child:
        with workplace(cache.folder) as place:
            (place / "entry").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(cache.folder.iterdir())) == 2
    cache.keep(b"b" * 32, lambda: b"12345678")
    assert all(path.suffix == ".blob" for path in cache.folder.iterdir())


def test_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("RRID_EDGE_CACHE")
    assert cache_folder() == tmp_path / "rrid-edge"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "rrid-edge"
    monkeypatch.setenv("RRID_EDGE_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.setenv("RRID_EDGE_CACHE", "off")
    assert cache_folder() is None


def test_open_engine_uses_it(model, cache, monkeypatch):
    monkeypatch.setenv("RRID_EDGE_CACHE", str(cache.folder))
    open_engine(model, "openvino").close()
    assert len(_entries(cache)) == 1
    monkeypatch.setenv("RRID_EDGE_CACHE", "off")
    open_engine(model, "openvino", threads=1).close()
    assert len(_entries(cache)) == 1
