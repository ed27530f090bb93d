"""Whether tensors fit a network, before they are loaded into it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rrid_edge.errors import CheckpointError


def load_exactly(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Load ``state`` into ``model``. All names and shapes must agree; only ``num_batches_tracked`` may be missing.

    Raises:
        CheckpointError: tensors are missing, unknown, of another shape or type, or hold values that are not finite. The
            message names the first of each kind and their number.
    """
    check_fit(model, state, where=where)
    model.load_state_dict(dict(state), strict=False)


def check_fit(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Refuse a state that :func:`load_exactly` cannot load. The model's own values are not looked at.

    Raises:
        CheckpointError: as :func:`load_exactly`.
    """
    expected = model.state_dict()
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    extra = [name for name in state if name not in expected]
    known = {name: tensor for name, tensor in state.items() if name in expected}
    misshapen = [name for name, tensor in known.items() if tensor.shape != expected[name].shape]
    mistyped = [name for name, tensor in known.items() if not _fits(tensor.dtype, expected[name].dtype)]
    infinite = [name for name, tensor in known.items() if name not in mistyped and not bool(tensor.isfinite().all())]
    faults = [
        f"{len(names)} {kind} (first: {names[0]!r})"
        for kind, names in (
            ("missing", missing),
            ("unknown", extra),
            ("of another shape", misshapen),
            ("of another type", mistyped),
            ("with NaN or infinity", infinite),
        )
        if names
    ]
    if faults:
        raise CheckpointError(
            f"{where}: the tensors do not fit the network: {', '.join(faults)}; give one complete checkpoint, as "
            "rrid-edge train or the published training writes it"
        )


def _fits(found: torch.dtype, expected: torch.dtype) -> bool:
    """Whether values of a type can be loaded: real numbers, and floating-point ones where the network has these."""
    return found.is_floating_point or not (expected.is_floating_point or found.is_complex or found == torch.bool)
