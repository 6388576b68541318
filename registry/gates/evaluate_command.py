"""The command that a person types to evaluate a version. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from carla_mlflow.contract.card import Card
from registry.gates.episodes import Evidence
from registry.gates.judged_seeds import RACETRACK, may_repeat_seeds, seeds_problem
from registry.gates.latency_condition import LATENCY, latency_flag
from registry.gates.margins import MIN_EPISODES

OWN = {"env": "my_env.py:make", "success_key": "is_success"}
"""Placeholders for an environment that is not known."""
NOTE = "my_env.py:make stands for your environment (a gymnasium id, or a file and its function), is_success for its key"
_FLAGS = {
    "env": "--env",
    "env_config": "--env-config",
    "success_key": "--success-key",
    "collision_key": "--collision-key",
    "baseline": "--baseline",
    "reward_margin": "--reward-margin",
    "episodes": "--episodes",
    "first_seed": "--first-seed",
    "traffic": "--traffic",
    "duration_s": "--duration",
    "latency": "--latency",
    "budget_ms": "--budget-ms",
}


def drives_on_racetrack(card: Card) -> bool:
    """Whether the policy was trained on the racetrack, so that `evaluate` needs no --env."""
    return bool(card.training.get("env") == RACETRACK)


def evaluate_command(reference: str, card: Card | None, like: Evidence | None = None, least: int = MIN_EPISODES) -> str:
    """The command that logs evidence of a version.

    Args:
        reference: name@version.
        card: that version's, or that of one trained alike; None when it can't be read.
        like: evidence whose conditions the command repeats.
        least: how many episodes are needed.
    """
    if like is not None and like.self_reported:
        keys = {"--env": "env", "--env-version": "env_version", "--reward-margin": "reward_margin"}
        keys |= {"--latency": "latency", "--budget-ms": "budget_ms"}
        flags = [word for flag, key in keys.items() if key in like.conditions for word in (flag, like.conditions[key])]
        return _typed("log-evidence", reference, "episodes.csv", *flags)
    if like is not None:
        given = dict(like.conditions)
        if "traffic" in given:
            given.pop("env", None)  # the racetrack is the default
        if not may_repeat_seeds(like.conditions) or seeds_problem(like, card):
            given.pop("first_seed", None)  # whose default judges
        if LATENCY in given:
            given[LATENCY] = latency_flag(given[LATENCY], like.run_id)
    else:
        given = dict(OWN) if card is not None and not drives_on_racetrack(card) else {}
    if least > _episodes(given, MIN_EPISODES):
        given["episodes"] = str(least)
    flags = [word for key, flag in _FLAGS.items() if key in given for word in (flag, given[key])]
    return _typed("evaluate", reference, "--log", *flags)


def _episodes(given: Mapping[str, str], default: int) -> int:
    text = given.get("episodes", "")
    return int(text) if text.isdecimal() else default


def _typed(*words: str) -> str:
    """The command line; what others wrote into MLflow is quoted for a shell, without control characters."""
    safe = ("".join(letter if letter.isprintable() else "?" for letter in word) for word in words)
    return f"python -m training_export {shlex.join(safe)}"
