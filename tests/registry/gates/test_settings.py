"""The settings of all gates in one place."""

from __future__ import annotations

import pytest

from carla_mlflow.errors import RefusedError
from registry.gates.margins import read_margins
from registry.gates.settings import SETTINGS, parse_settings, shown
from registry.gates.shadow import DEFAULT_ROWS, DISAGREEMENT_TAG, MAX_ROWS, ROWS_TAG, read_shadow_bar


def test_settings_are_read_and_an_empty_value_gives_the_default_back():
    read = parse_settings(["gate.driving.margin=0.02", "gate.shadow.min_rows=1000", "gate.reward.margin="])
    assert read == {"gate.driving.margin": "0.02", "gate.shadow.min_rows": "1000", "gate.reward.margin": ""}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gate.steering=1", "'gate.steering' is no setting of a gate; there are gate.driving.margin"),
        ("gate.driving.margin", "expected gate.driving.margin=VALUE"),
        ("gate.driving.margin=0", "expected a share above 0 and at most 0.5"),
        ("gate.driving.margin=0.6", "expected a share above 0 and at most 0.5"),
        ("gate.driving.margin=nan", "expected a share above 0"),
        ("gate.shadow.min_rows=1e3", "expected a whole number above 0"),
        ("gate.shadow.min_rows=0", "expected a whole number above 0"),
        ("gate.shadow.min_rows=1000000000001", "expected a whole number above 0 and at most 1,000,000,000,000"),
        ("gate.shadow.max_disagreement=1.1", "expected a share from 0 to 1"),
    ],
)
def test_what_is_no_setting_is_refused_with_what_is_expected(text: str, says: str):
    with pytest.raises(RefusedError) as refused:
        parse_settings([text])
    assert says in str(refused.value)


def test_every_wrong_setting_is_named_and_a_contradiction_is_one():
    with pytest.raises(RefusedError) as refused:
        parse_settings(["a=1", "b=2", "gate.driving.margin=0.1", "gate.driving.margin=0.2"])
    assert len(refused.value.shortfalls) == 3


@pytest.mark.parametrize("setting", SETTINGS[:2], ids=lambda each: each.tag)
def test_a_value_that_may_be_set_is_one_that_the_gate_can_read(setting):
    for text in ("0.01", "0.5", "0", "0.51", "-1", "x"):
        is_read = read_margins({setting.tag: text}).problem is None
        assert is_read is (setting.problem(text) is None)


def test_the_shadow_gate_reads_what_may_be_set_and_its_defaults_are_those_that_are_shown():
    rows, disagreement = SETTINGS[2:]
    for setting in (rows, disagreement):
        for text in ("1", "0", "0.5", str(MAX_ROWS), str(MAX_ROWS + 1), "x"):
            bar = read_shadow_bar({setting.tag: text})
            assert bar is not None
            assert (bar.problem is None) is (setting.problem(text) is None)
    assert read_shadow_bar({}) is None
    assert [each.default.endswith("else no gate") for each in (rows, disagreement)] == [True, True]
    assert read_shadow_bar({DISAGREEMENT_TAG: "0.1"}).min_rows == DEFAULT_ROWS
    assert rows.default.startswith(f"{DEFAULT_ROWS:,} if max_disagreement is set")
    assert read_shadow_bar({ROWS_TAG: "5"}).max_disagreement is None
    assert disagreement.default.startswith("any, if min_rows is set")


def test_where_a_value_comes_from_is_shown():
    tags = {"gate.driving.margin": "0.02", "gate.reward.margin": "much"}
    by_tag = {each.setting.tag: each.source for each in shown(tags, {"gate.driving.margin": "0.02"})}
    assert by_tag["gate.driving.margin"] == "set"
    assert by_tag["gate.reward.margin"].startswith("unusable: gate.reward.margin='much'")
    assert by_tag["gate.shadow.min_rows"] == "default"
    edited = shown(tags | {"gate.driving.margin": "0.3"}, {"gate.driving.margin": "0.02"})
    assert edited[0].source == "changed in MLflow, not by this command"
