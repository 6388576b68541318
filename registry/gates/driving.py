"""The driving gate: no worse than the champion; without one, better than a baseline driver. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from registry.gates.episodes import BASELINES, POLICY, Evidence
from registry.gates.margins import Margins
from registry.gates.measures import COLLISIONS, FAILURES, REWARD, Measure
from registry.gates.not_worse import compare, reward_bar


def evaluate_driving(
    candidate: Evidence, champion: Evidence | None, champion_name: str, margins: Margins
) -> Iterator[tuple[bool, str]]:
    """Yields for each bar whether it is passed, and the figures in words.

    Args:
        candidate: the candidate's evidence.
        champion: the champion's, on the same seeds; None compares the candidate with the baseline in its own evidence.
        champion_name: the champion's reference.
        margins: the policy's margins.
    """
    tries = "once"
    if candidate.evaluations > 1:
        tries = f"{candidate.evaluations} times, and repeating that until it passes would weaken the test"
    for passed, text in (
        _against_baseline(candidate, margins)
        if champion is None
        else _against_champion(candidate, champion, champion_name, margins)
    ):
        yield passed, text if passed else f"{text}; this artifact was evaluated {tries}"


def _against_champion(
    candidate: Evidence, champion: Evidence, champion_name: str, margins: Margins
) -> Iterator[tuple[bool, str]]:
    failures, reward = _measures(candidate, margins)
    measures = (replace(COLLISIONS, margin=margins.driving), failures, reward)
    *safe, earned = compare(
        candidate.drives[POLICY], champion.drives[POLICY], measures, _least_reward(candidate, champion)
    )
    for measured in safe:
        yield measured.is_not_worse, measured.say(champion_name)
    bar = reward_bar(safe, earned)
    widened = (
        "" if bar is earned else f"significantly safer than {champion_name}, so up to half less reward is allowed: "
    )
    yield bar.is_not_worse, widened + bar.say(champion_name)


def _against_baseline(candidate: Evidence, margins: Margins) -> Iterator[tuple[bool, str]]:
    """Compares with the baseline in failures and reward, not in collisions: it fails before it meets other cars."""
    baseline = candidate.baseline
    assert baseline is not None  # the evidence gate passed
    drives, baseline_name = candidate.drives, BASELINES[baseline]
    failures, earned = compare(
        drives[POLICY], drives[baseline], _measures(candidate, margins), _least_reward(candidate)
    )
    if failures.can_be_better:
        yield failures.is_better, failures.say_better(baseline_name)
    else:
        yield failures.is_not_worse, failures.say(baseline_name)
    yield earned.is_better, earned.say_better(baseline_name)


def _measures(candidate: Evidence, margins: Margins) -> tuple[Measure, Measure]:
    by_success = any(row.success is not None for row in candidate.drives[POLICY])
    name = "collisions or no success" if by_success else FAILURES.name
    # The reward margin is one of the conditions, so the champion's evidence has the same.
    reward = replace(REWARD, margin=margins.reward, own_margin=candidate.reward_margin)
    return replace(FAILURES, name=name, margin=margins.driving), reward


def _least_reward(*evidence: Evidence) -> float:
    """The least reward assumed possible in an episode: 0, or with an absolute reward margin the least observed."""
    if evidence[0].reward_margin is None:
        return 0.0
    return min(row.reward for each in evidence for rows in each.drives.values() for row in rows)
