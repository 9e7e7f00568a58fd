"""What the three whole programs share: data of MNIST's kind and size, and the search they make."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FEATURES, WIDTH, CLASSES = 784, 64, 10
MEMBERS, STEPS, EVERY, BATCH = 16, 200, 50, 64
LOW, HIGH = 1e-4, 1e-2
TRAIN, VALID = 4000, 1000


class Split(NamedTuple):
    """Inputs `[n, 784]` float32 and classes `[n]` int64."""

    x: np.ndarray
    y: np.ndarray


def make_data() -> tuple[Split, Split]:
    """Training and validation examples: ten noisy prototypes of 784 pixels, the same every time."""
    rng = np.random.default_rng(0)
    prototypes = rng.uniform(size=(CLASSES, FEATURES)).astype(np.float32)
    y = rng.integers(0, CLASSES, TRAIN + VALID)
    x = prototypes[y] + 2.0 * rng.standard_normal((len(y), FEATURES), np.float32)
    return Split(x[:TRAIN], y[:TRAIN]), Split(x[TRAIN:], y[TRAIN:])
