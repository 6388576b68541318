"""Alarms of a bake, as people type them: METRIC OP NUMBER[x], such as fallback_rate>0.01 or saturation>2x. Pure.

METRIC is one of METRICS, for some with a dot and one of several things that are measured (saturation.steer). OP is >
or <. With an x, the bar is that many times the figure of the version that is displaced.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from carla_mlflow.errors import RefusedError

METRICS = {
    "fallback_rate": "share of predictions that got the card's fallback",
    "error_rate": "share of predictions that the server failed to answer, by 500 or 503",
    "unusable_rate": "share of predictions for which the policy gave no usable action",
    "saturation": "share of values given at a bound; saturation.steer: of one dimension",
    "out_of_range": "values outside what training saw, an observation; out_of_range.speed: of one field",
    "p50_ms": "median of the latency, milliseconds; p50_ms.inference: of one part (queue, decode, inference)",
    "p90_ms": "as p50_ms, exceeded by one prediction in ten",
    "p99_ms": "as p50_ms, exceeded by one prediction in a hundred",
}
SHARES = ("fallback_rate", "error_rate", "unusable_rate", "saturation")
"""Metrics that lie between 0 and 1."""
PARTIAL = ("saturation", "out_of_range", "p50_ms", "p90_ms", "p99_ms")
"""Metrics of which one of several things can be named."""
PARTS = ("queue", "decode", "inference", "total")
QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}
EXPECTED = "expected METRIC OP NUMBER[x] such as fallback_rate>0.01, saturation>2x or p99_ms>10"
MAX_ALARMS = 20

_ALARM = re.compile(r"(?P<metric>\w+)(?:\.(?P<of>[^<>=\s]+))?\s*(?P<op>[<>])\s*(?P<number>\d+(?:\.\d+)?)(?P<x>x?)")


@dataclass(frozen=True)
class Alarm:
    """One condition under which a version is rolled back.

    Attributes:
        metric: one of METRICS.
        of: the dimension, field or part; empty for all together.
        is_above: whether it fires above its bar; else below.
        number: the bar, or how many times the displaced version's figure it is.
        is_relative: whether it is the latter.
    """

    metric: str
    of: str
    is_above: bool
    number: float
    is_relative: bool

    def __str__(self) -> str:
        return f"{self.name}{'>' if self.is_above else '<'}{self.number:g}{'x' if self.is_relative else ''}"

    @property
    def name(self) -> str:
        """The metric, with what of it is meant."""
        return f"{self.metric}.{self.of}" if self.of else self.metric


class Bar(msgspec.Struct, frozen=True):
    """An alarm of a bake with the value at which it fires.

    Attributes:
        alarm: as `parse_alarm` reads it.
        value: in the metric's own unit.
        of_displaced: the displaced version's figure before the move, in words; empty for an alarm without x.
    """

    alarm: str
    value: float
    of_displaced: str = ""


def parse_alarm(text: str) -> Alarm:
    """Parses an alarm.

    Raises:
        RefusedError: the text is none, or it can never fire; says what is expected.
    """
    found = _ALARM.fullmatch(text.strip())
    if found is None:
        raise RefusedError(f"{text!r} is no alarm; {EXPECTED}")
    metric, of = found["metric"], found["of"] or ""
    if metric not in METRICS:
        raise RefusedError(f"{text!r}: there is no metric {metric}; there are {', '.join(METRICS)}")
    if of and metric not in PARTIAL:
        raise RefusedError(f"{text!r}: {metric} is one figure, of which {of} is no part")
    if metric in QUANTILES and of and of not in PARTS:
        raise RefusedError(f"{text!r}: {of} is no part of the latency; there are {', '.join(PARTS)}")
    alarm = Alarm(metric, of, found["op"] == ">", float(found["number"]), bool(found["x"]))
    if not alarm.is_relative:
        check_bar(alarm, alarm.number)
    elif alarm.number == 0:
        raise RefusedError(f"{text!r}: 0 times a figure is 0; write it without x")
    return alarm


def check_bar(alarm: Alarm, value: float) -> None:
    """Raises RefusedError when an alarm with its bar at `value` can never fire."""
    if alarm.metric in SHARES and alarm.is_above and value >= 1:
        raise RefusedError(f"{alarm} can never fire: {alarm.metric} is a share, and {value:.3g} is not below 1")
    if value == 0 and not alarm.is_above:
        raise RefusedError(f"{alarm} can never fire: nothing is below 0")


def parse_alarms(texts: list[str]) -> list[Alarm]:
    """Parses the alarms of one bake.

    Raises:
        RefusedError: there are none, too many, or one of them is wrong.
    """
    if not texts:
        raise RefusedError(f"a bake without an alarm would end well in any case: add --alarm, {EXPECTED}")
    if len(texts) > MAX_ALARMS:
        raise RefusedError(f"{len(texts)} alarms; at most {MAX_ALARMS}")
    return [parse_alarm(text) for text in texts]
