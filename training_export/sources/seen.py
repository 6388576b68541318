"""The range of each observation in training, from a preprocessor's or VecNormalize's statistics, or from driving."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from carla_mlflow.contract.field_card import FieldCard, Seen, observation_spec
from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.preprocessing.fitted import branches
from training_export.sources.trained import Arrays

SPREAD = 5.0
"""Standard deviations on either side of a mean: at most 1 value in 25 lies beyond, whatever the distribution
(Chebyshev), and 1 in 1.7 million of a normal one."""

Range = tuple[NDArray[np.float64], NDArray[np.float64]]
Section = dict[str, FieldCard]


def of_moments(mean: Any, std: Any) -> Range:
    """Mean and standard deviation, of the same shape → the range that counts as seen."""
    mean, reach = np.asarray(mean, dtype=np.float64), SPREAD * np.asarray(std, dtype=np.float64)
    return mean - reach, mean + reach


def of_scaler(transformer: Any, specs: ObservationSpec) -> dict[str, Range]:
    """Observation → its range in training, where a fitted transformer of the flat observation shows it."""
    width = sum(int(np.prod(spec.shape, dtype=int)) for spec in specs)
    return split_range(_flat_range(transformer, width), specs)


def split_range(flat: Range, specs: ObservationSpec) -> dict[str, Range]:
    """The range of each observation, from that of all of them flat, in the order of the specs; none that is NaN."""
    low, high = flat
    ranges, at = {}, 0
    for spec in specs:
        size = int(np.prod(spec.shape, dtype=int))
        one, two = low[at : at + size], high[at : at + size]
        if np.isfinite(one).all() and np.isfinite(two).all():
            ranges[spec.name] = one.reshape(spec.shape), two.reshape(spec.shape)
        at += size
    return ranges


def _flat_range(fitted: Any, width: int) -> Range:
    """The range of each feature on which a scaler was fitted; NaN when unknown.

    Looks into a Pipeline's first step, and into a ColumnTransformer's parts.
    """
    low, high = np.full(width, np.nan), np.full(width, np.nan)
    kind = type(fitted).__name__
    if kind == "Pipeline":
        return _flat_range(fitted.steps[0][1], width)
    if kind == "ColumnTransformer":
        for branch in branches(fitted):
            columns = list(range(width)) if branch.columns is None else branch.columns
            low[columns], high[columns] = _flat_range(branch.transformer, len(columns))
    elif kind == "StandardScaler" and fitted.with_mean and fitted.with_std:
        return of_moments(fitted.mean_, np.sqrt(fitted.var_))
    elif kind == "MinMaxScaler":
        return fitted.data_min_, fitted.data_max_
    elif kind == "MaxAbsScaler":
        return -fitted.max_abs_, fitted.max_abs_
    elif kind == "RobustScaler" and fitted.with_centering and fitted.with_scaling:
        return of_moments(fitted.center_, fitted.scale_)  # scale_ is the interquartile range, wider than the deviation
    return low, high


def of_rows(rows: Arrays) -> dict[str, Range]:
    """The smallest and largest value of each observation, over rows of driving, each (N, *shape)."""
    return {name: (array.min(axis=0), array.max(axis=0)) for name, array in rows.items()}


def with_seen(section: Section, *ranges: Mapping[str, Range]) -> Section:
    """The observation section with `seen` filled in: all ranges together, clipped to the bounds.

    A `seen` of the author's stays; images get none.
    """
    completed = dict(section)
    for spec in observation_spec(section):
        known = [each[spec.name] for each in ranges if spec.name in each]
        if known and spec.dtype == "float32" and spec.choices is None and section[spec.name].seen is UNSET:
            low = np.minimum.reduce([np.broadcast_to(one, spec.shape) for one, _ in known])
            high = np.maximum.reduce([np.broadcast_to(two, spec.shape) for _, two in known])
            low, high = np.clip(low, spec.lows, spec.highs), np.clip(high, spec.lows, spec.highs)
            seen = Seen(_as_written(low, np.min), _as_written(high, np.max))
            completed[spec.name] = msgspec.structs.replace(section[spec.name], seen=seen)
    return completed


def unknown(section: Section) -> list[str]:
    """Elements that lack a bound and whose range in training is unknown, such as `observation[1]` or `speed`."""
    elements = []
    for spec in observation_spec(section):
        if spec.seen is None:
            is_open = np.asarray(np.logical_or(*spec.is_open))
            if is_open.all():
                elements.append(spec.name)
            elif is_open.any():
                beyond = ["…"] * (is_open.ndim < len(spec.shape))
                elements += [f"{spec.name}[{', '.join([*beyond, *map(str, at)])}]" for at in np.argwhere(is_open)]
    return elements


def _as_written(values: NDArray[np.float64], reduce: Callable[..., Any]) -> float | list[float]:
    """One number if all elements share it, else a list along the last axis; the shortest text of each float32."""
    row = reduce(values.reshape(-1, values.shape[-1] if values.ndim else 1), axis=0)
    written = [float(str(np.float32(value))) for value in row]
    return written[0] if len(set(written)) == 1 else written
