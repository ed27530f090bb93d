"""How far crops lie from the statistics of the training images that a network stores.

Batch normalisation stores mean and variance of its input during training (Ioffe and Szegedy, ICML 2015). Exporters fold
it into the convolution before it: then the bias brings the mean of each output channel near 0, because the shift that
the layer learns is small beside its scale. No label is needed. Layers that a wrong order of channels does not disturb
have the same distance for both orders.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from rrid_edge.engines.onnxruntime.cpu import import_onnxruntime
from rrid_edge.errors import ModelFileError
from rrid_edge.model.names import Kind, kind_of
from rrid_export.adopt.facts import Facts
from rrid_export.adopt.foreign import ForeignNetwork
from rrid_export.adopt.graphs import load_network
from rrid_export.adopt.original import original_descriptors

_OTHERS: Final = ("GroupNormalization", "InstanceNormalization", "LayerNormalization")
"""With these in the graph, convolutions with a bias need not be folded ones."""
_EPSILON: Final = 1e-5
_AT_A_TIME: Final = 32
"""Images per step, as in a trial."""
_PREFIX: Final = "rrid_edge_statistics"


@dataclass(frozen=True)
class _Layer:
    """One place where statistics are known.

    Attributes:
        tap: output with its values, (N, channels) or (N, channels, ...).
        stored: outputs with the stored mean and variance; empty if they are folded, and 0 and 1.
        epsilon: what is added to the variance.
    """

    tap: str
    stored: tuple[str, ...] = ()
    epsilon: float = 0.0


class StoredStatistics:
    """The original network, with the channel means of its normalised layers as its output.

    It is an :class:`rrid_export.adopt.original.Original`, whose output has a column per channel of each layer.

    Attributes:
        name: name for reports.
        batch: images per call.
        dtype: element type of its input.
    """

    name = "the layers of the original"

    def __init__(self, network: ForeignNetwork, session: Any, layers: list[_Layer]) -> None:  # noqa: ANN401 - untyped
        self.batch, self.dtype = network.fixed_batch or 1, network.input.dtype
        self._input, self._session, self._layers = network.input.name, session, layers
        self._stored: list[list[NDArray[np.float64]]] = []
        self._widths: list[int] = []

    @classmethod
    def of(cls, network: ForeignNetwork) -> StoredStatistics | None:
        """The statistics of a network; None if its graph has none, or is an OpenVINO IR."""
        if kind_of(network.path) is Kind.IR:
            return None
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        try:
            model = load_network(network)
            layers = _tapped(model.graph)
            session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception:  # the runtime's classes are not public, and the other measures do without
            return None
        return cls(network, session, layers) if layers else None

    def run(self, fed: NDArray[Any]) -> NDArray[Any]:
        """Means over the pixels of each channel for one batch: (``batch``, channels of all layers).

        Raises:
            ModelFileError: the runtime cannot compute them.
        """
        names = [name for layer in self._layers for name in (layer.tap, *layer.stored)]
        try:
            values = dict(zip(names, self._session.run(names, {self._input: fed}), strict=True))
        except Exception as error:
            raise ModelFileError(f"the layers cannot be run ({error})") from error
        taps = [values[layer.tap] for layer in self._layers]
        self._stored = [[values[name].astype(np.float64) for name in layer.stored] for layer in self._layers]
        self._widths = [tap.shape[1] for tap in taps]
        return np.concatenate([tap.reshape(*tap.shape[:2], -1).mean(2, np.float64) for tap in taps], axis=1)

    def refused(self, reason: str) -> ModelFileError:
        """The error for layers that give no statistics."""
        return ModelFileError(f"{self.name}: {reason}")

    def distances(self, images: NDArray[np.uint8], facts: Facts) -> NDArray[np.float64] | None:
        """Distance of the images from the stored statistics, per layer.

        It is the mean over channels of (mean of the images - stored mean)^2 / stored variance.

        Args:
            images: uint8 (N, height, width, 3), RGB.
            facts: what the network is fed.

        Returns:
            float64 (layers,); None if a value is not finite, or the layers cannot be run.
        """
        raw = replace(facts, flip=False, preprocessing=replace(facts.preprocessing, normalise="none"))
        try:
            with np.errstate(invalid="ignore", over="ignore"):
                parts = [images[start : start + _AT_A_TIME] for start in range(0, len(images), _AT_A_TIME)]
                means = np.concatenate([original_descriptors(self, part, raw) for part in parts]).mean(axis=0)
        except ModelFileError:
            return None
        found = []
        for own, layer, stored in zip(
            np.split(means, np.cumsum(self._widths)[:-1]), self._layers, self._stored, strict=True
        ):
            mean, variance = stored or (np.zeros(1), np.ones(1))
            found.append(float(np.mean((own - mean) ** 2 / (variance + layer.epsilon))))
        return np.array(found) if np.isfinite(found).all() else None


def _tapped(graph: Any) -> list[_Layer]:  # noqa: ANN401 - a protobuf message
    """Add outputs to a graph for each layer with statistics; the graph's own outputs go."""
    makers = {name: node.op_type for node in graph.node for name in node.output}
    normalised = {node.input[0] for node in graph.node if node.op_type == "BatchNormalization"}
    folded = all(node.op_type not in _OTHERS for node in graph.node)
    layers, added = [], []
    for number, node in enumerate(graph.node):
        names = [f"{_PREFIX}_{number}_{part}" for part in ("tap", "mean", "variance")]
        if node.op_type == "BatchNormalization":
            pooled = makers.get(node.input[0]) == "Conv"
            added.append(helper.make_node("GlobalAveragePool" if pooled else "Identity", node.input[:1], names[:1]))
            added += [helper.make_node("Identity", [node.input[3 + k]], [names[1 + k]]) for k in (0, 1)]
            epsilon = next((item.f for item in node.attribute if item.name == "epsilon"), _EPSILON)
            layers.append(_Layer(names[0], tuple(names[1:]), epsilon))
        elif node.op_type == "Conv" and folded and len(node.input) == 3 and node.output[0] not in normalised:
            added.append(helper.make_node("GlobalAveragePool", node.output[:1], names[:1]))
            layers.append(_Layer(names[0]))
    graph.node.extend(added)
    del graph.output[:]
    graph.output.extend(helper.make_empty_tensor_value_info(name) for node in added for name in node.output)
    return layers
