"""Files to descriptors: order, failures, bounded work ahead."""

from __future__ import annotations

import hashlib

import numpy as np

from pictures import save_crops
from rrid_edge.embed import embed_files
from rrid_edge.engines import FakeEngine
from rrid_edge.images import read_image


def test_descriptors_stand_in_the_order_of_the_files(tmp_path):
    paths = save_crops(tmp_path, 23)
    with FakeEngine(max_batch=5) as engine:
        batches = list(embed_files(engine, paths, workers=4, batch=5))
        alone = np.concatenate([engine.run(read_image(path, 192, 64)[None]) for path in paths])
    assert [facts.path for batch in batches for facts in batch.files] == paths
    np.testing.assert_allclose(np.concatenate([batch.descriptors for batch in batches]), alone, atol=1e-6)
    facts = batches[0].files[0]
    assert facts.sha256 == hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert facts.size == paths[0].stat().st_size


def test_broken_files_are_reported_where_they_stand(tmp_path):
    paths = save_crops(tmp_path, 6)
    paths[2].write_text("words")
    paths[5].unlink()
    batches = list(embed_files(FakeEngine(), paths, batch=3))
    assert [len(batch.files) for batch in batches] == [2, 2]
    assert [path for batch in batches for path, _ in batch.failed] == [paths[2], paths[5]]
    assert all(len(batch.descriptors) == len(batch.files) for batch in batches)


def test_no_files_and_only_broken_ones(tmp_path):
    assert list(embed_files(FakeEngine(), [])) == []
    (tmp_path / "a.jpg").write_text("words")
    (batch,) = embed_files(FakeEngine(), [tmp_path / "a.jpg"])
    assert batch.descriptors.shape == (0, 240)


def test_decoding_runs_ahead_by_a_bounded_number_of_batches(tmp_path, monkeypatch):
    import rrid_edge.embed as module

    started: list[object] = []
    real = module._read
    monkeypatch.setattr(module, "_read", lambda path, *size: (started.append(path), real(path, *size))[1])
    stream = embed_files(FakeEngine(), save_crops(tmp_path, 40), workers=2, batch=2)
    next(stream)
    assert len(started) <= 2 * 4
    stream.close()
