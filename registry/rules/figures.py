"""A version's figures by what servers counted of it: each metric of an alarm as events among trials. Pure.

A quantile is judged as a share, too: p99_ms lies above 10 ms when more than one prediction in a hundred took longer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from registry.rules.alarms import METRICS, QUANTILES, SHARES
from registry.rules.counted import Counted

LATENCY = "policy_latency_seconds"
SERVER_ERRORS = ("500", "503")
PREDICTION_ROUTES = ("/predict", "/invocations", "/v2/models/{name}/infer")
"""As metrics name them; a probe that is answered 503 is no prediction."""
MIN_TRIALS = 30
"""Fewer predictions, observations or values tell nothing."""
SPREAD = {"saturation": 16.0, "out_of_range": 64.0, "fallback_rate": 4.0, "error_rate": 4.0, "unusable_rate": 4.0}
"""How many times as much as independent events these vary: a car's next action is like its last one, so that what is
saturated or out of range comes in runs, as do late answers. See docs/adr/0020 for the measurements."""
LATENCY_SPREAD = 16.0


@dataclass(frozen=True)
class Share:
    """How often something happened.

    Attributes:
        events: how often it happened.
        trials: how often it might have.
        spread: how many times as much as independent events it varies.
    """

    events: float
    trials: float
    spread: float = 1.0

    def __add__(self, other: Share) -> Share:
        return Share(self.events + other.events, self.trials + other.trials, self.spread)

    @property
    def value(self) -> float | None:
        """Events a trial; None without a trial."""
        return self.events / self.trials if self.trials else None

    def bound(self, z: float) -> float:
        """The end of the share's interval, `z` standard errors above it, or below where that is negative.

        Wilson's score interval (Journal of the American Statistical Association 22, 1927), of as many independent
        trials as these are worth; where events outnumber trials, that of a Poisson distribution by its square root.
        """
        trials, share = self.trials / self.spread, self.events / self.trials
        if share in (0.0, 1.0) and (share == 1.0) == (z > 0):
            return share  # exactly: sums of floats round
        if share > 1:
            root = math.sqrt(self.events / self.spread) + z / 2
            return max(root, 0.0) ** 2 / trials
        middle = share + z * z / (2 * trials)
        width = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
        return max(middle + width, 0.0) / (1 + z * z / trials)


def measure(metric: str, of: str, counted: Counted) -> Share | float | None:
    """A metric's figure: a share of events, or a quantile in milliseconds; None where nothing was counted."""
    if metric in QUANTILES:
        return quantile_ms(counted, of or "total", QUANTILES[metric])
    share = events_of(metric, of, counted, 0.0)
    return share if share.trials else None


def events_of(metric: str, of: str, counted: Counted, bar: float) -> Share:
    """A metric as events among trials.

    Args:
        metric: one of METRICS.
        of: its dimension, field or part; empty for all together.
        counted: of the version.
        bar: for a quantile, the milliseconds above which a prediction counts as an event.
    """
    if metric in QUANTILES:
        above, count = above_ms(counted, of or "total", bar)
        return Share(above, count, LATENCY_SPREAD)
    spread = SPREAD[metric]
    if metric == "saturation":
        names = _names(counted, "policy_saturated_total", "dimension", of)
        events = sum(counted.total("policy_saturated_total", dimension=name) for name in names)
        return Share(events, counted.total("policy_actions_total") * len(names), spread)
    if metric == "out_of_range":
        names = _names(counted, "policy_out_of_range_total", "field", of)
        events = sum(counted.total("policy_out_of_range_total", field=name) for name in names)
        return Share(events, counted.total("policy_actions_total") if names else 0.0, spread)
    fallbacks = counted.total("policy_fallbacks_total")
    errors = sum(
        counted.total("policy_requests_total", route=route, code=code)
        for route in PREDICTION_ROUTES
        for code in SERVER_ERRORS
    )
    predictions = counted.total(f"{LATENCY}_count", part="decode") + fallbacks + errors
    unusable = counted.total("policy_unusable_actions_total")
    events = {"fallback_rate": fallbacks, "error_rate": errors, "unusable_rate": unusable}[metric]
    return Share(min(events, predictions), predictions, spread)


def _names(counted: Counted, counter: str, label: str, of: str) -> list[str]:
    """What a counter tells apart, or of that the one that is asked for: none where servers do not count it.

    Servers count everything from 0, so that what never happened is there, too.
    """
    return [name for name in counted.names(counter, label) if of in ("", name)]


def limit(metric: str, bar: float) -> float:
    """The share of events at which a metric's bar lies."""
    return 1 - QUANTILES[metric] if metric in QUANTILES else bar


def above_ms(counted: Counted, part: str, bar: float) -> tuple[float, float]:
    """How many predictions took longer than `bar` milliseconds, and how many there are.

    Within a bucket of the histogram they are taken to be spread evenly.
    """
    buckets = counted.buckets(LATENCY, part=part)
    if not buckets:
        return 0.0, 0.0
    total = buckets[-1][1]
    return total - _at_most(buckets, bar / 1e3), total


def _at_most(buckets: Sequence[tuple[float, float]], value: float) -> float:
    low, before = 0.0, 0.0
    for bound, count in buckets:
        if value <= bound * (1 + 1e-9):
            if math.isinf(bound):
                return before
            return before + (count - before) * min((value - low) / (bound - low), 1.0)
        low, before = bound, count
    return before


def quantile_ms(counted: Counted, part: str, quantile: float) -> float | None:
    """A quantile of the latency in milliseconds, as Prometheus estimates it; None without any."""
    buckets = counted.buckets(LATENCY, part=part)
    if not buckets or not buckets[-1][1]:
        return None
    rank, low, before = quantile * buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if count >= rank and count > before:
            return 1e3 * (low if math.isinf(bound) else low + (bound - low) * (rank - before) / (count - before))
        low, before = bound, count
    return 1e3 * low


def figures(counted: Counted) -> dict[str, float | None]:
    """Every metric of a version, also by dimension and field; a rate is a share, a latency in milliseconds."""
    names = [(metric, "") for metric in METRICS]
    names += [("saturation", name) for name in counted.names("policy_saturated_total", "dimension")]
    names += [("out_of_range", name) for name in counted.names("policy_out_of_range_total", "field")]
    names += [("p99_ms", part) for part in ("queue", "inference")]
    found: dict[str, float | None] = {}
    for metric, of in names:
        figure = measure(metric, of, counted)
        found[f"{metric}.{of}" if of else metric] = figure.value if isinstance(figure, Share) else figure
    return found


def say_value(metric: str, value: float | None) -> str:
    """A metric's figure as text: a share in percent."""
    if value is None:
        return "-"
    if metric.partition(".")[0] in SHARES:
        return f"{100 * value:.3g} %"
    return f"{value:.3g} ms" if metric.partition(".")[0] in QUANTILES else f"{value:.3g}"


def say_share(metric: str, share: Share) -> str:
    """A figure with the numbers that it was counted from."""
    numbers = f"{share.events:,.0f} of {share.trials:,.0f}"
    if metric in QUANTILES:
        return f"{100 * (share.value or 0.0):.3g} % took longer ({numbers})"
    return f"{say_value(metric, share.value)} ({numbers})"
