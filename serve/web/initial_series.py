"""Creates counters at 0 before their first event: Prometheus's `increase()` ignores the first value of a series."""

from __future__ import annotations

from typing import get_args

from serve.answering.endpoint import PREDICTION_ROUTES
from serve.errors import STATUS
from serve.policy.slot import Slot
from serve.run_folder import Kind
from serve.telemetry import metrics
from serve.telemetry.metrics_buffer import choice_label

CODES = sorted({200, *STATUS.values()})


def count_from_zero(slot: Slot) -> None:
    """Creates every series that is known by now; existing series keep their values."""
    for kind in get_args(Kind):
        metrics.REFUSED.labels(kind)
    for serving in (*slot.servings, slot.canary.serving if slot.canary else None):
        if serving is None:
            continue
        metrics.ACTIONS.labels(serving.version)
        metrics.UNUSABLE.labels(serving.version)
        for column in serving.columns:
            if not column.choices:
                metrics.SATURATED.labels(column.name)
                metrics.ACTION.labels(column.name)
            for index in range(column.choices):
                metrics.CHOICES.labels(column.name, choice_label(column, index))
        for spec in serving.predict.watched:
            metrics.OUT_OF_RANGE.labels(spec.name)
        if serving.cache is not None:
            metrics.CACHED.labels("hit")
            metrics.CACHED.labels("miss")
        for route in PREDICTION_ROUTES:
            for code in CODES:
                metrics.REQUESTS.labels(route, code, serving.version)
