"""Model files that travel to the machines of a cluster."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.engines.base import Engine
from rrid_edge.model.names import Kind, kind_of


@dataclass(frozen=True)
class ShippedModel:
    """Opens an engine from a model file that travels with the work, where the machine has no such file.

    Attributes:
        path: of the file on the machine that starts the run.
        content: of the file; None for engines, which belong to one kind of GPU, and for OpenVINO IRs of several
            files: they must lie on each machine.
        open_file: opens an engine from a file.
    """

    path: str
    content: bytes | None
    open_file: Callable[[Path], Engine]

    @classmethod
    def of(cls, path: Path, open_file: Callable[[Path], Engine]) -> ShippedModel:
        """The shipped form of a model file."""
        return cls(str(path.resolve()), path.read_bytes() if kind_of(path) is Kind.ONNX else None, open_file)

    def __call__(self) -> Engine:
        """Open the engine.

        Raises:
            RridEdgeError: the runtime is not installed, or the file does not fit this machine.
        """
        here = Path(self.path)
        if self.content is None or (here.is_file() and here.read_bytes() == self.content):
            return self.open_file(here)
        name = hashlib.sha256(self.content).hexdigest()[:16]
        with tempfile.TemporaryDirectory(prefix=f"rrid-edge-{name}-") as folder:
            copy = Path(folder) / here.name
            copy.write_bytes(self.content)
            return self.open_file(copy)
