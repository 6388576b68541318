"""What an evaluation left: one row an episode, and under which conditions it was driven. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from carla_mlflow.errors import RegistryError

POLICY = "policy"
BASELINES = {
    "baseline": "the baseline",
    "straight_ahead": "driving straight ahead",
    "random": "random actions",
}
"""Drivers beside the policy, in words; the first that is there is what a first champion is held against."""
REQUIRED = ("env", "env_version", "first_seed", "episodes")
CONDITIONS = (*REQUIRED, "traffic", "duration_s", "success_key", "collision_key", "reward_margin")
"""Only where all of these are equal, or absent, did two policies meet the same episodes and were judged alike."""
PARAMETERS = (*CONDITIONS, "env_config", "baseline")
"""An evaluation's parameters: its conditions, and what else has to be typed to drive under them again."""


class EpisodeRow(msgspec.Struct, frozen=True):
    """One episode; columns that are there for people alone are left out.

    Attributes:
        off_road: whether it ended beside the road; None where the environment does not say.
        success: whether it reached what it was to reach; None where the environment has no such thing.
    """

    driver: str
    seed: int
    reward: float
    collision: bool
    off_road: bool | None = None
    success: bool | None = None

    @property
    def failed(self) -> bool:
        """A collision, an end off the road, or no success."""
        return self.collision or bool(self.off_road) or self.success is False


Drives = dict[str, tuple[EpisodeRow, ...]]
"""Driver → its episodes, by seed."""


@dataclass(frozen=True)
class Evidence:
    """One evaluation of one artifact, as MLflow has it.

    Attributes:
        run_id: of the MLflow run.
        link: where a person looks at it.
        conditions: PARAMETERS → text.
        drives: what happened; empty with a problem.
        problem: why it can't be read as evidence, in words.
        self_reported: whether somebody logged what another simulator gave, rather than `evaluate` what it drove.
        evaluations: how often this artifact was evaluated, under whatever conditions.
    """

    run_id: str
    link: str
    conditions: Mapping[str, str]
    drives: Drives
    problem: str | None = None
    self_reported: bool = False
    evaluations: int = 1

    @property
    def source(self) -> str:
        """Where it is looked at, and whose word it is."""
        return f"{self.link} (self-reported)" if self.self_reported else self.link

    @property
    def baseline(self) -> str | None:
        """The driver that a first champion is held against; None when none drove beside the policy."""
        return next((driver for driver in BASELINES if self.drives.get(driver)), None)

    @property
    def reward_margin(self) -> float | None:
        """By how much an episode's mean reward may be less, in its own unit; None for a share of the other's."""
        text = self.conditions.get("reward_margin")
        return None if text is None else float(text)


def differing(conditions: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    """The conditions that are not equal."""
    return [key for key in CONDITIONS if conditions.get(key) != others.get(key)]


class _Table(msgspec.Struct):
    columns: list[str]
    data: list[list[Any]]


def read_drives(table: bytes) -> Drives:
    """The bytes of episodes.json → episodes.

    Raises:
        RegistryError: it is no such table; says what does not fit, and where.
    """
    try:
        read = msgspec.json.decode(table, type=_Table)
        if any(len(row) != len(read.columns) for row in read.data):
            raise RegistryError("episodes.json: a row has not as many values as there are columns")
        rows = [msgspec.convert(dict(zip(read.columns, row, strict=True)), EpisodeRow) for row in read.data]
    except (ValueError, RecursionError) as error:  # msgspec's own are ValueErrors too
        raise RegistryError(f"episodes.json: {error}") from error
    if not {"off_road", "success"} & set(read.columns):
        raise RegistryError("episodes.json: has neither off_road nor success, so nothing tells what failed")
    drives: dict[str, dict[int, EpisodeRow]] = {}
    for row in rows:
        if not math.isfinite(row.reward):
            raise RegistryError(f"episodes.json: seed {row.seed}: the reward is not finite")
        if row.seed in drives.setdefault(row.driver, {}):
            raise RegistryError(f"episodes.json: seed {row.seed} is there twice for {row.driver}")
        drives[row.driver][row.seed] = row
    return {driver: tuple(by_seed[seed] for seed in sorted(by_seed)) for driver, by_seed in drives.items()}
