"""Plans a bake before its move: reads the displaced version's figures for the alarms that are relative to them."""

from __future__ import annotations

from collections.abc import Sequence

from carla_mlflow.cli import warn
from carla_mlflow.errors import RefusedError
from carla_mlflow.escaping import one_line
from registry.checks.scrape import Servers
from registry.rules.alarms import Alarm, Bar, check_bar
from registry.rules.counted import Counted, Scrape, added
from registry.rules.figures import MIN_TRIALS, Share, events_of, measure, say_value
from registry.rules.journal import Bake

USUAL = 1.645
"""Standard errors by which a figure is taken higher than it was counted: the end of its one-sided 95 % interval, so
that an alarm is not sharper for want of data."""


def plan_bake(duration_s: float, alarms: Sequence[Alarm], displaced: str | None, servers: Servers) -> Bake:
    """A bake whose alarms all have a bar.

    Args:
        duration_s: of the bake, seconds.
        alarms: its alarms.
        displaced: the version that holds the stage now; None for none.
        servers: that answer with it.

    Raises:
        RefusedError: an alarm is relative to figures that are not there.
    """
    if not any(alarm.is_relative for alarm in alarms):
        return Bake(duration_s, tuple(Bar(str(alarm), alarm.number) for alarm in alarms))
    relative = next(alarm for alarm in alarms if alarm.is_relative)
    if not servers.urls:
        raise RefusedError(
            f"{relative} needs the figures of the version that drives now: add --servers URL…, or give a bar without x"
        )
    if displaced is None:
        raise RefusedError(f"{relative}: no version drives now whose figures it could be held against")
    counted = Counted(_half_hour(servers), displaced)
    return Bake(duration_s, tuple(bar_of(alarm, counted, displaced) for alarm in alarms))


def _half_hour(servers: Servers) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = servers.scrape(half_hour=True)
    for each in found.values():
        if not isinstance(each, Scrape):
            warn(f"its figures are left out: {one_line(each)}")
    scrapes = [each for each in found.values() if isinstance(each, Scrape)]
    if not scrapes:
        raise RefusedError("none of the servers can be read, so that no alarm with x can be set")
    return added(each.samples for each in scrapes)


def bar_of(alarm: Alarm, counted: Counted, displaced: str) -> Bar:
    """An alarm with its bar; raises RefusedError where too little was counted of the displaced version for it."""
    if not alarm.is_relative:
        return Bar(str(alarm), alarm.number)
    figure, trials = measure(alarm.metric, alarm.of, counted), events_of(alarm.metric, alarm.of, counted, 0.0).trials
    if figure is None or trials < MIN_TRIALS:
        raise RefusedError(
            f"{alarm}: the servers counted {trials:,.0f} of {displaced} in the last half hour, and {MIN_TRIALS} are "
            "needed; give a bar without x"
        )
    value = max(figure.bound(USUAL), figure.value or 0.0) if isinstance(figure, Share) else figure
    bar = alarm.number * value
    check_bar(alarm, bar)
    found = say_value(alarm.metric, figure.value if isinstance(figure, Share) else figure)
    of_displaced = f"{alarm.number:g} times what {displaced} had in half an hour: {found} of {trials:,.0f}"
    return Bar(str(alarm), bar, of_displaced)
