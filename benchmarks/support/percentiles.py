"""The median and the p99 of what was measured, as every benchmark prints them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[np.float64]


def median(values: Values) -> float:
    """NaN for none."""
    return _quantile(values, 0.5)


def p99(values: Values) -> float:
    """NaN for none."""
    return _quantile(values, 0.99)


def _quantile(values: Values, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else float("nan")
