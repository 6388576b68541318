"""Whether one policy drives no worse than another on the same seeds: a paired bootstrap over episodes. Pure.

The burden of proof lies with the challenger. For each measure the mean difference over the seeds is resampled, and
the end of its one-sided 95 % interval may not be worse than a margin: a small evaluation with different outcomes
shows nothing, and more episodes help a policy that is as good. All safety measures have to hold (an
intersection-union test: so the chance to let through a policy that is worse by more than the margin in any of them
stays at 5 %). Reward has to hold too, within a wider margin where safety has improved.

The measures are ordered: a collision is worse than leaving the road, which is worse than little reward. They are
cumulative (collisions; collisions or off road), because an episode ends with the first of the two: a car that leaves
the road at once never collides, and must not be better for it.

Sources: B. Efron, R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13 (percentile interval), on paired
differences; R. L. Berger, Multiparameter Hypothesis Testing and Acceptance Sampling (Technometrics 24, 1982) for the
intersection-union test; ICH E9 (1998), section 3.3.2, for margins fixed before the trial.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from registry.episodes import EpisodeRow

RESAMPLES, SEED = 10_000, 0
"""So many that the interval's 5 % are met to about 0.2 %; the seed makes a verdict the same every time."""
CONFIDENCE = 0.95
RATE_MARGIN = 0.05
"""One episode in twenty: the smallest step that the smallest evidence can show."""
REWARD_MARGIN = 0.05
"""Of the other's mean reward: a twentieth again."""
SAFER_MARGIN = 0.5
"""Instead of it for whoever is safer beyond doubt: some reward may go for safety, but a car that crawls is safe too."""
_AT_ONCE = 2_000_000
"""Drawn indices held in memory."""


@dataclass(frozen=True)
class Measure:
    """What is compared: a loss per episode, so that more is worse.

    Attributes:
        name: in words.
        loss: of an episode.
        margin: by how much the mean loss may be worse; of the other's mean when `relative`.
        relative: whether the loss has a scale of its own, as reward has.
        own_margin: by how much it may be worse on that scale, instead of a share of the other's mean.
    """

    name: str
    loss: Callable[[EpisodeRow], float]
    margin: float
    relative: bool = False
    own_margin: float | None = None


COLLISIONS = Measure("collisions", lambda row: float(row.collision), RATE_MARGIN)
FAILURES = Measure("collisions or off road", lambda row: float(row.failed), RATE_MARGIN)
REWARD = Measure("reward", lambda row: -row.reward, REWARD_MARGIN, relative=True)


@dataclass(frozen=True)
class Compared:
    """One measure of two policies on the same seeds.

    Attributes:
        measure: what was compared.
        challenger: mean loss.
        other: mean loss.
        best: the better end of the 95 % interval of the mean difference; below 0, the challenger is better.
        worst: its worse end. Each end is one-sided.
        episodes: pairs.
    """

    measure: Measure
    challenger: float
    other: float
    best: float
    worst: float
    episodes: int

    @property
    def margin(self) -> float:
        """In the loss's own unit; 0 where it is a share, and the other's mean reward is none that can be shared."""
        if self.measure.own_margin is not None:
            return self.measure.own_margin
        return self.measure.margin * max(-self.other, 0.0) if self.measure.relative else self.measure.margin

    @property
    def is_not_worse(self) -> bool:
        return self.worst <= self.margin + 1e-9  # of rounding, where both are sums of floats

    @property
    def is_better(self) -> bool:
        """Beyond doubt: all of the interval is."""
        return self.worst < 0

    @property
    def is_undecided(self) -> bool:
        """Not shown to be as good, nor seen to be worse: more episodes may tell."""
        return not self.is_not_worse and self.challenger - self.other <= self.margin

    def say(self, who: str) -> str:
        """In words, with the other's name."""
        more = "; more episodes may show it" if self.is_undecided else ""
        if not self.is_not_worse and not self.margin:
            more += "; no share of that is a margin, evaluate with --reward-margin"
        if self.measure.relative:
            return (
                f"{self.measure.name} {-self.challenger:.4g} an episode, of {who} {-self.other:.4g}: at most "
                f"{max(self.worst, 0):.3g} less with {CONFIDENCE:.0%} confidence, {self.margin:.3g} allowed{more}"
            )
        counts = [round(mean * self.episodes) for mean in (self.challenger, self.other)]
        return (
            f"{self.measure.name} in {counts[0]} of {self.episodes} episodes, of {who} in {counts[1]}: at most "
            f"{max(self.worst, 0):.0%} more with {CONFIDENCE:.0%} confidence, {self.margin:.0%} allowed{more}"
        )


def compare(
    challenger: Sequence[EpisodeRow], other: Sequence[EpisodeRow], measures: Sequence[Measure]
) -> list[Compared]:
    """Compares two policies in each measure.

    Args:
        challenger: its episodes, each seed once.
        other: the same seeds.
        measures: in the order of their weight.

    Raises:
        ValueError: the seeds differ, or there are none.
    """
    rows = [sorted(drive, key=lambda row: row.seed) for drive in (challenger, other)]
    seeds = [[row.seed for row in drive] for drive in rows]
    if seeds[0] != seeds[1] or not seeds[0]:
        raise ValueError("a paired comparison needs the same seeds, and at least one")
    losses = {m.name: [np.array([m.loss(row) for row in drive]) for drive in rows] for m in measures}
    ends = paired_interval(np.stack([mine - others for mine, others in losses.values()]))
    return [
        Compared(m, float(losses[m.name][0].mean()), float(losses[m.name][1].mean()), best, worst, len(seeds[0]))
        for m, (best, worst) in zip(measures, ends, strict=True)
    ]


def reward_bar(safe: Sequence[Compared], reward: Compared) -> Compared:
    """Reward as it is held against a policy, given how safe it was found to be."""
    if reward.measure.own_margin is not None or not any(found.is_better for found in safe):
        return reward
    return replace(reward, measure=replace(reward.measure, margin=SAFER_MARGIN))


def paired_interval(differences: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Both one-sided ends of the bootstrap interval of each row's mean.

    Args:
        differences: of each measure (a row) on each seed (a column); the same resamples serve all measures.
    """
    rng, episodes = np.random.default_rng(SEED), differences.shape[1]
    block = max(1, _AT_ONCE // episodes)
    means = [
        differences[:, rng.integers(0, episodes, (min(block, RESAMPLES - done), episodes))].mean(axis=2)
        for done in range(0, RESAMPLES, block)
    ]
    drawn = np.concatenate(means, axis=1)
    # Outcomes are discrete: each end is one that was drawn, and the more cautious of two.
    best = np.quantile(drawn, 1 - CONFIDENCE, axis=1, method="lower")
    worst = np.quantile(drawn, CONFIDENCE, axis=1, method="higher")
    return [(float(low), float(high)) for low, high in zip(best, worst, strict=True)]
