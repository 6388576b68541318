"""Plans a bake before its move: holds its alarms against the card, and reads what those with x are relative to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from carla_mlflow.cli import warn
from carla_mlflow.errors import ArtifactError, RefusedError
from carla_mlflow.escaping import one_line
from registry.checks.scrape import Servers
from registry.rules.alarms import QUANTILES, Alarm, Bar, check_bar
from registry.rules.counted import Counted, Scrape, added
from registry.rules.counted_parts import check_counted
from registry.rules.figures import MIN_TRIALS, Share, events_of, measure, say_value
from registry.rules.journal import Bake
from registry.rules.policy_version import PolicyVersion
from registry.store.cache import fetch_to_cache
from registry.store.store import Store

USUAL = 1.645
"""Standard errors by which a figure is taken higher than it was counted, and for an alarm with < lower: the end of its
one-sided 95 % interval, so that an alarm is not sharper for want of data."""


def check_alarms(store: Store, version: PolicyVersion, alarms: Sequence[Alarm], cache: Path) -> None:
    """Raises RefusedError for an alarm on what servers do not count of a version, by its card."""
    try:
        card = fetch_to_cache(store, version, cache).card
    except ArtifactError:
        return  # the integrity gate says why, with all the other shortfalls
    check_counted(alarms, card)


def plan_bake(duration_s: float, alarms: Sequence[Alarm], displaced: str | None, servers: Servers) -> Bake:
    """A bake whose alarms all have a bar.

    Args:
        duration_s: of the bake, seconds.
        alarms: its alarms.
        displaced: the version that holds the stage now, for a canary production; None for none.
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
    needed = _needed(alarm.metric)
    if figure is None or trials < needed:
        raise RefusedError(
            f"{alarm}: the servers counted {trials:,.0f} of {displaced} in the last half hour, and {needed:,} are "
            "needed; give a bar without x"
        )
    held = _lenient(figure, alarm.is_above) if isinstance(figure, Share) else figure
    bar = alarm.number * held
    check_bar(alarm, bar)
    found = f"{say_value(alarm.metric, figure.value if isinstance(figure, Share) else figure)} of {trials:,.0f}"
    if isinstance(figure, Share):  # the bar is this end's multiple, not that of what was counted
        found += f", {'at most' if alarm.is_above else 'at least'} {say_value(alarm.metric, held)} with 95% confidence"
    of_displaced = f"{alarm.number:g} times what {displaced} had in half an hour: {found}"
    return Bar(str(alarm), bar, of_displaced)


def _needed(metric: str) -> int:
    """The fewest trials that make a bar: for a quantile, as many as have MIN_TRIALS beyond it."""
    return round(MIN_TRIALS / (1 - QUANTILES[metric])) if metric in QUANTILES else MIN_TRIALS


def _lenient(figure: Share, is_above: bool) -> float:
    """The end of a figure's interval at which an alarm fires latest, and never the sharper side of what was counted."""
    counted = figure.value or 0.0
    return max(figure.bound(USUAL), counted) if is_above else min(figure.bound(-USUAL), counted)
