"""How much counters grew between two looks, and a version's figures by that."""

from __future__ import annotations

import math

import pytest

from benchmarks.support.free_port import free_port
from carla_mlflow.errors import ServerError, UnreachableError
from registry.checks.scrape import parse, scrape
from registry.rules.counted import Counted, Scrape, added, growth
from registry.rules.figures import PREDICTION_ROUTES, Share, above_ms, events_of, figures, measure, quantile_ms
from serve.answering import endpoint

TEXT = """\
# TYPE policy_actions_total counter
policy_actions_total{{version="0.2.0"}} {actions}
# TYPE policy_saturated_total counter
policy_saturated_total{{dimension="steer",version="0.2.0"}} {steer}
policy_saturated_total{{dimension="throttle",version="0.2.0"}} {throttle}
# TYPE process_start_time_seconds gauge
process_start_time_seconds {started}
"""


def scraped(actions: float, steer: float = 0.0, throttle: float = 0.0, started: float = 1.0) -> Scrape:
    return parse(TEXT.format(actions=actions, steer=steer, throttle=throttle, started=started))


def actions(before: Scrape | None, now: Scrape) -> float:
    return Counted(growth(before, now), "0.2.0").total("policy_actions_total")


def test_a_server_that_is_not_there_is_told_as_by_the_client():
    port = free_port()
    with pytest.raises(UnreachableError, match=f"127.0.0.1:{port}: no answer: nothing listens there; is carla-serve"):
        scrape(f"http://127.0.0.1:{port}")


def test_between_two_looks_counts_what_was_added():
    assert actions(scraped(100), scraped(130)) == 30
    assert actions(scraped(100), scraped(100)) == 0


def test_the_first_look_counts_nothing():
    assert actions(None, scraped(100)) == 0


def test_a_server_that_was_started_again_counts_from_nothing():
    assert actions(scraped(100), scraped(130, started=2.0)) == 130
    assert actions(scraped(100), scraped(7)) == 7  # it does not tell when it was started


def test_a_version_that_was_not_there_before_counts_from_the_next_look_on():
    before = Scrape({}, 1.0)
    assert actions(before, scraped(5_000)) == 0


def test_a_counter_that_a_known_version_has_for_the_first_time_counts_from_nothing():
    before, key = scraped(100), ("policy_fallbacks_total", frozenset({("reason", "late"), ("version", "0.2.0")}))
    now = Scrape({**scraped(130).samples, key: 4.0}, before.started)
    assert Counted(growth(before, now), "0.2.0").total("policy_fallbacks_total") == 4


def test_what_several_servers_counted_is_added():
    parts = [growth(scraped(0), scraped(30)), growth(scraped(10), scraped(15))]
    assert Counted(added(parts), "0.2.0").total("policy_actions_total") == 35


def test_another_versions_counts_are_not_its_own():
    counted = Counted(scraped(100, 10).samples, "0.1.0")
    assert figures(counted)["saturation"] is None


def test_saturation_is_the_share_of_all_values_or_of_one_dimension():
    counted = Counted(scraped(100, steer=50, throttle=10).samples, "0.2.0")
    assert figures(counted)["saturation"] == 0.3
    assert figures(counted)["saturation.steer"] == 0.5
    counted = Counted(scraped(100, steer=50).samples, "0.2.0")
    assert measure("saturation", "throttle", counted) == Share(0.0, 100.0, 16.0)


FIELDS = """\
# TYPE policy_out_of_range_total counter
policy_out_of_range_total{field="speed",version="0.2.0"} 40
policy_out_of_range_total{field="steering",version="0.2.0"} 0
"""


def test_values_out_of_range_are_counted_an_observation_of_all_fields_or_of_one():
    counted = Counted(parse(TEXT.format(actions=100, steer=0, throttle=0, started=1.0) + FIELDS).samples, "0.2.0")
    found = figures(counted)
    assert (found["out_of_range"], found["out_of_range.speed"], found["out_of_range.steering"]) == (0.4, 0.4, 0.0)


