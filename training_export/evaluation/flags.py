"""The flags that commands which drive or log a policy share: conditions, and the reward margin."""

from __future__ import annotations

import argparse
from typing import Any

from carla_mlflow.cli import file_to_write, natural, positive
from carla_mlflow.contract.seeds import PROMOTION_FIRST
from training_export.racetrack.conditions import Conditions


def racetrack_conditions(options: argparse.Namespace, training: dict[str, Any]) -> Conditions:
    """The conditions from the flags; by default, traffic as in training and episodes of the usual length."""
    traffic = training.get("traffic", 0) if options.traffic is None else options.traffic
    duration = Conditions.duration_s if options.duration is None else options.duration
    return Conditions(options.episodes, options.first_seed, traffic, duration)


def add_margin(command: Any) -> None:
    """Adds the flag of an absolute reward margin."""
    command.add_argument(
        "--reward-margin",
        type=positive(float),
        metavar="R",
        help="a version is as good with up to R less reward per episode (default: 5%% of the champion's)",
    )


def add_conditions(command: argparse.ArgumentParser, episodes: int, judges: bool = False) -> None:
    """Adds the flags of the conditions under which a policy drives; see `racetrack_conditions`.

    Args:
        command: gets the flags.
        episodes: their default number.
        judges: whether promotions may be judged by them, so that their seeds have no default before the flags are read.
    """
    group = command.add_argument_group("conditions")
    group.add_argument(
        "--episodes", type=positive(int), default=episodes, metavar="N", help="one per seed (default %(default)s)"
    )
    group.add_argument(
        "--first-seed",
        type=natural,
        default=None if judges else Conditions.first_seed,
        metavar="N",
        help=f"the seed of the first episode (default {Conditions.first_seed}, with --log {PROMOTION_FIRST}: "
        "training never sees these, and no card's figures are of the latter)"
        if judges
        else "the seed of the first episode (default %(default)s, which training never sees)",
    )
    group.add_argument(
        "--traffic", type=natural, metavar="N", help="the most other cars (default: as the policy was trained)"
    )
    group.add_argument(
        "--duration",
        type=positive(float),
        metavar="SECONDS",
        help=f"of an episode (default {Conditions.duration_s})",
    )
    group.add_argument("--gif", type=file_to_write, metavar="FILE", help="film the first episode into this file")
