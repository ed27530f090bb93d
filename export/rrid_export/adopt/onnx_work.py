"""Adopt an ONNX file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from rrid_edge import __version__
from rrid_edge.engines import Engine
from rrid_edge.engines.onnxruntime.cpu import OnnxRuntimeEngine
from rrid_edge.errors import RridEdgeError, unforeseen
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.spec import ModelSpec
from rrid_edge.model.weights import contract_file
from rrid_export.adopt.compose import composed
from rrid_export.adopt.facts import Facts
from rrid_export.adopt.foreign import ForeignNetwork, refused
from rrid_export.adopt.graphs import dimension_of, load_network, operator_in_the_way, precision_of, prepared
from rrid_export.adopt.identity import adopted_fingerprint
from rrid_export.adopt.original import OnnxOriginal


class OnnxWork:
    """An ONNX file on its way to an adopted one.

    Args:
        network: the file.
        facts: what the network is fed.

    Attributes:
        is_ir: False.
        precision: how it stores its weights.
        identity: fingerprint of the adopted network.
        culprit: the operator that keeps it to one batch size, for messages; empty if none is found.
        dimension: values of a descriptor as far as the shapes tell; None if they do not.

    Raises:
        ModelFileError: the file is not valid ONNX, or its batch cannot be made dynamic.
    """

    is_ir = False

    def __init__(self, network: ForeignNetwork, facts: Facts) -> None:
        self._network, self._facts = network, facts
        model = load_network(network)
        with _no_surprises(network.path):
            self.precision = precision_of(model)
            self.identity = adopted_fingerprint(model, facts)
            self.culprit = operator_in_the_way(model)
            self._model = prepared(network, model, facts)
            self.dimension = dimension_of(network.path, self._model)

    def original(self) -> OnnxOriginal:
        """The untouched file, ready to run."""
        return OnnxOriginal(self._network)

    def write(self, path: Path, spec: ModelSpec) -> None:
        """Write the adopted file."""
        with _no_surprises(self._network.path):
            whole = composed(self._model, self._facts, spec.dimension)
        whole.producer_version = __version__
        path.write_bytes(contract_file(whole.SerializeToString(), spec))
        read_spec(path)

    def open(self, path: Path) -> Engine:
        """Open the written file."""
        return OnnxRuntimeEngine(path)

    def finish(self, partial: Path, target: Path, spec: ModelSpec) -> None:
        """Bring files beside it to their place: it has none."""


@contextlib.contextmanager
def _no_surprises(path: Path) -> Iterator[None]:
    """Refuse a file by name whose damage only shows when its graph is changed."""
    try:
        yield
    except (RridEdgeError, MemoryError):
        raise
    except Exception as error:  # onnx raises its own exceptions, protobuf's and Python's
        raise refused(path, f"its graph is damaged ({unforeseen(error, known=str(path))})") from error
