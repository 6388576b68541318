"""Whether evidence was driven on seeds that a promotion may be judged on. Pure; `contract/seeds.py` has the ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from carla_mlflow.contract.card import Card
from carla_mlflow.contract.seeds import CARD, PROMOTION, TRAINING, seeds_of_training
from registry.gates.episodes import POLICY, Evidence

RACETRACK = "racetrack-v1"
"""The environment that `python -m training_export train` trains on, and the default of `evaluate`."""
_OTHERS = {CARD: "of cards' own figures", TRAINING: "of training"}


def seeds_problem(evidence: Evidence, card: Card | None) -> str | None:
    """Why no promotion is judged on these episodes, in words; None where one may be.

    Args:
        evidence: readable.
        card: of the policy that drove; None when it is not known, so that only the environment's own ranges count.
    """
    seeds = [row.seed for row in evidence.drives.get(POLICY, ())]
    env = evidence.conditions.get("env")
    if env == RACETRACK:
        used = ((kind, what) for kind, what in _OTHERS.items() if any(seed in kind for seed in seeds))
        for kind, what in used:
            return f"{_count(seeds, kind)} are {what} ({_range(kind)}), not of promotions ({_range(PROMOTION)})"
        return None
    trained = seeds_of_training(card.training) if card is not None and card.training.get("env", env) == env else None
    if trained is not None and any(seed in trained for seed in seeds):
        return f"{_count(seeds, trained)} may have been used in training ({_range(trained)})"
    return None


def may_repeat_seeds(conditions: Mapping[str, str]) -> bool:
    """Whether the seeds of an evaluation may be those of one that judges."""
    first = conditions.get("first_seed", "")
    return conditions.get("env") != RACETRACK or (first.isdecimal() and int(first) in PROMOTION)


def _count(seeds: Sequence[int], kind: range) -> str:
    return f"the seeds of {sum(seed in kind for seed in seeds)} of its {len(seeds)} episodes"


def _range(kind: range) -> str:
    return f"{kind.start:,} and above" if kind is TRAINING else f"{kind.start:,} to {kind.stop - 1:,}"