@pytest.mark.parametrize(("metric", "of"), [("saturation", "stear"), ("out_of_range", "sped"), ("out_of_range", "")])
def test_what_servers_do_not_count_has_no_figure(metric: str, of: str):
    assert measure(metric, of, Counted(scraped(100, steer=50).samples, "0.2.0")) is None


REQUESTS = """\
# TYPE policy_requests_total counter
policy_requests_total{{code="503",route="{route}",version="0.2.0"}} 50
# TYPE policy_latency_seconds histogram
policy_latency_seconds_count{{part="decode",version="0.2.0"}} 150
# TYPE policy_fallbacks_total counter
policy_fallbacks_total{{reason="late",version="0.2.0"}} 50
# TYPE policy_unusable_actions_total counter
policy_unusable_actions_total{{version="0.2.0"}} 50
"""


@pytest.mark.parametrize(
    ("route", "errors", "others"),
    [(route, 0.2, 0.2) for route in PREDICTION_ROUTES]
    + [(route, 0.0, 0.25) for route in ("/readyz", "/v2/health/ready", "/metrics", "unknown")],
)
def test_rates_are_shares_of_predictions_and_a_probe_is_none(route: str, errors: float, others: float):
    found = figures(Counted(parse(REQUESTS.format(route=route)).samples, "0.2.0"))
    assert (found["error_rate"], found["fallback_rate"], found["unusable_rate"]) == (errors, others, others)


def test_the_routes_of_predictions_are_those_that_servers_count():
    assert PREDICTION_ROUTES == endpoint.PREDICTION_ROUTES


@pytest.mark.parametrize(
    "text", ["<html>", "", "up 1", "policy_x_total 1 2 3 4", '# TYPE policy_a counter\npolicy_a_total{version="1"} NaN']
)
def test_what_is_no_policy_server_is_told(text: str):
    with pytest.raises(ServerError, match="is no policy server"):
        parse(text, "http://somewhere")


def latency(counts: dict[str, int]) -> Counted:
    total, lines = 0, ["# TYPE policy_latency_seconds histogram"]
    for bound, count in counts.items():
        total += count
        lines.append(f'policy_latency_seconds_bucket{{le="{bound}",part="total",version="0.2.0"}} {total}')
    return Counted(parse("\n".join(lines) + "\n").samples, "0.2.0")


def test_a_bar_at_a_bucket_bound_is_counted_and_not_estimated():
    counted = latency({"0.005": 90, "0.01": 8, "0.02": 1, "+Inf": 1})
    assert above_ms(counted, "total", 10.0) == (2, 100)
    assert above_ms(counted, "total", 5.0) == (10, 100)
    assert events_of("p99_ms", "", counted, 10.0).value == 0.02


def test_a_bar_between_two_bounds_is_taken_in_proportion():
    counted = latency({"0.005": 90, "0.01": 8, "+Inf": 2})
    assert above_ms(counted, "total", 7.5) == (6, 100)
    assert above_ms(counted, "total", 50.0) == (2, 100)  # nobody knows how far beyond the last bound they lie


def test_a_quantile_is_estimated_as_prometheus_does():
    counted = latency({"0.005": 90, "0.01": 8, "+Inf": 2})
    assert quantile_ms(counted, "total", 0.5) == pytest.approx(2.7778, rel=1e-3)
    assert quantile_ms(counted, "total", 0.94) == 7.5
    assert quantile_ms(counted, "total", 0.99) == 10.0
    assert quantile_ms(latency({"+Inf": 0}), "total", 0.99) is None


@pytest.mark.parametrize(("events", "trials"), [(0, 100), (3, 100), (50, 100), (100, 100)])
def test_the_interval_of_a_share_holds_it_and_narrows(events: float, trials: float):
    few, many = Share(events, trials, 4.0), Share(100 * events, 100 * trials, 4.0)
    share = events / trials
    assert few.bound(-3) <= many.bound(-3) <= share + 1e-12
    assert share - 1e-12 <= many.bound(3) <= few.bound(3) <= 1 + 1e-12
    assert few.bound(-3) >= 0


def test_more_events_than_trials_have_an_interval_too():
    share = Share(1200, 100, 64.0)
    assert 0 < share.bound(-3) < 12 < share.bound(3) < math.inf
