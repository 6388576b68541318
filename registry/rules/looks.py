"""Judges a baking version by looks at its figures. Pure.

A look is what was counted since the last one that said something. It says "over" once the figure lies beyond the bar
for certain, and "fine" once it plainly does not; before that it goes on. An alarm fires when two in a row are over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from registry.rules.alarms import Bar, parse_alarm
from registry.rules.counted import Counted
from registry.rules.figures import MIN_TRIALS, Share, events_of, limit, say_share, say_value

NOTHING = Share(0.0, 0.0)

Verdict = Literal["over", "fine", "none"]

LOOKS = 2
"""So many looks in a row have to be over."""
CERTAIN = 3.09
"""Standard errors beyond the bar: one look in a thousand at a figure that lies exactly there is over by chance."""
PLAIN = 2.0
"""Standard errors short of the bar at which a look is fine."""
ENOUGH = 400.0
"""Independent events at the bar, after which a look is fine if it is not over for certain."""


@dataclass(frozen=True)
class Watch:
    """What is known of one alarm.

    Attributes:
        bar: the alarm and its bar.
        pooled: events and trials since the last verdict.
        seen: the same since it is watched.
        over: how many looks in a row were over.
        figures: what those looks found, in words.
        verdict: of the last look.
    """

    bar: Bar
    pooled: Share = NOTHING
    seen: Share = NOTHING
    over: int = 0
    figures: tuple[str, ...] = ()
    verdict: Verdict = "none"

    @property
    def fires(self) -> bool:
        return self.over >= LOOKS

    @property
    def may_end(self) -> bool:
        """Whether enough was seen, and no look was over last, so that a bake whose time is over ends well."""
        return self.over == 0 and self.seen.trials >= MIN_TRIALS

    def say_wait(self) -> str:
        """Why a bake whose time is over goes on; without the count, which every look would change."""
        why = "the last look was over the bar" if self.over else f"fewer than {MIN_TRIALS} requests were seen so far"
        return f"{self.bar.alarm}: {why}"

    def say(self) -> str:
        """What it has found, in words."""
        found = ", then ".join(self.figures) or say_share(parse_alarm(self.bar.alarm).metric, self.seen)
        return f"{self.bar.alarm}: {found}; {self.say_bar()}"

    def say_bar(self) -> str:
        """The bar in words."""
        metric = parse_alarm(self.bar.alarm).metric
        share = limit(metric, self.bar.value)
        allowed = f" for {100 * share:.3g} %" if share != self.bar.value else ""
        x = f", {self.bar.of_displaced}" if self.bar.of_displaced else ""
        return f"the bar is {say_value(metric, self.bar.value)}{allowed}{x}"


def look(watch: Watch, counted: Counted) -> Watch:
    """Adds what was counted since the last look, and says what it shows; an alarm that fires goes on firing."""
    if watch.fires:
        return watch
    alarm = parse_alarm(watch.bar.alarm)
    new = events_of(alarm.metric, alarm.of, counted, watch.bar.value)
    pooled = replace(new, events=watch.pooled.events + new.events, trials=watch.pooled.trials + new.trials)
    seen = replace(pooled, events=watch.seen.events + new.events, trials=watch.seen.trials + new.trials)
    verdict = judge(pooled, limit(alarm.metric, watch.bar.value), alarm.is_above)
    if verdict == "none":
        return replace(watch, pooled=pooled, seen=seen, verdict=verdict)
    after = replace(watch, pooled=NOTHING, seen=seen, verdict=verdict, over=0, figures=())
    if verdict == "fine":
        return after
    figures = (*watch.figures[1 - LOOKS :], say_share(alarm.metric, pooled))
    return replace(after, over=watch.over + 1, figures=figures)


def judge(pooled: Share, share: float, is_above: bool) -> Verdict:
    """Whether the events among the trials lie beyond a share for certain."""
    if pooled.trials < MIN_TRIALS:
        return "none"
    low, high = (-CERTAIN, PLAIN) if is_above else (-PLAIN, CERTAIN)
    below, above = pooled.bound(high) < share, pooled.bound(low) > share
    if above if is_above else below:
        return "over"
    is_fine = (below if is_above else above) or share == 0
    return "fine" if is_fine or pooled.trials * share / pooled.spread >= ENOUGH else "none"
