"""The published network's deterministic weights and expected values (tests/data)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parents[1] / "data"

_spec = importlib.util.spec_from_file_location("seeded_weights", DATA / "seeded_weights.py")
assert _spec is not None
assert _spec.loader is not None
seeded_weights = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(seeded_weights)


def state_dict(seed: int) -> dict[str, torch.Tensor]:
    """Return all 723 tensors by their published names."""
    return {name: torch.from_numpy(value) for name, value in seeded_weights.state_dict(seed).items()}


def images(seed: int, count: int = 3) -> np.ndarray:
    """Return uint8 images (count, 384, 128, 3)."""
    return seeded_weights.images(seed, count)


def expected() -> dict[str, np.ndarray]:
    """Return the outputs of the authors' network for seed 20."""
    with np.load(DATA / "expected_descriptors.npz") as stored:
        return dict(stored)


def normalised(pixels: np.ndarray) -> torch.Tensor:
    """Convert uint8 (B, H, W, 3) to the trained network's input, float32 (B, 3, H, W), step by step."""
    floats = pixels.astype(np.float64) / 255
    floats = (floats - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.from_numpy(floats.transpose(0, 3, 1, 2).astype(np.float32))
