"""Whether one policy drives no worse than another on the same seeds. Pure.

The burden of proof lies with the challenger. For each measure, the end of the one-sided 95 % interval of the mean
difference over the seeds may not be worse than a margin: a small evaluation with different outcomes shows nothing, and
more episodes help a policy that is as good. All safety measures have to pass: in such an intersection-union test, the
chance that a policy passes although it is worse by more than the margin in one measure stays at that measure's 5 %.
Reward has to pass too, within a wider margin when safety has improved.

The measures are ordered: a collision is worse than leaving the road, which is worse than little reward. They are
cumulative (collisions; collisions or off road), because an episode ends with the first of the two: a car that leaves
the road at once never collides, and must not count as safer for that.

Sources: those of `registry.gates.intervals`; R. L. Berger, Multiparameter Hypothesis Testing and Acceptance Sampling
(Technometrics 24, 1982) for the intersection-union test; ICH E9 (1998), section 3.3.2, for margins fixed before the
trial. docs/adr/0009 has the error rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from registry.gates.episodes import EpisodeRow
from registry.gates.intervals import CONFIDENCE, mean_bound, rate_bound, sign_chance
from registry.gates.margins import SAFER_MARGIN
from registry.gates.measures import Measure

DOUBT = (1 - CONFIDENCE) / 2
"""The chance that an equal policy seems better: half of 5 %, as both collisions and failures are tested."""
MAX_EPISODES = 10_000
"""The most episodes that a refusal suggests driving."""
_UNLUCKY = 0.8416
"""The 80 % quantile of the normal distribution: bad luck, in standard errors, not exceeded in four cases of five."""


@dataclass(frozen=True)
class PairedComparison:
    """One measure of two policies on the same seeds.

    Attributes:
        measure: what was compared.
        challenger: its mean loss.
        other: its mean loss.
        differences: the challenger's loss minus the other's in each episode, in ascending order.
        most: the largest difference possible in an episode.
    """

    measure: Measure
    challenger: float
    other: float
    differences: tuple[float, ...]
    most: float

    @property
    def episodes(self) -> int:
        return len(self.differences)

    @cached_property
    def worst(self) -> float:
        """The worse end of the one-sided 95 % interval of the mean difference."""
        return self._bound()

    @property
    def margin(self) -> float:
        """In the loss's own unit; 0 when it is a share of the other's mean reward and that is not above 0."""
        if self.measure.own_margin is not None:
            return self.measure.own_margin
        return self.measure.margin * max(-self.other, 0.0) if self.measure.relative else self.measure.margin

    @property
    def is_not_worse(self) -> bool:
        return self.worst <= self.margin + 1e-9  # both are sums of floats, which round

    @property
    def is_better(self) -> bool:
        """Whether it is significantly better: in reward if all of the interval is, else by the exact sign test."""
        return self.worst < 0 if self.measure.relative else sign_chance(*self._disagreeing) <= DOUBT

    @property
    def can_be_better(self) -> bool:
        """Whether any challenger could be shown to be better: not when the other hardly ever fails."""
        return self.measure.relative or sign_chance(0, round(self.other * self.episodes)) <= DOUBT

    @property
    def _disagreeing(self) -> tuple[int, int]:
        return sum(d > 0 for d in self.differences), sum(d < 0 for d in self.differences)

    def _bound(self, times: float = 1.0) -> float:
        """The worse end after `times` as many episodes like these; `times` above 1 assumes bad luck (_UNLUCKY)."""
        episodes, against = times * self.episodes, 0.0
        if times > 1:
            against = _UNLUCKY * float(np.std(self.differences)) / episodes**0.5
        if self.measure.relative:
            values, draws = np.array([self.differences]) + against, {} if times == 1 else {"resamples": 2_000}
            return float(mean_bound(values, np.array([self.most]), times, **draws)[0])
        worse, better = (times * count for count in self._disagreeing)
        fewer = min(better, against * episodes / 2)
        return rate_bound(worse + against * episodes - fewer, better - fewer, episodes)

    def needed(self) -> int | None:
        """How many episodes like these would show, in four cases of five, that it is not worse.

        None when its mean is worse by the margin or more, or when more than MAX_EPISODES would be needed.
        """
        if self.challenger - self.other >= self.margin:
            return None
        few, many = 1.0, MAX_EPISODES / self.episodes
        if many <= few or self._bound(many) > self.margin:
            return None
        while (many - few) * self.episodes > 1:
            half = (few * many) ** 0.5
            few, many = (half, many) if self._bound(half) > self.margin else (few, half)
        return 10 * int(np.ceil(many * self.episodes / 10))

    def say(self, other_name: str) -> str:
        """Says whether it is not worse; `other_name` names the other."""
        worst, margin = max(self.worst, 0.0), self.margin
        if self.measure.relative:
            most, allowed = f"{worst:.3g} less", f"{margin:.3g}"
        else:
            most, allowed = f"{100 * worst:.2g} percentage points more", f"{100 * margin:.2g}"
        end = "" if self.is_not_worse else self._hint()
        return f"{self.figures(other_name)}: at most {most} with {CONFIDENCE:.0%} confidence, {allowed} allowed{end}"

    def say_better(self, other_name: str) -> str:
        """Says whether it is better; `other_name` names the other."""
        better = "more" if self.measure.relative else "fewer"
        return f"{self.figures(other_name)}: " + (
            f"significantly {better}" if self.is_better else f"not significantly {better}"
        )

    def figures(self, other_name: str) -> str:
        """Both policies' figures in words; `other_name` names the other."""
        if self.measure.relative:
            return f"{self.measure.name} {0.0 - self.challenger:.4g} an episode, of {other_name} {0.0 - self.other:.4g}"
        counts = [round(mean * self.episodes) for mean in (self.challenger, self.other)]
        return f"{self.measure.name} in {counts[0]} of {self.episodes} episodes, of {other_name} in {counts[1]}"

    def _hint(self) -> str:
        if not self.margin:
            return (
                "; the champion's mean reward is 0 or less, so that the default margin, a share of it, can't be used: "
                "evaluate both with --reward-margin R"
            )
        if self.challenger - self.other >= self.margin:
            return ""
        needed = self.needed()
        if needed is None:
            return f"; even {MAX_EPISODES:,} episodes like these would not show that it is within the margin"
        return f"; with {needed:,} episodes like these it would pass with a probability of 80 %"


