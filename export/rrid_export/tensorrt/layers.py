"""Layers of a parsed network: their tensors, and the tail before the output, which contains the L2 norm."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorrt as trt


def layers_of(network: trt.INetworkDefinition) -> Iterator[trt.ILayer]:
    """All layers of a network, in its order."""
    for index in range(network.num_layers):
        yield network.get_layer(index)


def inputs_of(layer: trt.ILayer) -> Iterator[trt.ITensor]:
    """The tensors that a layer reads. Inputs that are left out are passed over."""
    for index in range(layer.num_inputs):
        tensor = layer.get_input(index)
        if tensor is not None:
            yield tensor


def outputs_of(layer: trt.ILayer) -> Iterator[trt.ITensor]:
    """The tensors that a layer computes."""
    for index in range(layer.num_outputs):
        yield layer.get_output(index)


def producers_of(network: trt.INetworkDefinition) -> dict[str, trt.ILayer]:
    """Tensor name -> the layer that computes it."""
    return {tensor.name: layer for layer in layers_of(network) for tensor in outputs_of(layer)}


def tail_layers(network: trt.INetworkDefinition, ends: Collection[object]) -> Iterator[trt.ILayer]:
    """Layers from the output back to those of the types ``ends``, which are left out.

    In an fp16 ONNX the tail ends at the cast back to float32; in an int8 ONNX at the last convolutions and
    dequantisations. A layer of several outputs comes once per output that is read.
    """
    producers = producers_of(network)
    pending = [network.get_output(index).name for index in range(network.num_outputs)]
    while pending:
        layer = producers.pop(pending.pop(), None)
        if layer is None or layer.type in ends:
            continue
        yield layer
        pending += [tensor.name for tensor in inputs_of(layer)]
