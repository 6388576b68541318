"""The evidence of an evaluation: one row per episode, and the conditions under which it was driven. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from carla_mlflow.errors import RegistryError
from registry.gates.latency_condition import BUDGET, LATENCY, Latency

POLICY = "policy"
BASELINES = {
    "baseline": "the baseline",
    "straight_ahead": "driving straight ahead",
    "random": "random actions",
}
"""Drivers beside the policy → in words; a first champion is compared with the first of them that drove."""
REQUIRED = ("env", "env_version", "first_seed", "episodes")
CONDITIONS = (
    *REQUIRED, "traffic", "duration_s", "success_key", "collision_key", "reward_margin", LATENCY, BUDGET
)  # fmt: skip
"""Two evaluations saw the same episodes, and counted them alike, only if each of these is equal, or absent, in both."""
PARAMETERS = (*CONDITIONS, "env_config", "baseline")
"""An evaluation's parameters: its conditions, and what else the command needs to repeat it."""


class EpisodeRow(msgspec.Struct, frozen=True):
    """One episode, without the table's columns that are only for people.

    Attributes:
        off_road: whether it ended off the road; None when the environment does not say.
        success: whether it reached its goal; None when the environment has none.
    """

    driver: str
    seed: int
    reward: float
    collision: bool
    off_road: bool | None = None
    success: bool | None = None

    @property
    def failed(self) -> bool:
        """Whether it had a collision, ended off the road, or had no success."""
        return self.collision or bool(self.off_road) or self.success is False


Drives = dict[str, tuple[EpisodeRow, ...]]
"""Driver → its episodes, by seed."""


@dataclass(frozen=True)
class Evidence:
    """One evaluation of one artifact, as MLflow has it.

    Attributes:
        run_id: the MLflow run's.
        link: the run's page, or its URI.
        conditions: name of PARAMETERS → text.
        drives: the episodes; empty when there is a problem.
        problem: why it can't be read as evidence, in words.
        self_reported: whether somebody logged another simulator's episodes, instead of `evaluate` its own.
        evaluations: how often this artifact was evaluated, under any conditions.
        latency: under which it drove; None where the world waited for its actions.
    """

    run_id: str
    link: str
    conditions: Mapping[str, str]
    drives: Drives
    problem: str | None = None
    self_reported: bool = False
    evaluations: int = 1
    latency: Latency | None = None

    @property
    def source(self) -> str:
        """The link, marked when the evidence is self-reported."""
        return f"{self.link} (self-reported)" if self.self_reported else self.link

    @property
    def baseline(self) -> str | None:
        """The driver that a first champion is compared with; None when none drove beside the policy."""
        return next((driver for driver in BASELINES if self.drives.get(driver)), None)

    @property
    def reward_margin(self) -> float | None:
        """How much less the mean reward of an episode may be, in its own unit; None when a share is used instead."""
        text = self.conditions.get("reward_margin")
        return None if text is None else float(text)


def differing(conditions: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    """The names of the conditions that differ."""
    return [key for key in CONDITIONS if conditions.get(key) != others.get(key)]


class _Table(msgspec.Struct):
    columns: list[str]
    data: list[list[Any]]


def read_drives(table: bytes) -> Drives:
    """The bytes of episodes.json → episodes by driver.

    Raises:
        RegistryError: the bytes are no such table; says what does not fit, and where.
    """
    try:
        read = msgspec.json.decode(table, type=_Table)
        if any(len(row) != len(read.columns) for row in read.data):
            raise RegistryError("episodes.json: a row has more or fewer values than there are columns")
        rows = [msgspec.convert(dict(zip(read.columns, row, strict=True)), EpisodeRow) for row in read.data]
    except (ValueError, RecursionError) as error:  # msgspec's own are ValueErrors too
        raise RegistryError(f"episodes.json: {error}") from error
    if not {"off_road", "success"} & set(read.columns):
        raise RegistryError(
            "episodes.json: has neither the column off_road nor success, so it is unknown which episodes failed"
        )
    drives: dict[str, dict[int, EpisodeRow]] = {}
    for row in rows:
        if not math.isfinite(row.reward):
            raise RegistryError(f"episodes.json: seed {row.seed}: the reward is not finite")
        if row.seed in drives.setdefault(row.driver, {}):
            raise RegistryError(f"episodes.json: seed {row.seed} is there twice for {row.driver}")
        drives[row.driver][row.seed] = row
    return {driver: tuple(by_seed[seed] for seed in sorted(by_seed)) for driver, by_seed in drives.items()}
