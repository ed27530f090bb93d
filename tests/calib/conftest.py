"""The model that the tests of calibration read."""

from __future__ import annotations

from pathlib import Path

import pytest

from rrid_export.branch import InferenceBranch
from rrid_export.onnx import export_onnx
from rrid_export.source import SourceNetwork
from support.networks import narrow_network
from support.sharing import made_once


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the ONNX file of the narrow network. All workers share it, so tests only read it."""
    return made_once(tmp_path_factory, "narrow-export", _export_narrow_network) / "rrid.onnx"


def _export_narrow_network(folder: Path) -> None:
    source = SourceNetwork(narrow_network(), folder / "narrow.pth", "ab", "nothing")
    export_onnx(InferenceBranch(source.model).eval(), source.spec(), folder / "rrid.onnx")
