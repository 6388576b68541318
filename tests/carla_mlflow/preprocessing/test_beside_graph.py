from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, PolynomialFeatures, StandardScaler

from carla_mlflow.errors import ArtifactError
from carla_mlflow.preprocessing.beside_graph import OutOfGraph

RNG = np.random.default_rng(0)
FITTED_ON = RNG.normal([5, 0, 100, 7], [3, 1e-3, 50, 1], (200, 4))
ROWS = FITTED_ON[:20].astype(np.float32)
NAMED = pd.DataFrame(FITTED_ON, columns=list("abcd"))


class Bare:
    """Follows none of scikit-learn's conventions but `transform`."""

    def transform(self, rows: Any) -> Any:
        return rows


def outputs(transformer: Any) -> np.ndarray[Any, Any]:
    given = ROWS.copy()
    made = OutOfGraph(transformer)(given)
    np.testing.assert_array_equal(given, ROWS)
    assert made.dtype == np.float32
    assert made.flags.c_contiguous
    return made


@pytest.mark.parametrize(
    "transformer",
    [
        StandardScaler(copy=False),
        PolynomialFeatures(order="F"),
        PCA(2),
        OneHotEncoder(handle_unknown="ignore"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=bool),
        make_union(StandardScaler(), PCA(1)),
        MinMaxScaler().set_output(transform="pandas"),
    ],
    ids=str,
)
def test_a_row_becomes_what_scikit_learn_makes_of_it_in_float64(transformer: Any):
    transformer.fit(FITTED_ON)
    made = outputs(transformer)
    expected = transformer.transform(ROWS.astype(np.float64))
    expected = expected.toarray() if sparse.issparse(expected) else np.asarray(expected)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)


def test_columns_are_selected_by_the_names_that_they_were_fitted_with():
    transformer = ColumnTransformer([("a", StandardScaler(), ["d", "a"])], remainder="passthrough").fit(NAMED)
    expected = transformer.transform(pd.DataFrame(ROWS.astype(np.float64), columns=NAMED.columns))
    np.testing.assert_allclose(outputs(transformer), expected, rtol=1e-5, atol=1e-6)


def test_workers_that_helped_when_fitting_are_not_asked_for_a_row():
    transformer = make_pipeline(ColumnTransformer([("u", make_union(StandardScaler(), PCA(1)), [0, 1])])).fit(FITTED_ON)
    columns, union = transformer[0], transformer[0].named_transformers_["u"]
    columns.n_jobs = union.n_jobs = 2
    OutOfGraph(transformer)
    assert columns.n_jobs is None
    assert union.n_jobs is None


def test_what_float32_cant_hold_becomes_infinite_as_in_the_graph():
    made = OutOfGraph(FunctionTransformer(np.square))(np.full((1, 2), 1e30, dtype=np.float32))
    np.testing.assert_array_equal(made, [[np.inf, np.inf]])


class Returns(Bare):
    def __init__(self, value: Any) -> None:
        self.value = value

    def transform(self, rows: Any) -> Any:
        return self.value


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(20),
        np.zeros((19, 2)),
        np.zeros((20, 2, 2)),
        np.full((20, 1), "1"),
        np.full((20, 1), 1j),
        None,
        [[1]],
        {},
    ],
)
def test_what_is_not_a_row_of_numbers_for_each_row_is_refused(value: Any):
    with pytest.raises(ArtifactError, match="not a row of numbers for each"):
        OutOfGraph(Returns(value))(ROWS)


class Fails(Bare):
    def transform(self, rows: Any) -> Any:
        raise LookupError(f"the secret is {rows[0, 0]}")


def test_of_a_transformer_that_raises_only_the_errors_type_is_told():
    with pytest.raises(ArtifactError) as caught:
        OutOfGraph(Fails())(ROWS)
    assert str(caught.value) == f"preprocessor.skops: {__name__}.Fails failed: LookupError"


def test_a_file_put_together_by_hand_fails_as_an_artifact():
    loaded = ColumnTransformer([("a", StandardScaler(), [0])]).fit(FITTED_ON)
    loaded.transformers_ = [("a", loaded, [0])]  # inside itself
    with pytest.raises(ArtifactError, match="RecursionError"):
        OutOfGraph(loaded)


def test_a_transformer_fitted_on_a_frame_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outputs(StandardScaler().fit(NAMED))
