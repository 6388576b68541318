"""The names of the figures that cards and MLflow runs hold of a policy's driving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED = {"whole_rate": "success_rate", "steer_jerk_mean": "steer_acceleration_mean"}
"""Names in cards and runs of earlier releases → names now."""


def with_new_names(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures as a card has them, under today's names whichever release wrote them."""
    return {RENAMED.get(name, name): value for name, value in figures.items()}
