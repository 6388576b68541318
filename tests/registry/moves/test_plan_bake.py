"""The bar of an alarm with x, by what was counted of the version that is displaced."""

from __future__ import annotations

import pytest

from carla_mlflow.errors import RefusedError
from registry.checks.scrape import parse
from registry.moves.plan_bake import bar_of
from registry.rules.alarms import parse_alarm
from registry.rules.counted import Counted


def counted(actions: int, saturated: int = 0) -> Counted:
    lines = [
        "# TYPE policy_actions_total counter",
        f'policy_actions_total{{version="0.1.0"}} {actions}',
        "# TYPE policy_saturated_total counter",
        f'policy_saturated_total{{dimension="steer",version="0.1.0"}} {saturated}',
        "# TYPE policy_latency_seconds histogram",
        f'policy_latency_seconds_bucket{{le="0.01",part="total",version="0.1.0"}} {actions}',
        f'policy_latency_seconds_bucket{{le="+Inf",part="total",version="0.1.0"}} {actions}',
    ]
    return Counted(parse("\n".join(lines) + "\n").samples, "0.1.0")


@pytest.mark.parametrize(("text", "is_above"), [("saturation>2x", True), ("saturation<0.5x", False)])
def test_little_data_makes_a_bar_more_lenient_and_never_sharper(text: str, is_above: bool):
    alarm = parse_alarm(text)
    few, many = (bar_of(alarm, counted(500 * n, 50 * n), "0.1.0").value / alarm.number for n in (1, 1000))
    assert (few > many > 0.1) if is_above else (few < many < 0.1)
    assert many == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(("metric", "needed"), [("p50_ms", 60), ("p90_ms", 300), ("p99_ms", 3000), ("saturation", 30)])
def test_a_quantile_needs_as_many_requests_as_have_thirty_beyond_it(metric: str, needed: int):
    alarm = parse_alarm(f"{metric}>0.5x")
    with pytest.raises(
        RefusedError, match=f"counted {needed - 1:,} of 0.1.0 in the last half hour, and {needed:,} are"
    ):
        bar_of(alarm, counted(needed - 1, 1), "0.1.0")
    assert bar_of(alarm, counted(needed, 1), "0.1.0").value > 0