def compare(
    challenger: Sequence[EpisodeRow],
    other: Sequence[EpisodeRow],
    measures: Sequence[Measure],
    least_reward: float = 0.0,
) -> list[PairedComparison]:
    """Compares two policies in each measure.

    Args:
        challenger: its episodes, each seed once.
        other: the other's, on the same seeds.
        measures: the most important first.
        least_reward: the least reward possible in an episode.

    Raises:
        ValueError: the seeds differ, or there are none.
    """
    mine, theirs = (sorted(drive, key=lambda row: row.seed) for drive in (challenger, other))
    if [row.seed for row in mine] != [row.seed for row in theirs] or not mine:
        raise ValueError("a paired comparison needs the same seeds, and at least one")
    return [_compared(measure, mine, theirs, least_reward) for measure in measures]


def _compared(
    measure: Measure, challenger: Sequence[EpisodeRow], other: Sequence[EpisodeRow], least_reward: float
) -> PairedComparison:
    mine, theirs = (np.array([measure.loss(row) for row in drive]) for drive in (challenger, other))
    # Reward: the challenger gets the least possible where the other earns its mean.
    most = float(-theirs.mean()) - least_reward if measure.relative else 1.0
    return PairedComparison(
        measure, float(mine.mean()), float(theirs.mean()), tuple(sorted((mine - theirs).tolist())), most
    )


def reward_bar(safe: Sequence[PairedComparison], reward: PairedComparison) -> PairedComparison:
    """The reward comparison, with the wider margin when the policy was shown to be safer."""
    if reward.measure.own_margin is not None or not any(compared.is_better for compared in safe):
        return reward
    return replace(reward, measure=replace(reward.measure, margin=SAFER_MARGIN))
