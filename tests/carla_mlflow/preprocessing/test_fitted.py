from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, Normalizer, PolynomialFeatures, StandardScaler

from carla_mlflow.errors import ExportError
from carla_mlflow.preprocessing.fitted import check_fitted

RNG = np.random.default_rng(0)
FITTED_ON = RNG.normal([5, 0, 100, 7], [3, 1e-3, 50, 1], (200, 4))
WIDTH = 4


class Homemade(StandardScaler):
    pass


PARTLY = Pipeline([("scale", StandardScaler().fit(FITTED_ON)), ("range", MinMaxScaler())])
NARROW = Pipeline([("scale", StandardScaler().fit(FITTED_ON)), ("range", MinMaxScaler().fit(FITTED_ON[:, :2]))])
COLUMNS = ColumnTransformer([("speed", StandardScaler(), [0, 1]), ("none", MinMaxScaler(), [])]).fit(FITTED_ON)
OTHER_COLUMNS = ColumnTransformer([("speed", StandardScaler(), [0, 1])]).fit(FITTED_ON[:, :3])
AFTER_COLUMNS = Pipeline([("columns", COLUMNS), ("range", MinMaxScaler().fit(FITTED_ON))])


@pytest.mark.parametrize(
    ("transformer", "problem"),
    [
        (StandardScaler(), "StandardScaler was never fitted"),
        (StandardScaler, "StandardScaler is a class, not a fitted transformer"),
        (PolynomialFeatures(), "PolynomialFeatures was never fitted"),
        (ColumnTransformer([("a", StandardScaler(), [0])]), "ColumnTransformer was never fitted"),
        (make_union(StandardScaler()), r"StandardScaler \(at FeatureUnion\.standardscaler\) was never fitted"),
        (PARTLY, r"MinMaxScaler \(at Pipeline\.range\) was never fitted"),
        (Homemade(), r"\.Homemade was never fitted"),
        (StandardScaler().fit(FITTED_ON[:, :3]), "StandardScaler was fitted on 3 features, the observation has 4"),
        (PCA(1).fit(FITTED_ON[:, :2]), "PCA was fitted on 2 features, the observation has 4"),
        (Normalizer().fit(FITTED_ON[:, :3]), "Normalizer was fitted on 3 features, the observation has 4"),
        (NARROW, r"MinMaxScaler \(at Pipeline\.range\) was fitted on 2 features, it is given 4"),
        (AFTER_COLUMNS, r"MinMaxScaler \(at Pipeline\.range\) was fitted on 4 features, it is given 2"),
        (make_pipeline(OTHER_COLUMNS), r"ColumnTransformer \(at .*\) was fitted on 3 features, it is given 4"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_was_fitted_on_something_else_is_refused_in_words(transformer: Any, problem: str):
    with pytest.raises(ExportError, match=problem):
        check_fitted(transformer, WIDTH)


class Clip(BaseEstimator, TransformerMixin):
    """Has nothing to keep from its fit, and does not say so."""

    def fit(self, X: Any, y: Any = None) -> Clip:  # noqa: N803
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803
        return np.clip(X, -1, 1)


class Centre(Clip):
    """Has something to keep."""

    def fit(self, X: Any, y: Any = None) -> Centre:  # noqa: N803
        self.mean_ = X.mean(axis=0)
        return self


class Secret(Clip):
    """Has something to keep, under a name that scikit-learn does not look for."""

    def __init__(self) -> None:
        self._mean = np.zeros(WIDTH)

    def fit(self, X: Any, y: Any = None) -> Secret:  # noqa: N803
        self._mean[:] = X.mean(axis=0)
        return self


def test_a_transformer_of_the_authors_own_that_keeps_nothing_is_as_good_as_fitted():
    check_fitted(Clip(), WIDTH)
    check_fitted(make_pipeline(StandardScaler(), Clip(), MinMaxScaler()).fit(FITTED_ON), WIDTH)
    with pytest.raises(ExportError, match=r"\.Centre.* was never fitted; if fitting it keeps nothing"):
        check_fitted(Centre(), WIDTH)
    with pytest.raises(ExportError, match=r"\.Secret.* was never fitted"):
        check_fitted(Secret(), WIDTH)


class Bare:
    def __repr__(self) -> str:  # tests are named after it, in every process alike
        return "Bare()"

    """Follows none of scikit-learn's conventions but `transform`."""

    def transform(self, rows: Any) -> Any:
        return rows


@pytest.mark.parametrize(
    "transformer",
    [
        "passthrough",
        Normalizer(),
        FunctionTransformer(),
        Bare(),
        PCA(1).fit(FITTED_ON),
        COLUMNS,
        make_pipeline(PolynomialFeatures(), StandardScaler(), "passthrough").fit(FITTED_ON),
        make_pipeline(PCA(2), make_union(StandardScaler(), "passthrough")).fit(FITTED_ON),
        FeatureUnion([("gone", "drop"), ("s", StandardScaler())]).fit(FITTED_ON),
        Pipeline([("columns", COLUMNS), ("range", MinMaxScaler().fit(FITTED_ON[:, :2]))]),
    ],
    ids=str,
)
def test_what_fits_the_observation_passes(transformer: Any):
    check_fitted(transformer, WIDTH)
