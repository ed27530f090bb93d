"""Atomic writes: their permissions."""

from __future__ import annotations

import os
import stat

import pytest

from rrid_edge.files import PRIVATE_MODE, atomic_output, write_json, write_text


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_private_files_are_private_from_the_first_byte_on(tmp_path, mask):
    before = os.umask(mask)
    try:
        (tmp_path / "a.txt").touch(mode=0o644)
        with atomic_output(tmp_path / "a.txt", PRIVATE_MODE) as partial:
            assert mode_of(partial) & 0o077 == 0
            partial.write_text("secret")
            assert mode_of(partial) & 0o077 == 0
        write_json(tmp_path / "b.json", {}, PRIVATE_MODE)
        write_text(tmp_path / "shared.txt", "x", 0o640)
        write_text(tmp_path / "usual.txt", "x")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a.txt") == mode_of(tmp_path / "b.json") == 0o600
    assert mode_of(tmp_path / "shared.txt") == 0o640
    assert mode_of(tmp_path / "usual.txt") == 0o666 & ~mask
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.json", "shared.txt", "usual.txt"]
