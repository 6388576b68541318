"""Alarms on what servers do not count of a policy are refused, by its card."""

from __future__ import annotations

import msgspec
import pytest
from registry_policies import example
from without_pedals import KINDS

from carla_mlflow.errors import RefusedError
from registry.rules.alarms import parse_alarm
from registry.rules.counted_parts import check_counted, counted_parts
from serve.codecs.carla import PredictCodec
from training_export.sources.draft import complete


def test_alarms_know_the_fields_and_dimensions_that_servers_watch():
    card = example().card
    parts = counted_parts(card)
    assert parts["out_of_range"] == [spec.name for spec in PredictCodec(card, "", 1).watched]
    assert parts["saturation"] == ["throttle", "brake", "steer"]


@pytest.mark.parametrize(
    "text", ["saturation>0.1", "saturation.brake>2x", "out_of_range.speed<1", "p99_ms.queue>1", "fallback_rate>0"]
)
def test_an_alarm_on_what_is_counted_is_taken(text: str):
    check_counted([parse_alarm(text)], example().card)


@pytest.mark.parametrize("text", ["saturation.stear>0.1", "out_of_range.steer>1", "saturation.speed>2x"])
def test_an_alarm_on_a_name_that_is_not_counted_is_refused_with_those_that_are(text: str):
    with pytest.raises(
        RefusedError, match=r"servers count no .* there are (throttle, brake, steer|speed, steering, sensors)"
    ):
        check_counted([parse_alarm("p99_ms>1"), parse_alarm(text)], example().card)


def test_an_alarm_on_saturation_of_a_policy_that_only_chooses_is_refused():
    card = msgspec.structs.replace(example().card, action=complete(KINDS["labelled"].draft))
    with pytest.raises(RefusedError, match=r"saturation>0\.1: servers count no saturation of .*, by its card"):
        check_counted([parse_alarm("saturation>0.1")], card)
