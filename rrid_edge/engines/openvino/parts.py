"""Where bfloat16 ends in OpenVINO: backbone and head as two models, of which the head computes in float32.

OpenVINO takes one precision for all products of a model. The head's are 0.4 % of a ResNet-50's arithmetic, but its inputs are
pooled features, whose rounding no later sum evens out: in bfloat16 it makes half to nine tenths of the error of a descriptor
(docs/decisions/precision.md). Cut in two behind the last pooling, a ResNet-50 is 4 % slower at batch 8 and 10 % at batch 1.
"""

from __future__ import annotations

import contextlib
from typing import Any

_CUT_BEHIND = "MaxPool"
_PRODUCTS = frozenset({"Convolution", "GroupConvolution"})


def backbone_and_head(openvino: Any, model: Any) -> tuple[Any, ...]:  # noqa: ANN401 - the package has no types
    """The backbone and the head of a model, cut behind its last pooling; the model itself where that does not divide it.

    Args:
        openvino: the package.
        model: an ``openvino.Model`` of one input and one output; it must not be used any more.

    Returns:
        Two models, of which the second takes the first one's result, or the model alone.
    """
    pooled = [op for op in model.get_ordered_ops() if op.get_type_name() == _CUT_BEHIND]
    if not pooled or len(model.inputs) != 1 or len(model.outputs) != 1:
        return (model,)
    cut = pooled[-1].output(0)
    wanted = cut.get_target_inputs()
    entry = openvino.op.Parameter(cut.get_element_type(), cut.get_partial_shape())
    for target in wanted:
        target.replace_source_output(entry.output(0))
    with contextlib.suppress(RuntimeError):  # the head also reads the images: it cannot stand alone
        head = openvino.Model(model.get_results(), [entry], "head")
        if not any(op.get_type_name() in _PRODUCTS for op in head.get_ordered_ops()):
            return openvino.Model([cut], model.get_parameters(), "backbone"), head
    for target in wanted:
        target.replace_source_output(cut)
    return (model,)
