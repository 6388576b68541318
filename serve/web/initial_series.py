"""Creates counters at 0 before their first event: Prometheus's `increase()` ignores the first value of a series."""

from __future__ import annotations

from typing import get_args

from serve.answering.endpoint import PREDICTION_ROUTES
from serve.errors import STATUS
from serve.policy.slot import Slot
from serve.run_folder import Kind
from serve.telemetry import metrics
from serve.telemetry.buckets import choice_label
from serve.telemetry.version_names import VERSIONS

CODES = sorted({200, *STATUS.values()})


def count_from_zero(slot: Slot) -> None:
    """Creates every series that is known by now; existing series keep their values."""
    for kind in get_args(Kind):
        metrics.REFUSED.labels(kind)
    for serving in (*slot.servings, slot.canary.serving if slot.canary else None):
        if serving is None:
            continue
        version = VERSIONS.label(serving.version)
        metrics.ACTIONS.labels(version)
        metrics.UNUSABLE.labels(version)
        metrics.FALLBACKS.labels("deadline_exceeded", version)
        for part in metrics.PARTS:
            metrics.LATENCY.labels(part, version)
        for column in serving.columns:
            if not column.choices:
                metrics.SATURATED.labels(column.name, version)
                metrics.ACTION.labels(column.name, version)
            for index in range(column.choices):
                metrics.CHOICES.labels(column.name, choice_label(column, index), version)
        for spec in serving.predict.watched:
            metrics.OUT_OF_RANGE.labels(spec.name, version)
        if serving.cache is not None:
            metrics.CACHED.labels("hit")
            metrics.CACHED.labels("miss")
        for route in PREDICTION_ROUTES:
            for code in CODES:
                metrics.REQUESTS.labels(route, code, version)
