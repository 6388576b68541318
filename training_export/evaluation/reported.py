"""Reads a report of episodes driven in a simulator elsewhere: a CSV file with one row per episode."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from carla_mlflow.errors import DrivingError
from training_export.evaluation.own_driving import OwnEpisode

COLUMNS = ("driver", "seed", "success", "collision", "reward")
POLICY, BASELINES = "policy", ("baseline", "straight_ahead", "random")
"""Drivers: the policy itself, and those that a first champion is compared with."""
MAX_BYTES = 16 << 20
"""The limit of the file: some hundred thousand episodes, as many as the gates read."""
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}

Drives = dict[str, list[OwnEpisode]]


def read_reported(path: Path) -> Drives:
    """Reads a report.

    Args:
        path: CSV in UTF-8 with a first line that names COLUMNS, in any order; other columns are ignored.

    Returns:
        Driver → its episodes, sorted by seed; the policy comes first.

    Raises:
        DrivingError: the report is invalid; says what is wrong, and in which line.
    """
    if path.stat().st_size > MAX_BYTES:
        raise DrivingError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
    drives: dict[str, dict[int, OwnEpisode]] = {POLICY: {}}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for line, driver, episode in _rows(path, csv.DictReader(file, strict=True)):
                if episode.seed in drives.setdefault(driver, {}):
                    raise DrivingError(f"{path}, line {line}: seed {episode.seed} is there twice for {driver}")
                drives[driver][episode.seed] = episode
    except (UnicodeDecodeError, csv.Error) as error:
        raise DrivingError(f"{path}: not CSV in UTF-8: {error}") from error
    if not drives[POLICY]:
        raise DrivingError(f"{path}: has no episode of the driver {POLICY!r}")
    for driver, episodes in drives.items():
        if episodes.keys() != drives[POLICY].keys():
            raise DrivingError(f"{path}: {driver} drove other seeds than the policy, so they can't be compared")
    return {driver: [episodes[seed] for seed in sorted(episodes)] for driver, episodes in drives.items()}


def _rows(path: Path, reader: csv.DictReader[str]) -> Iterator[tuple[int, str, OwnEpisode]]:
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise DrivingError(f"{path}: has no column {', '.join(missing)}; expected {', '.join(COLUMNS)}")
    for row in reader:
        try:
            yield reader.line_num, _driver(row["driver"]), _episode(row)
        except ValueError as error:
            raise DrivingError(f"{path}, line {reader.line_num}: {error}") from error


def _driver(text: str | None) -> str:
    if text not in (POLICY, *BASELINES):
        raise ValueError(f"driver {text!a:.40}; expected {', '.join((POLICY, *BASELINES))}")
    return text


def _episode(row: dict[str, str]) -> OwnEpisode:
    seed = row["seed"] or ""
    if not (seed.isascii() and seed.isdigit() and len(seed) <= 18):
        raise ValueError(f"seed {seed!a:.40}; expected a whole number from 0 on")
    try:
        reward = float(row["reward"] or "")
    except ValueError:
        reward = math.nan
    if not math.isfinite(reward):
        raise ValueError(f"reward {row['reward']!a:.40}; expected a finite number")
    collision, success = (_boolean(name, row[name]) for name in ("collision", "success"))
    return OwnEpisode(int(seed), reward=reward, collision=collision, success=success)


def _boolean(name: str, text: str | None) -> bool:
    value = _BOOLEANS.get((text or "").strip().lower())
    if value is None:
        raise ValueError(f"{name} {text!a:.40}; expected true or false, 1 or 0")
    return value
