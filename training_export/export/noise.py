"""How far a trained policy differs from itself, which determines how far an exported graph may differ from it.

float32 rounds differently for another number of rows, and a network may amplify that: public DDPG, TD3 and SAC policies
differ from their own `predict` by 1e-4 of an action. An exported graph computes the same in yet another order.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from carla_mlflow.artifact.golden import Golden
from carla_mlflow.artifact.rollouts import next_key
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.card_rules import MAX_TOLERANCE
from carla_mlflow.contract.card_sections import Parity
from carla_mlflow.contract.heads import split_logits
from carla_mlflow.contract.specs import ObservationSpec
from training_export.sources.trained import Arrays, TrainedPolicy

MARGIN = 4.0
"""The tolerance is this many times the measured noise, which is that of one machine and of some observations only."""
SINGLE_ROWS, LARGE_ROWS = 256, 32
"""Observations that are run one by one; fewer when they are large."""


@dataclass(frozen=True)
class Noise:
    """How far a trained policy differs from itself: a single row from a batch, and float32 from float64.

    Attributes:
        largest: the largest difference, in the unit of the value (raw action, control, the head's parameters).
        excess: the largest amount by which MARGIN times a difference exceeds the default relative tolerance, over all
            values of an artifact that are compared.
        choosing: likewise, over the values by which a policy that chooses does so.
        flips: (B,), the rows in which a choice is not always the same.
    """

    largest: float
    excess: float
    choosing: float
    flips: NDArray[np.bool_]

    @property
    def parity(self) -> Parity:
        """The tolerance that covers the noise: at least the default, at most MAX_TOLERANCE."""
        if self.excess <= Parity().atol:
            return Parity()
        return Parity(atol=min(round_up(self.excess), MAX_TOLERANCE))


def round_up(positive: float) -> float:
    """The next number of two digits."""
    unit = 10.0 ** (math.floor(math.log10(positive)) - 1)
    return float(f"{math.ceil(positive / unit) * unit:.1e}")


class InFloat64(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context manager in which torch, TorchScript too, computes in float64 instead of float32."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(_widened, (args, kwargs or {}))
        return func(*args, **kwargs)


def _widened(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.double() if value.dtype == torch.float32 else value
    return torch.float64 if value is torch.float32 else value


def measure_noise(trained: TrainedPolicy, specs: ObservationSpec, batch: Arrays) -> Noise:
    """How far the trained policy's answers to a batch differ from those to single rows, and from those in float64."""
    rows = len(batch[specs[0].name])
    count = min(rows, LARGE_ROWS if specs.is_large else SINGLE_ROWS)
    single = np.arange(count) * rows // count
    compared = single if specs.is_large else np.arange(rows)
    expected = _answers(trained, batch, compared)
    alone = [_answers(trained, batch, np.array([row])) for row in single]
    again = [(single, {name: np.concatenate([one[name] for one in alone]) for name in expected})]
    with contextlib.suppress(Exception), InFloat64():  # type: ignore[no-untyped-call]  # an author's network may require float32
        again.append((compared, _answers(trained, batch, compared)))
    largest, excess = 0.0, dict.fromkeys(expected, 0.0)
    flips = np.zeros(rows, dtype=np.bool_)
    for at, answers in again:
        wanted = {name: array[np.searchsorted(compared, at)].astype(np.float64) for name, array in expected.items()}
        flips[at] |= (answers.pop("choice") != wanted.pop("choice")).any(axis=1)
        for name, array in answers.items():
            apart = np.nan_to_num(np.abs(array - wanted[name]), nan=0.0, posinf=0.0)
            largest = max(largest, float(apart.max()))
            beyond = float((MARGIN * apart - Parity().rtol * np.abs(wanted[name])).max())
            excess[name] = max(excess[name], beyond)
    values = excess.pop("values", 0.0)  # no artifact has these
    return Noise(largest, max(excess.values()), max(values, excess.get("logits", 0.0)), flips)


def decided(trained: TrainedPolicy, batch: Arrays, answer: Golden, noise: Noise, parity: Parity) -> NDArray[np.bool_]:
    """(B,): the rows whose best two choices differ by more than rounding may change; all rows if it does not choose."""
    following = {} if answer.rollouts is None else answer.rollouts.next
    found = rounded(trained, batch, answer)
    numbers = {name: array for name, array in found.items() if name not in map(next_key, following)}
    clear = np.ones(len(answer.raw), dtype=np.bool_)
    if not chooses(trained) or not numbers:
        return clear
    for values in _of_each_choice(trained.action, next(iter(numbers.values()))):
        second, best = np.sort(values, axis=1)[:, -2:].T
        clear &= best - second > 2 * (max(parity.atol, noise.choosing) + parity.rtol * np.abs(best))
    return clear


def _of_each_choice(action: ActionCard, values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The values by which each raw dimension is chosen, (B, K) each; a flag's are its logit, and 0 for its absence."""
    if action.head == "bernoulli":
        return [np.stack([np.zeros_like(logit), logit], axis=1) for logit in values.T]
    return split_logits(values, action.bounds[1])


def rounded(trained: TrainedPolicy, batch: Arrays, answer: Golden) -> dict[str, NDArray[np.float32]]:
    """The numbers that rounding may change: the answer's; of a choice, those by which it is made, if known."""
    if not chooses(trained):
        return answer.answers
    if answer.distribution or trained.values is None:
        return {name: array for name, array in answer.answers.items() if name not in {"raw", "action"}}
    return {"values": trained.values(batch)}


def chooses(trained: TrainedPolicy) -> bool:
    """Whether the action is a choice, which rounding either leaves as it is or changes altogether."""
    return bool(trained.action.choice_counts)


def _answers(trained: TrainedPolicy, batch: Arrays, rows: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    """`rounded` for some rows, and `choice`, the chosen indices (no columns if the policy does not choose)."""
    picked = {name: array[rows] for name, array in batch.items()}
    answer = trained.answer(picked)
    choice = answer.raw if chooses(trained) else answer.raw[:, :0]
    return {"choice": choice, **rounded(trained, picked, answer)}
