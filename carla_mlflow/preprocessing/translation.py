"""Fitted scikit-learn transformers → graph modules that compute what scikit-learn computes.

A translation is first a program: a sequence of pieces, each of which turns feature rows into feature rows. Work on each
feature by itself is one kind of piece, `Columns`; two of these, one after the other or side by side, merge into one, so
most preprocessors end as a single piece. Nothing is merged that would then round differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from ..errors import ExportError
from .fitted import branches, check_fitted, described, inside, is_keyword
from .modules import Elementwise, RowNorm, Select, SideBySide, Translated
from .modules import Normalise as Normalise

_NEUTRAL = {"sub": 0.0, "div": 1.0, "mul": 1.0, "add": 0.0, "maximum": -np.inf, "minimum": np.inf}
"""Operations on a feature and its constant, by torch's names → the constant that changes nothing."""

Step = tuple[str, NDArray[np.float64]]


class Untranslatable(ExportError):  # noqa: N818 - says what the preprocessor is, not what went wrong
    """A preprocessor, or a part of one, that has no translation into the graph."""


@dataclass(frozen=True)
class Columns:
    """Which input column each output column takes, then the steps on it, each with one constant per column."""

    take: NDArray[np.intp]
    steps: tuple[Step, ...] = ()

    def then(self, after: Columns) -> Columns:
        """Merges two in sequence: selecting columns first and computing then gives the same as the reverse."""
        return Columns(self.take[after.take], (*((op, v[after.take]) for op, v in self.steps), *after.steps))

    def beside(self, right: Columns) -> Columns:
        """Merges two side by side: each skips the other's steps by a constant that changes nothing."""
        waiting, steps = (list(self.steps), list(right.steps)), []
        while any(waiting):
            for op, neutral in _NEUTRAL.items():
                if any(mine and mine[0][0] == op for mine in waiting):
                    parts = [
                        mine.pop(0)[1] if mine and mine[0][0] == op else np.full(len(part.take), neutral)
                        for part, mine in zip((self, right), waiting, strict=True)
                    ]
                    steps.append((op, np.concatenate(parts)))
        return Columns(np.concatenate([self.take, right.take]), tuple(steps))


@dataclass(frozen=True)
class Fork:
    """Programs on the same input, whose outputs are put side by side. Each contains a Columns."""

    programs: tuple[Program, ...]


Piece = Columns | Fork | RowNorm
Program = tuple[Piece, ...]


def translate(transformer: Any, width: int) -> nn.Module:
    """A fitted scikit-learn transformer as a graph module, (B, width) float32 → (B, F') float32.

    It computes in float64 as scikit-learn does, and casts once, at the end.

    Args:
        transformer: a StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, Normalizer, a FunctionTransformer
            without a function, "passthrough", or a Pipeline, ColumnTransformer or FeatureUnion of these. Subclasses
            are not translated, since they may compute something else.
        width: how many features the observation has.

    Raises:
        Untranslatable: it, or a part of it, has no translation; says which and where.
        ExportError: it was never fitted, or on another number of features.
    """
    check_fitted(transformer, width)
    return Translated(_modules(_program(transformer, width, ""), width))


def _program(transformer: Any, width: int, place: str) -> Program:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, Pipeline
    from sklearn.preprocessing import Normalizer

    kind = type(transformer)
    if transformer is None or is_keyword(transformer, "passthrough"):
        return ()
    if kind is Pipeline:
        program: Program = ()
        for name, step in transformer.steps:
            after = _program(step, _width(program, width), inside(place, transformer, name))
            program = _joined(program, after)
        return program
    if kind is ColumnTransformer or kind is FeatureUnion:
        return _fork(transformer, width, place)
    if kind is Normalizer:
        return (RowNorm(transformer.norm),)
    steps = tuple(
        (op, np.broadcast_to(np.asarray(constant, np.float64), width))
        for op, constant in _steps(transformer, place)
        if np.any(np.asarray(constant) != _NEUTRAL[op])
    )
    return (Columns(np.arange(width), steps),)


def _steps(transformer: Any, place: str) -> list[tuple[str, ArrayLike]]:
    """The steps in scikit-learn's own order and with its own operations, so that both round alike."""
    from sklearn import preprocessing as kinds

    t, kind = transformer, type(transformer)
    steps: list[tuple[str, ArrayLike | None]]
    if kind is kinds.StandardScaler:
        steps = [("sub", t.mean_ if t.with_mean else None), ("div", t.scale_ if t.with_std else None)]
    elif kind is kinds.RobustScaler:
        steps = [("sub", t.center_ if t.with_centering else None), ("div", t.scale_ if t.with_scaling else None)]
    elif kind is kinds.MinMaxScaler:
        low, high = t.feature_range if t.clip else (None, None)
        steps = [("mul", t.scale_), ("add", t.min_), ("maximum", low), ("minimum", high)]
    elif kind is kinds.MaxAbsScaler:
        low, high = (-1.0, 1.0) if getattr(t, "clip", False) else (None, None)
        steps = [("div", t.scale_), ("maximum", low), ("minimum", high)]
    elif kind is kinds.FunctionTransformer and t.func is None:
        steps = []
    else:
        function = f" with func={getattr(t.func, '__name__', t.func)}" if kind is kinds.FunctionTransformer else ""
        raise Untranslatable(f"the preprocessor {described(t, place)}{function} can't be translated into the graph")
    return [(op, constant) for op, constant in steps if constant is not None]


def _fork(composite: Any, width: int, place: str) -> Program:
    programs: list[Program] = []
    for branch in branches(composite):
        start = Columns(np.arange(width) if branch.columns is None else np.array(branch.columns))
        inner = _program(branch.transformer, len(start.take), inside(place, composite, branch.name))
        program = _joined((start,), inner)
        if branch.weight is not None:
            made = _width(program, width)
            program = _joined(program, (Columns(np.arange(made), (("mul", np.full(made, float(branch.weight))),)),))
        left, right = programs[-1] if programs else (), program
        if len(left) == len(right) == 1 and isinstance(left[0], Columns) and isinstance(right[0], Columns):
            programs[-1] = (left[0].beside(right[0]),)
        else:
            programs.append(program)
    if not programs:
        raise Untranslatable(f"the preprocessor {described(composite, place)} leaves no feature")
    return programs[0] if len(programs) == 1 else (Fork(tuple(programs)),)


def _joined(before: Program, after: Program) -> Program:
    if before and after and isinstance(before[-1], Columns) and isinstance(after[0], Columns):
        return (*before[:-1], before[-1].then(after[0]), *after[1:])
    return before + after


def _width(program: Program, width: int) -> int:
    for piece in program:
        if isinstance(piece, Columns):
            width = len(piece.take)
        elif isinstance(piece, Fork):
            width = sum(_width(branch, width) for branch in piece.programs)
    return width


def _modules(program: Program, width: int) -> list[nn.Module]:
    """The modules of a program, without selections of all columns in order and without empty arithmetic."""
    modules: list[nn.Module] = []
    for piece in program:
        if isinstance(piece, RowNorm):
            modules.append(piece)
        elif isinstance(piece, Fork):
            modules.append(SideBySide([nn.Sequential(*_modules(branch, width)) for branch in piece.programs]))
        else:
            if not np.array_equal(piece.take, np.arange(width)):
                modules.append(Select(piece.take))
            if piece.steps:
                modules.append(Elementwise(piece.steps))
        width = _width((piece,), width)
    return modules
