"""The service is killed under load, and others write its gallery: nothing acknowledged is lost, no answer is mixed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edge.serve.support import SPEC, client, crop_files, service_on
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.local.store import LocalGallery
from support.killed_service import kill_and_check

COMMITS = 40


@pytest.mark.slow
def test_a_killed_service_loses_nothing_that_it_acknowledged(tmp_path):
    answers = kill_and_check(tmp_path, kills=1, seed=3)
    assert answers["push 201"] > 0
    assert answers["search 200"] > 0


def test_answers_come_from_one_commit_while_others_write(tmp_path):
    """Each commit replaces all rows, and names its number as their camera."""

    def rows(number):
        return [NewRow(f"{index:02d}.jpg", f"{number:03d}{index:061d}", 1, number, str(number)) for index in range(8)]

    vectors = np.random.default_rng(0).standard_normal((8, SPEC.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def write():
        with LocalGallery(index, write=True) as gallery:
            for number in range(1, COMMITS):
                gallery.add(rows(number), np.roll(vectors, number, axis=0))

    with service_on(tmp_path, {"gallery": 4}) as service, client(service) as http:
        index = tmp_path / "gallery" / ".rrid-edge"
        with LocalGallery(index, write=True) as gallery:
            gallery.remove([row.id for row in gallery.rows()])
            gallery.add(rows(0), vectors)
        writer = threading.Thread(target=write)
        writer.start()
        seen: list[int] = []
        while writer.is_alive() or not seen:
            answer = http.post("/api/v1/search?top_k=100", files=crop_files(tmp_path / "gallery")).json()
            assert answer["searched"] == len(answer["matches"]) == 8
            cameras = {match["camera"] for match in answer["matches"]}
            assert len(cameras) == 1, cameras
            seen += [int(camera) for camera in cameras]
        writer.join()
        assert seen == sorted(seen)
