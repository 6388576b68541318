"""Heads: what the graph returns, and how its distribution parameters become the mode or a seeded sample.

The exported graph computes the mode itself (see `training_export.graphs.graph`); `mode` here is the same formula in
numpy, with which the graph is compared. Samples are drawn here, while serving.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

PARAMETERS: dict[str, tuple[str, ...]] = {
    "deterministic": (),
    "gaussian": ("mean", "std"),
    "squashed_gaussian": ("mean", "std"),
    "beta": ("alpha", "beta"),
    "categorical": ("logits",),
    "multi_categorical": ("logits",),
    "bernoulli": ("logits",),
}
"""For each head, what the graph returns after `raw`, in order: each (B, A), except logits, (B, K) for K choices.

`squashed_gaussian`: mean and std before tanh. `beta`: on the unit interval, which is then scaled to the raw bounds.
`multi_categorical`: one categorical distribution a raw dimension, their logits side by side in the order of the raw
dimensions. `bernoulli`: raw dimensions of 0 or 1, each with the logit of its 1: (B, A).
"""

CHOOSING = ("categorical", "multi_categorical", "bernoulli")
"""Heads whose raw actions are whole numbers from 0 on: indices of choices."""

POSITIVE = ("std", "alpha", "beta")
"""Parameters that are never below 0."""

MEANS = ("gaussian", "beta")
"""Heads whose deterministic action may be the mean; a squashed gaussian's has no closed form."""


def mode(head: str, wanted: str, parameters: Mapping[str, Array], low: Array, high: Array) -> Array:
    """The deterministic raw action, float32 (B, A), inside [low, high].

    Args:
        head: a key of PARAMETERS other than `deterministic`, whose graph returns the action itself.
        wanted: `mode` or, for MEANS, `mean`.
        parameters: as PARAMETERS names them.
        low: smallest raw action, (A,).
        high: largest raw action, (A,).
    """
    if head == "categorical":
        return np.asarray(parameters["logits"].argmax(axis=1), dtype=np.float32)[:, None]
    if head == "multi_categorical":
        chosen = [part.argmax(axis=1) for part in split_logits(parameters["logits"], high)]
        return np.stack(chosen, axis=1).astype(np.float32)
    if head == "bernoulli":
        return np.asarray(parameters["logits"] > 0, dtype=np.float32)
    if head == "beta":
        unit = _beta_mode(parameters["alpha"], parameters["beta"], wanted)
        return _clip(low + (high - low) * unit, low, high)
    if head == "squashed_gaussian":
        return _unsquash(parameters["mean"], low, high)
    return _clip(parameters["mean"], low, high)


def split_logits(logits: Array, high: Array) -> list[Array]:
    """The logits of each categorical distribution, given the largest index of each raw dimension, (A,)."""
    return np.split(logits, np.cumsum(high.astype(np.intp) + 1)[:-1], axis=-1)


def _beta_mode(alpha: Array, beta: Array, wanted: str) -> Array:
    mean = alpha / (alpha + beta)
    if wanted == "mean":
        return mean
    # Not alpha + beta - 2: when both are barely above 1, rounding their sum loses the small difference.
    peak = (alpha - 1) / np.maximum((alpha - 1) + (beta - 1), np.finfo(np.float32).tiny)
    # Roach's four cases (Zhang et al., ICCV 2021): a peak inside, at the low or the high end, or at both: the mean.
    cases = [(alpha > 1) & (beta > 1), (alpha <= 1) & (beta > 1), (alpha > 1) & (beta <= 1)]
    return np.select(cases, [peak, np.zeros_like(mean), np.ones_like(mean)], mean)


def _unsquash(values: Array, low: Array, high: Array) -> Array:
    return _clip(low + np.float32(0.5) * (np.tanh(values) + 1) * (high - low), low, high)


def _clip(values: Array, low: Array, high: Array) -> Array:
    return np.asarray(np.clip(values, low, high), dtype=np.float32)


def sample(
    head: str, parameters: Mapping[str, Array], low: Array, high: Array, generators: Iterator[np.random.Generator]
) -> Array:
    """Draws one raw action per row.

    Args:
        head: a key of PARAMETERS other than `deterministic`, which has nothing to draw from.
        parameters: what the graph returned, as PARAMETERS names them.
        low: smallest raw action, (A,).
        high: largest raw action, (A,).
        generators: one per row.

    Returns:
        float32 (B, A) inside [low, high]. A gaussian is clipped to the bounds, as Stable-Baselines3's `predict` does.
    """
    rows = zip(generators, *(parameters[name] for name in PARAMETERS[head]), strict=True)
    if head == "multi_categorical":
        parts = ((generator, split_logits(logits, high)) for generator, logits in rows)
        return np.stack([np.concatenate([_choice(generator, part) for part in each]) for generator, each in parts])
    drawn = np.stack([_DRAWS[head](generator, *values) for generator, *values in rows])
    if head == "squashed_gaussian":
        return _unsquash(drawn, low, high)
    if head == "beta":
        return _clip(low + (high - low) * drawn, low, high)
    return _clip(drawn, low, high)


def _normal(generator: np.random.Generator, mean: Array, std: Array) -> Array:
    return mean + std * generator.standard_normal(len(mean), dtype=np.float32)


def _beta(generator: np.random.Generator, alpha: Array, beta: Array) -> Array:
    return generator.beta(alpha.astype(np.float64), beta.astype(np.float64)).astype(np.float32)


def _choice(generator: np.random.Generator, logits: Array) -> Array:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    bins = np.cumsum(weights)
    drawn = np.searchsorted(bins, generator.random() * bins[-1], side="right")
    return np.array([min(int(drawn), len(bins) - 1)], dtype=np.float32)


def _flags(generator: np.random.Generator, logits: Array) -> Array:
    # P(u < sigmoid(x)), written so that no exponential overflows: log(u / (1 - u)) < x.
    drawn = generator.random(len(logits))
    with np.errstate(divide="ignore"):  # a drawn 0 becomes -inf, which is below every logit
        return np.asarray(np.log(drawn) - np.log1p(-drawn) < logits, dtype=np.float32)


_DRAWS: dict[str, Callable[..., Array]] = {
    "gaussian": _normal,
    "squashed_gaussian": _normal,
    "beta": _beta,
    "categorical": _choice,
    "bernoulli": _flags,
}
