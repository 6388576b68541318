"""The shadow's metrics, made of its report: nothing that its process does to itself can damage those of the workers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from serve.telemetry.shadow_report import DIFFERENCES, Distribution, ShadowReport, read_shadow


class ShadowMetrics(Collector):
    """Metrics of the shadow; none where the server has no shadow."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the server's run folder."""
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics."""
        shadow = read_shadow(self._folder)
        if shadow is None:
            return
        report = shadow.report
        up = "Whether the shadow runs and compares its policy's actions with those that are given."
        yield GaugeMetricFamily("policy_shadow_up", up, shadow.is_up)
        skipped = CounterMetricFamily(
            "policy_shadow_skipped", "Observations that the shadow could not compare.", labels=("reason",)
        )
        for reason, rows in sorted(report.skipped.items()):
            skipped.add_metric((reason,), rows)
        yield skipped
        if report.version:
            yield from _of_version(report)


def _of_version(report: ShadowReport) -> Iterator[Metric]:
    version, counts = (report.version,), report.counts
    for name, text, count in (
        ("rows", "Observations on which the shadow's action was compared with the one that was given.", counts.rows),
        ("brake_disagreement", "Of those, where one brakes and the other accelerates.", counts.brake_disagreements),
        ("disagreement", "Of those, where the two disagree as the gate `shadow` means it.", counts.disagreements),
    ):
        family = CounterMetricFamily(f"policy_shadow_{name}", text, labels=("version",))
        family.add_metric(version, count)
        yield family
    difference = HistogramMetricFamily(
        "policy_shadow_difference",
        "How much the shadow's action differs from the one that was given; of a choice 0 or 1.",
        labels=("dimension", "version"),
    )
    for dimension, distribution in sorted(counts.differences.items()):
        difference.add_metric((dimension, *version), _buckets(distribution), distribution.sum)
    yield difference


def _buckets(distribution: Distribution) -> list[tuple[str, float]]:
    bounds = [*map(floatToGoString, DIFFERENCES), "+Inf"]
    return list(zip(bounds, map(float, itertools.accumulate(distribution.counts)), strict=True))
