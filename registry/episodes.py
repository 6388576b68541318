"""What an evaluation left: one row an episode, and under which conditions it was driven. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from carla_mlflow.errors import RegistryError

POLICY, STRAIGHT_AHEAD = "policy", "straight_ahead"
"""Drivers of a row: the policy itself, and one that holds its speed and never steers."""
CONDITIONS = ("env", "env_version", "traffic", "duration_s", "first_seed", "episodes")
"""An evaluation's parameters: only where all of them are equal did two policies meet the same episodes."""


class EpisodeRow(msgspec.Struct, frozen=True):
    """One episode; columns that are there for people alone are left out."""

    driver: str
    seed: int
    reward: float
    collision: bool
    off_road: bool

    @property
    def failed(self) -> bool:
        """Ended by a collision or off the road."""
        return self.collision or self.off_road


Drives = dict[str, tuple[EpisodeRow, ...]]
"""Driver → its episodes, by seed."""


@dataclass(frozen=True)
class Evidence:
    """One evaluation of one artifact, as MLflow has it.

    Attributes:
        run_id: of the MLflow run.
        link: where a person looks at it.
        conditions: CONDITIONS → text.
        drives: what happened; empty with a problem.
        problem: why it can't be read as evidence, in words.
    """

    run_id: str
    link: str
    conditions: Mapping[str, str]
    drives: Drives
    problem: str | None = None


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
    drives: dict[str, dict[int, EpisodeRow]] = {}
    for row in rows:
        if not math.isfinite(row.reward):
            raise RegistryError(f"episodes.json: seed {row.seed}: the reward is not finite")
        if row.seed in drives.setdefault(row.driver, {}):
            raise RegistryError(f"episodes.json: seed {row.seed} is there twice for {row.driver}")
        drives[row.driver][row.seed] = row
    return {driver: tuple(by_seed[seed] for seed in sorted(by_seed)) for driver, by_seed in drives.items()}
