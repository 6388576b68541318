"""By how much a challenger may be worse, and how many episodes it takes to show that it is not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from registry.gates.intervals import least_episodes

RATE_MARGIN = 0.05
"""One episode in twenty more may fail."""
REWARD_MARGIN = 0.05
"""Of the other's mean reward: a twentieth again."""
SAFER_MARGIN = 0.5
"""Instead of it for whoever is safer beyond doubt: some reward may go for safety, but a car that crawls is safe too."""
MIN_EPISODES = 60
"""59 without one that fails where the champion's does not show, with 95 % confidence, that at most 5 % are such
(1 - 0.05 ** (1 / 59) = 4.95 %). A narrower margin takes more; see `Margins.episodes`."""
MAX_MARGIN = 0.5
DRIVING_TAG, REWARD_TAG = "gate.driving.margin", "gate.reward.margin"
"""Tags of the registered model that set a policy's own margins."""


@dataclass(frozen=True)
class Margins:
    """A policy's margins.

    Attributes:
        driving: of the share of episodes with a collision, and with a failure of any kind.
        reward: as a share of the other's mean reward; evidence with a reward margin of its own has that instead.
        problem: why a tag can't be read; the defaults stand in for it then.
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
    """The margins that the tags of a registered model set; the defaults where they set none."""
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
