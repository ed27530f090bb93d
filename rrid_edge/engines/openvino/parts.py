"""Split a model into backbone and head, so that OpenVINO computes the head in float32 and the backbone in bfloat16.

OpenVINO takes one precision per model. In bfloat16 the head causes 50 to 90 % of a descriptor's error, at 0.4 % of a
ResNet-50's arithmetic. The split costs 4 % of the latency at batch 8 and 10 % at batch 1 (docs/decisions/precision.md).
The head of an adopted network is what stands behind its own output: mean of the views and unit length.
"""

from __future__ import annotations

import contextlib
from typing import Any

_CUT_BEHIND = "MaxPool"
_PRODUCTS = frozenset({"Convolution", "GroupConvolution"})


def backbone_and_head(openvino: Any, model: Any, behind: str | None = None) -> tuple[Any, ...]:  # noqa: ANN401 - no types
    """Split a model after its last pooling, or after a tensor.

    Args:
        openvino: the package.
        model: an ``openvino.Model``; do not use it afterwards.
        behind: name of the tensor to split after; None means the last MaxPool's output.

    Returns:
        Backbone and head, or the model alone if it cannot be split there.
    """
    outputs = [output for op in model.get_ordered_ops() for output in op.outputs()]
    places = [output for output in outputs if _is_place(output, behind)]
    if not places or len(model.inputs) != 1 or len(model.outputs) != 1:
        return (model,)
    cut = places[-1]
    wanted = cut.get_target_inputs()
    entry = openvino.op.Parameter(cut.get_element_type(), cut.get_partial_shape())
    for target in wanted:
        target.replace_source_output(entry.output(0))
    with contextlib.suppress(RuntimeError):  # the head also reads the images and cannot be split off
        head = openvino.Model(model.get_results(), [entry], "head")
        if not any(op.get_type_name() in _PRODUCTS for op in head.get_ordered_ops()):
            return openvino.Model([cut], model.get_parameters(), "backbone"), head
    for target in wanted:
        target.replace_source_output(cut)
    return (model,)


def _is_place(output: Any, behind: str | None) -> bool:  # noqa: ANN401 - as above
    if behind is not None:
        return behind in output.get_names()
    return bool(output.get_index() == 0 and output.get_node().get_type_name() == _CUT_BEHIND)
