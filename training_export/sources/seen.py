"""What training saw of each observation: by a preprocessor's or VecNormalize's statistics, or by rows of driving."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from carla_mlflow.contract.card_sections import FieldCard, Seen, observation_spec
from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.preprocessing.fitted import branches
from training_export.sources.trained import Arrays

SPREAD = 5.0
"""Standard deviations on either side of a mean: beyond lies at most 1 value in 25, whatever the distribution
(Chebyshev), and of a normal one 1 in 1.7 million."""

Range = tuple[NDArray[np.float64], NDArray[np.float64]]
Section = dict[str, FieldCard]


def of_moments(mean: Any, std: Any) -> Range:
    """Mean and standard deviation, of one shape → from where to where."""
    mean, reach = np.asarray(mean, dtype=np.float64), SPREAD * np.asarray(std, dtype=np.float64)
    return mean - reach, mean + reach


def of_scaler(transformer: Any, specs: ObservationSpec) -> dict[str, Range]:
    """What a fitted transformer of the flat observation tells of its input, by name; of others nothing."""
    sizes = [int(np.prod(spec.shape, dtype=int)) for spec in specs]
    low, high = _flat_range(transformer, sum(sizes))
    found, at = {}, 0
    for spec, size in zip(specs, sizes, strict=True):
        one, two = low[at : at + size], high[at : at + size]
        if np.isfinite(one).all() and np.isfinite(two).all():
            found[spec.name] = one.reshape(spec.shape), two.reshape(spec.shape)
        at += size
    return found


def _flat_range(fitted: Any, width: int) -> Range:
    """Of each feature that a scaler, a Pipeline's first step or a ColumnTransformer's part was fitted on; else NaN."""
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
        return of_moments(fitted.center_, fitted.scale_)  # of an interquartile range, which is wider than the deviation
    return low, high


def of_rows(rows: Arrays) -> dict[str, Range]:
    """Rows of driving, each (N, *shape): the smallest and the largest."""
    return {name: (array.min(axis=0), array.max(axis=0)) for name, array in rows.items()}


def with_seen(section: Section, *ranges: Mapping[str, Range]) -> Section:
    """The observation section with what was seen: all ranges together, inside the bounds.

    What the author says himself stays; images have no range.
    """
    found = dict(section)
    for spec in observation_spec(section):
        told = [each[spec.name] for each in ranges if spec.name in each]
        if told and spec.dtype == "float32" and section[spec.name].seen is UNSET:
            low = np.minimum.reduce([np.broadcast_to(one, spec.shape) for one, _ in told])
            high = np.maximum.reduce([np.broadcast_to(two, spec.shape) for _, two in told])
            low, high = np.clip(low, spec.lows, spec.highs), np.clip(high, spec.lows, spec.highs)
            seen = Seen(_as_written(low, np.min), _as_written(high, np.max))
            found[spec.name] = msgspec.structs.replace(section[spec.name], seen=seen)
    return found


def unknown(section: Section) -> list[str]:
    """The elements without a bound on a side of which nobody says what was seen: `observation[1]`, `speed`."""
    found = []
    for spec in observation_spec(section):
        if spec.seen is None:
            row = np.atleast_1d(np.logical_or(*spec.is_open))
            found += (
                [spec.name]
                if row.all()
                else [
                    f"{spec.name}[…, {at}]" if len(spec.shape) > 1 else f"{spec.name}[{at}]"
                    for at in np.flatnonzero(row)
                ]
            )
    return found


def _as_written(values: NDArray[np.float64], reduce: Callable[..., Any]) -> float | list[float]:
    """One number when all elements share it, else a list along the last axis; the shortest that are that float32."""
    row = reduce(values.reshape(-1, values.shape[-1] if values.ndim else 1), axis=0)
    written = [float(str(np.float32(value))) for value in row]
    return written[0] if len(set(written)) == 1 else written
