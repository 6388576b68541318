"""The measures in which two policies are compared: each is a loss per episode, so that more is worse. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from registry.gates.episodes import EpisodeRow
from registry.gates.margins import RATE_MARGIN, REWARD_MARGIN


@dataclass(frozen=True)
class Measure:
    """What is compared: a loss per episode, so that more is worse.

    Attributes:
        name: in words.
        loss: the loss of an episode; 0 or 1 unless `relative`.
        margin: how much worse the mean loss may be; when `relative`, as a share of the other's mean reward.
        relative: whether the loss has a scale of its own, as reward has.
        own_margin: how much worse it may be on that scale; replaces the share when not None.
    """

    name: str
    loss: Callable[[EpisodeRow], float]
    margin: float
    relative: bool = False
    own_margin: float | None = None


COLLISIONS = Measure("collisions", lambda row: float(row.collision), RATE_MARGIN)
FAILURES = Measure("collisions or off road", lambda row: float(row.failed), RATE_MARGIN)
REWARD = Measure("reward", lambda row: -row.reward, REWARD_MARGIN, relative=True)
