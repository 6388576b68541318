"""The driving gate: no worse than the champion; a first champion has to be better than a baseline. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from registry.gates.episodes import BASELINES, POLICY, Evidence
from registry.gates.margins import Margins
from registry.gates.measures import COLLISIONS, FAILURES, REWARD, Measure
from registry.gates.not_worse import compare, reward_bar


def evaluate_driving(
    mine: Evidence, theirs: Evidence | None, champion: str, margins: Margins
) -> Iterator[tuple[bool, str]]:
    """Yields for each bar whether it is passed, and the figures in words.

    Args:
        mine: the candidate's evidence.
        theirs: the champion's, on the same seeds; None compares the candidate with the baseline in its own evidence.
        champion: the champion's reference.
        margins: the policy's margins.
    """
    tries = "once" if mine.evaluations == 1 else f"{mine.evaluations} times"
    for passed, text in (
        _against_baseline(mine, margins) if theirs is None else _against_champion(mine, theirs, champion, margins)
    ):
        yield passed, text if passed else f"{text}; this artifact was evaluated {tries}"


def _against_champion(mine: Evidence, theirs: Evidence, who: str, margins: Margins) -> Iterator[tuple[bool, str]]:
    failures, reward = _measures(mine, margins)
    measures = (replace(COLLISIONS, margin=margins.driving), failures, reward)
    *safe, earned = compare(mine.drives[POLICY], theirs.drives[POLICY], measures, _least_reward(mine, theirs))
    for found in safe:
        yield found.is_not_worse, found.say(who)
    bar = reward_bar(safe, earned)
    wider = "" if bar is earned else f"safer than {who} beyond doubt, so up to half its reward may go for that: "
    yield bar.is_not_worse, wider + bar.say(who)


def _against_baseline(mine: Evidence, margins: Margins) -> Iterator[tuple[bool, str]]:
    """Compares with the baseline in failures and reward, not in collisions: it fails before it meets other cars."""
    baseline = mine.baseline
    assert baseline is not None  # the evidence gate passed
    drives, who = mine.drives, BASELINES[baseline]
    failures, earned = compare(drives[POLICY], drives[baseline], _measures(mine, margins), _least_reward(mine))
    if failures.can_be_better:
        yield failures.is_better, failures.say_better(who)
    else:
        yield failures.is_not_worse, failures.say(who)
    yield earned.is_better, earned.say_better(who)


def _measures(mine: Evidence, margins: Margins) -> tuple[Measure, Measure]:
    by_success = any(row.success is not None for row in mine.drives[POLICY])
    name = "collisions or no success" if by_success else FAILURES.name
    # The reward margin is one of the conditions, so the champion's evidence has the same.
    reward = replace(REWARD, margin=margins.reward, own_margin=mine.reward_margin)
    return replace(FAILURES, name=name, margin=margins.driving), reward


def _least_reward(*evidence: Evidence) -> float:
    """The least reward of an unseen episode: 0; with a reward margin, where 0 means nothing, the least seen."""
    if evidence[0].reward_margin is None:
        return 0.0
    return min(row.reward for found in evidence for rows in found.drives.values() for row in rows)
