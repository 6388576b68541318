"""Alarms and durations as people type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carla_mlflow.errors import RefusedError
from registry.rules.alarms import METRICS, Alarm, parse_alarm, parse_alarms
from registry.rules.durations import parse_duration, say_duration


@pytest.mark.parametrize(
    ("text", "alarm"),
    [
        ("fallback_rate>0.01", Alarm("fallback_rate", "", True, 0.01, False)),
        ("saturation>2x", Alarm("saturation", "", True, 2.0, True)),
        ("saturation.steer > 1.5x", Alarm("saturation", "steer", True, 1.5, True)),
        ("p99_ms>10", Alarm("p99_ms", "", True, 10.0, False)),
        ("p50_ms.inference<0.5x", Alarm("p50_ms", "inference", False, 0.5, True)),
        ("fallback_rate>0", Alarm("fallback_rate", "", True, 0.0, False)),
    ],
)
def test_an_alarm_is_read_and_said_again(text: str, alarm: Alarm):
    assert parse_alarm(text) == alarm
    assert parse_alarm(str(alarm)) == alarm


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("saturation", "is no alarm; expected METRIC OP NUMBER"),
        ("saturation>=2x", "is no alarm"),
        ("saturation>-1", "is no alarm"),
        ("saturation>nan", "is no alarm"),
        ("saturation>2xx", "is no alarm"),
        ("speed>3", "there is no metric speed; there are fallback_rate, error_rate"),
        ("fallback_rate.steer>0.1", "fallback_rate is one figure, of which steer is no part"),
        ("p99_ms.steer>10", "steer is no part of the latency; there are queue, decode, inference, total"),
        ("fallback_rate>5", "can never fire: fallback_rate is a share, and 5 is not below 1"),
        ("p99_ms<0", "can never fire: nothing is below 0"),
        ("saturation>0x", "0 times a figure is 0; write it without x"),
    ],
)
def test_what_is_no_alarm_or_can_never_fire_is_refused_with_what_is_expected(text: str, says: str):
    with pytest.raises(RefusedError, match=says.replace("(", r"\(").replace(".", r"\.")):
        parse_alarm(text)


def test_a_bake_has_at_least_one_alarm():
    with pytest.raises(RefusedError, match="add --alarm, expected METRIC OP NUMBER"):
        parse_alarms([])


@given(
    st.sampled_from(sorted(METRICS)), st.sampled_from("<>"), st.integers(1, 99).map(lambda n: n / 100), st.booleans()
)
def test_whatever_is_accepted_is_said_so_that_it_is_read_again(metric: str, op: str, number: float, is_relative: bool):
    alarm = parse_alarm(f"{metric}{op}{number}{'x' if is_relative else ''}")
    assert parse_alarm(str(alarm)) == alarm


@given(st.text(max_size=30).filter(lambda text: "<" not in text and ">" not in text))
def test_any_other_text_is_refused_and_nothing_else_happens(text: str):
    with pytest.raises(RefusedError, match="is no alarm"):
        parse_alarm(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("30m", 1800), ("2h", 7200), ("1d", 86400), ("0.5s", 0.5), ("1.5h", 5400)]
)
def test_durations_have_a_unit(text: str, seconds: float):
    assert parse_duration(text) == seconds
    assert parse_duration(say_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-1s", "0s", "31d", "1h30m", "1e3s", "nans"])
def test_what_is_no_duration_is_refused(text: str):
    with pytest.raises(RefusedError, match="expected such as 10s, 30m or 2h"):
        parse_duration(text)
