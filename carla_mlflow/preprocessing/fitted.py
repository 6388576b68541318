"""How scikit-learn composes fitted transformers, and whether one was fitted on the features it will be given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ExportError


@dataclass(frozen=True)
class Branch:
    """One of several transformers that run on the same input and whose outputs are put side by side.

    Attributes:
        columns: the input columns that it takes, in its order; None for all.
        weight: the factor by which its output is multiplied; None for no factor.
    """

    name: str
    transformer: Any
    columns: list[int] | None
    weight: float | None


def type_name(value: Any) -> str:
    """The name of a type for people: short for scikit-learn's and Python's own types, in full for others."""
    kind = type(value)
    known = kind.__module__.partition(".")[0] in ("sklearn", "builtins")
    return kind.__qualname__ if known else f"{kind.__module__}.{kind.__qualname__}"


def described(transformer: Any, place: str) -> str:
    """A transformer's name for an error's text; `place` is where it stands, such as `Pipeline.scale`, or empty."""
    return f"{type_name(transformer)} (at {place})" if place else type_name(transformer)


def inside(place: str, composite: Any, name: str) -> str:
    """The place of the part `name` of a composite that itself stands at `place`."""
    return f"{place or type_name(composite)}.{name}"


def is_keyword(transformer: Any, *words: str) -> bool:
    """Whether one of scikit-learn's keywords, such as "drop", stands in place of a transformer."""
    return isinstance(transformer, str) and transformer in words


def branches(composite: Any) -> list[Branch]:
    """The parts of a fitted ColumnTransformer or FeatureUnion that give any output, in its order.

    Raises:
        ExportError: it selects columns that it can't have been fitted with.
    """
    weights = composite.transformer_weights or {}
    parts: list[tuple[str, Any, list[int] | None]]
    if hasattr(composite, "transformer_list"):
        parts = [(name, transformer, None) for name, transformer in composite.transformer_list]
    else:
        parts = [(name, transformer, _indices(composite, key)) for name, transformer, key in composite.transformers_]
    return [
        Branch(name, transformer, columns, weights.get(name))
        for name, transformer, columns in parts
        if not is_keyword(transformer, "drop") and columns != []
    ]


def _indices(composite: Any, key: Any) -> list[int]:
    """The indices that `key` selects: integers, names, a mask, or a slice of integers or names, as in scikit-learn."""
    names = [str(name) for name in getattr(composite, "feature_names_in_", ())]
    try:
        if isinstance(key, slice):
            if isinstance(key.start, str) or isinstance(key.stop, str):  # a slice by name includes its end
                first = 0 if key.start is None else names.index(key.start)
                return list(range(first, len(names) if key.stop is None else names.index(key.stop) + 1))
        else:
            keys: list[Any] = [key] if np.isscalar(key) else list(key)
            if not keys:
                return []
            if isinstance(keys[0], str):
                return [names.index(name) for name in keys]
            key = np.asarray(keys)
        return [int(index) for index in np.arange(composite.n_features_in_)[key]]
    except (IndexError, ValueError) as error:
        raise ExportError(
            f"the preprocessor {type_name(composite)} selects columns that it does not have: {error}"
        ) from error


def nested(composite: Any) -> Iterator[Any]:
    """The transformers directly inside a Pipeline, ColumnTransformer or FeatureUnion, or a subclass; else none."""
    for attribute in ("steps", "transformers_", "transformer_list"):
        entries = getattr(composite, attribute, None)
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, tuple) and hasattr(entry[1], "transform"):
                yield entry[1]


def check_fitted(transformer: Any, width: int) -> None:
    """Checks that a transformer, and each one inside it, was fitted on as many features as it will be given.

    Args:
        transformer: any object with `transform`; one without `n_features_in_` is assumed to fit.
        width: how many features the observation has.

    Raises:
        ExportError: it was never fitted, or on another number of features.
    """
    _width_after(transformer, width, "")


def _width_after(transformer: Any, width: int | None, place: str) -> int | None:
    """How many features come out; None, here and for `width`, when unknown."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, Pipeline

    if transformer is None or is_keyword(transformer, "passthrough"):
        return width
    if type(transformer) is Pipeline:
        for name, step in transformer.steps:
            width = _width_after(step, width, inside(place, transformer, name))
        return width
    if type(transformer) is not FeatureUnion:  # which has no state of its own
        _check_one(transformer, width, place)
    if type(transformer) not in (ColumnTransformer, FeatureUnion):
        return width if _keeps_width(transformer) else None
    widths = []
    for branch in branches(transformer):
        taken = width if branch.columns is None else len(branch.columns)
        widths.append(_width_after(branch.transformer, taken, inside(place, transformer, branch.name)))
    return None if None in widths else sum(w for w in widths if w is not None)


def _check_one(transformer: Any, width: int | None, place: str) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    if isinstance(transformer, type):
        raise ExportError(f"the preprocessor {transformer.__name__} is a class, not a fitted transformer")
    try:
        check_is_fitted(transformer)
    except NotFittedError as error:
        if not _is_stateless(transformer, width):
            raise ExportError(
                f"the preprocessor {described(transformer, place)} was never fitted; if fitting it keeps nothing, let "
                "its __sklearn_is_fitted__ return True"
            ) from error
    except (AttributeError, TypeError):
        pass  # not a scikit-learn estimator: nothing says what fitting would leave in it
    fitted_on = getattr(transformer, "n_features_in_", None)
    if width is not None and fitted_on is not None and fitted_on != width:
        given = f"it is given {width}" if place else f"the observation has {width}"
        raise ExportError(
            f"the preprocessor {described(transformer, place)} was fitted on {fitted_on} features, {given}"
        )


def _is_stateless(transformer: Any, width: int | None) -> bool:
    """Whether the author's own transformer keeps no state when fitted, so that scikit-learn can't see that it was."""
    from sklearn.base import clone

    if type(transformer).__module__.partition(".")[0] == "sklearn":
        return False
    try:
        tried = clone(transformer)
        before = _attributes(tried)
        return _attributes(tried.fit(np.random.default_rng(0).random((16, width or 1)))) == before
    except Exception:  # the author's fit may raise anything
        return False


def _attributes(instance: Any) -> dict[str, Any]:
    """An object's attributes in a form that can be compared before and after fitting."""
    return {
        name: value.tobytes() if isinstance(value, np.ndarray) else repr(value)
        for name, value in vars(instance).items()
    }


def _keeps_width(transformer: Any) -> bool:
    from sklearn import preprocessing as kinds

    one_to_one = (kinds.StandardScaler, kinds.MinMaxScaler, kinds.MaxAbsScaler, kinds.RobustScaler, kinds.Normalizer)
    identity = type(transformer) is kinds.FunctionTransformer and transformer.func is None
    return identity or type(transformer) in one_to_one


def disable_workers(transformer: Any) -> None:
    """Makes a transformer compute in this process: the workers used for fitting would cost seconds on a single row."""
    if getattr(transformer, "n_jobs", None) is not None:
        transformer.n_jobs = None
    for part in nested(transformer):
        disable_workers(part)
