"""How much worse a challenger may be, and how many episodes it takes to show that it is no worse. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from registry.gates.intervals import least_episodes

RATE_MARGIN = 0.05
"""One more episode in twenty may fail."""
REWARD_MARGIN = 0.05
"""As a share of the other's mean reward: a twentieth."""
SAFER_MARGIN = 0.5
"""Replaces REWARD_MARGIN for a challenger shown to be safer: at most half the reward, as a crawling car is safe too."""
MIN_EPISODES = 60
"""59 episodes of which none fails where the champion's does not show, with 95 % confidence, that at most 5 % do
(1 - 0.05 ** (1 / 59) = 4.95 %). A narrower margin takes more; see `Margins.episodes`."""
MAX_MARGIN = 0.5
DRIVING_TAG, REWARD_TAG = "gate.driving.margin", "gate.reward.margin"
"""Tags of the registered model that set a policy's own margins."""


@dataclass(frozen=True)
class Margins:
    """A policy's margins.

    Attributes:
        driving: for the share of episodes with a collision, and for the share with any failure.
        reward: as a share of the other's mean reward; unused for evidence that has its own reward margin.
        problem: why a tag can't be read, so that its default is used.
    """

    driving: float = RATE_MARGIN
    reward: float = REWARD_MARGIN
    problem: str | None = None

    @property
    def episodes(self) -> int:
        """The least number of episodes that can show anything within these margins."""
        return max(MIN_EPISODES, least_episodes(self.driving))

    def __str__(self) -> str:
        return f"driving {self.driving:g}, reward {self.reward:g}"


DEFAULT = Margins()


def read_margins(tags: Mapping[str, str]) -> Margins:
    """The margins set by a registered model's tags, with defaults for the others."""
    read, problems = {DRIVING_TAG: RATE_MARGIN, REWARD_TAG: REWARD_MARGIN}, []
    for tag in read.keys() & tags.keys():
        try:
            value = float(tags[tag])
        except ValueError:
            value = 0.0
        if 0 < value <= MAX_MARGIN:
            read[tag] = value
        else:
            wanted = f"expected a share such as {read[tag]}, above 0 and at most {MAX_MARGIN}"
            problems.append(f"the policy's tag {tag} is {tags[tag]!a}, {wanted}")
    return Margins(read[DRIVING_TAG], read[REWARD_TAG], "; ".join(sorted(problems)) or None)
