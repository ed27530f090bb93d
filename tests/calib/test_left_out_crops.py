"""Crops that cannot be read are left out of a calibration, named and counted."""

from __future__ import annotations

import numpy as np
import pytest

from rrid_calib import crops as crops_module
from rrid_calib.calibrate import _read
from rrid_calib.crops import choose_check, find_crops, read_crops
from rrid_calib.settings import CalibrationSettings
from rrid_edge.crops.images import read_image
from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import UsageError
from rrid_edge.ranking.sampling import PeopleSample
from support.pictures import noise, save_crops

SETTINGS = CalibrationSettings(count=8, measured=8, seed=0)


def test_a_crop_that_cannot_be_read_costs_that_crop_only(tmp_path, monkeypatch):
    save_crops(tmp_path, 20)
    kept, drawn = choose_check(find_crops(tmp_path), 8, seed=0)
    drawn[3].path.write_bytes(b"\xff\xd8 damaged")
    kept[2].path.write_bytes(b"\xff\xd8 damaged")

    def odd_image(path, height_px, width_px):
        if path == drawn[1].path:
            raise RuntimeError("boom\n\x1b[31m")
        return read_image(path, height_px, width_px)

    monkeypatch.setattr(crops_module, "read_image", odd_image)
    lines: list[str] = []
    spec = fake_spec()
    ranged, measured = _read(tmp_path, SETTINGS, spec, lines.append)
    assert ranged.crops == (drawn[0], drawn[2], *drawn[4:10])  # later ones take their places
    assert measured.crops == (drawn[10], *kept[:2], *kept[3:])
    np.testing.assert_array_equal(ranged.pixels[2], read_image(drawn[4].path, spec.height_px, spec.width_px))
    np.testing.assert_array_equal(measured.pixels[1], read_image(kept[0].path, spec.height_px, spec.width_px))
    for images in (ranged, measured):
        assert len(images.pixels) == len(images.sha256) == 8
    assert [name for name, _ in ranged.left_out] == [drawn[1].name, drawn[3].name, kept[2].name]
    assert lines[0] == f"left out {drawn[1].name}: RuntimeError: boom \\x1b[31m"
    assert lines[1].startswith(f"left out {drawn[3].name}: ")
    assert lines[2].startswith(f"left out {kept[2].name}: ")
    assert lines[3:] == [
        "left out: 3 crops that cannot be read",
        f"accuracy is measured on {PeopleSample.of(measured.labels).describe()}",
    ]


def test_too_few_readable_crops_stop_calibration(tmp_path):
    for path in save_crops(tmp_path, 20)[:5]:
        path.write_bytes(b"\xff\xd8 damaged")
    with pytest.raises(
        UsageError, match="15 training crops are too few, 5 others cannot be read; expected at least 16"
    ):
        _read(tmp_path, SETTINGS, fake_spec(), lambda _line: None)
    assert read_crops([], 96, 32).pixels.shape == (0, 96, 32, 3)


def test_links_that_lead_out_of_a_folder_are_followed_only_if_asked(tmp_path):
    save_crops(tmp_path / "crops", 3)
    noise(1).save(tmp_path / "private.jpg")
    (tmp_path / "crops" / "out.jpg").symlink_to(tmp_path / "private.jpg")
    assert len(find_crops(tmp_path / "crops")) == 3
    assert [crop.path.name for crop in find_crops(tmp_path / "crops", follow_links=True)][-1] == "out.jpg"
