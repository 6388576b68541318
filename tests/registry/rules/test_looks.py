"""What one look at a baking version's figures says, and what several in a row do."""

from __future__ import annotations

import pytest

from registry.checks.scrape import parse
from registry.rules.alarms import Bar
from registry.rules.counted import Counted
from registry.rules.figures import MIN_TRIALS
from registry.rules.looks import Watch, look

BAR = Bar("saturation.steer>0.2", 0.2)


def seen(saturated: int, actions: int) -> Counted:
    sample = f'policy_saturated_total{{dimension="steer",version="0.2.0"}} {saturated}'
    lines = ["# TYPE policy_saturated_total counter", sample]
    lines += ["# TYPE policy_actions_total counter", f'policy_actions_total{{version="0.2.0"}} {actions}']
    return Counted(parse("\n".join(lines) + "\n").samples, "0.2.0")


def after(*looks: tuple[int, int], bar: Bar = BAR) -> Watch:
    watch = Watch(bar)
    for each in looks:
        watch = look(watch, seen(*each))
    return watch


def test_two_looks_in_a_row_beyond_the_bar_fire():
    assert [after((900, 1000)).fires, after((900, 1000), (900, 1000)).fires] == [False, True]


def test_a_look_that_is_fine_begins_the_row_anew():
    good, bad = (10, 10_000), (900, 1000)
    assert not after(bad, good, bad).fires
    assert after(bad, good, bad, bad).fires


def test_silence_is_no_verdict_and_does_not_break_the_row():
    assert after((0, 0)).verdict == "none"
    assert after((900, 1000), (0, 0), (0, 0), (900, 1000)).fires


def test_too_few_requests_are_no_verdict_but_are_counted_until_they_are_enough():
    few = (MIN_TRIALS - 1, MIN_TRIALS - 1)
    assert after(few).verdict == "none"
    assert after(*[few] * 40).fires


def test_a_figure_that_may_lie_beyond_the_bar_by_chance_is_no_verdict():
    assert after((25, 100)).verdict == "none"
    assert after((25_000, 100_000)).verdict == "over"


def test_an_alarm_on_what_is_not_counted_says_nothing_and_ends_no_bake():
    watch = after(*[(990, 1000)] * 3, bar=Bar("saturation.stear>0.1", 0.1))
    assert (watch.verdict, watch.may_end) == ("none", False)


def test_an_alarm_that_fired_goes_on_firing_until_somebody_acts():
    assert after((900, 1000), (900, 1000), (0, 100_000)).fires


def test_an_alarm_below_its_bar_fires_below():
    bar = Bar("saturation.steer<0.2", 0.2)
    assert after((0, 5_000), (0, 5_000), bar=bar).fires
    assert not after((900, 1_000), (900, 1_000), bar=bar).fires


def test_a_bar_of_nothing_fires_at_the_first_event_of_two_looks():
    bar = Bar("saturation.steer>0", 0.0)
    assert after((1, 1000), (1, 1000), bar=bar).fires
    assert not after((1, 1000), (0, 1000), (1, 1000), bar=bar).fires


@pytest.mark.parametrize(
    ("looks", "may_end"),
    [([], False), ([(0, 0)], False), ([(0, 29)], False), ([(0, 100)], True), ([(900, 1000)], False)],
)
def test_a_bake_ends_well_only_after_enough_requests_and_no_look_that_was_over_last(looks, may_end):
    assert after(*looks).may_end is may_end


def test_what_was_found_is_said_with_its_numbers_and_the_bar():
    fired = after((900, 1000), (950, 1000))
    assert fired.say() == "saturation.steer>0.2: 90 % (900 of 1,000), then 95 % (950 of 1,000); the bar is 20 %"
    relative = Watch(Bar("saturation>2x", 0.31, "2 times what 0.1.0 had in half an hour: 15 % of 9,000"))
    assert relative.say_bar() == "the bar is 31 %, 2 times what 0.1.0 had in half an hour: 15 % of 9,000"
    assert Watch(Bar("p99_ms>10", 10.0)).say_bar() == "the bar is 10 ms for 1 %"


def test_a_bake_that_goes_on_after_its_time_says_which_of_two_reasons_holds():
    assert after((0, MIN_TRIALS - 1)).say_wait() == "saturation.steer>0.2: fewer than 30 requests were seen so far"
    assert after((900, 1000)).say_wait() == "saturation.steer>0.2: the last look was over the bar"
