from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

from carla_mlflow.backends.torchscript_ops import check_operations
from carla_mlflow.errors import ExportError
from carla_mlflow.preprocessing.translation import Untranslatable, translate

RNG = np.random.default_rng(0)
EPSILON = np.finfo(np.float64).eps
WIDTH = 6
FITTED_ON = RNG.normal([5, 0, 1e6, -7, 0, 1e-8], [3, 1e-3, 1e-3, 0, 1e5, 1e-9], (300, WIDTH))  # the fourth is constant
ROWS = np.concatenate(
    [
        FITTED_ON[:50],
        FITTED_ON[:50] * RNG.choice([-1e6, 1e-6, 1e3], (50, WIDTH)),
        [[0] * WIDTH, [3e38] * WIDTH, [-3e38] * WIDTH, [1e-38] * WIDTH, [1e-20, -1e-20, 0, 0, 0, 0]],
        np.where(np.eye(WIDTH) == 1, 1e30, FITTED_ON.mean(axis=0)),
    ]
).astype(np.float32)
NAMED = pd.DataFrame(FITTED_ON, columns=list("abcdef"))


def columns(*parts: Any, **options: Any) -> ColumnTransformer:
    return ColumnTransformer([(f"part{i}", *part) for i, part in enumerate(parts)], **options)


ONE_TO_ONE = {
    "standard": StandardScaler(),
    "standard, mean only": StandardScaler(with_std=False),
    "standard, deviation only": StandardScaler(with_mean=False),
    "standard, neither": StandardScaler(with_mean=False, with_std=False),
    "min-max": MinMaxScaler(),
    "min-max, clipped": MinMaxScaler((-3, 7), clip=True),
    "largest": MaxAbsScaler(),
    "largest, clipped": MaxAbsScaler(**({"clip": True} if "clip" in MaxAbsScaler().get_params() else {})),
    "quantiles": RobustScaler(quantile_range=(10, 80)),
    "quantiles, centre only": RobustScaler(with_scaling=False),
    "quantiles, scale only": RobustScaler(with_centering=False, unit_variance=True),
    "l1": Normalizer("l1"),
    "l2": Normalizer("l2"),
    "max": Normalizer("max"),
    "identity": FunctionTransformer(),
}
COMPOSITES = {
    "pipeline": make_pipeline(StandardScaler(), MinMaxScaler((0, 2), clip=True), RobustScaler()),
    "pipeline with gaps": Pipeline([("a", None), ("b", StandardScaler()), ("c", "passthrough"), ("d", Normalizer())]),
    "pipeline of nothing": Pipeline([("a", "passthrough"), ("b", FunctionTransformer())]),
    "columns": columns((StandardScaler(), [0, 1]), (MinMaxScaler(clip=True), slice(2, 4)), remainder="passthrough"),
    "columns, dropped": columns((StandardScaler(), [5, 0]), ("drop", [1]), (RobustScaler(), [])),
    "columns, masks": columns((MaxAbsScaler(), np.arange(WIDTH) % 2 == 0), remainder=RobustScaler()),
    "columns, list of bools": columns((MaxAbsScaler(), [True] + [False] * 5), remainder="passthrough"),
    "columns, from the end": columns(
        (MinMaxScaler(), [-1, 2]), ("passthrough", slice(0, None, 2)), (RobustScaler(), slice(4, 0, -2))
    ),
    "columns, twice": columns((StandardScaler(), [1, 1, 0]), (StandardScaler(), [1]), ("passthrough", [1])),
    "columns, rows' norms": columns((Normalizer("l1"), [4, 1]), (StandardScaler(), [2]), (MaxAbsScaler(), [3, 0])),
    "columns, norm alone": columns((Normalizer(), [4, 1])),
    "columns, weights": columns(
        (StandardScaler(), [0, 3]),
        (Normalizer(), [1, 2]),
        remainder="passthrough",
        transformer_weights={"part0": 2.5, "part1": -0.5, "remainder": 10},
    ),
    "columns, nested": columns(
        (make_pipeline(StandardScaler(), columns((MinMaxScaler(), [1]), remainder="passthrough")), [3, 0, 2]),
        (Pipeline([("n", Normalizer()), ("s", StandardScaler())]), [1, 2]),
        remainder=make_pipeline("passthrough", RobustScaler()),
    ),
    "union": make_union(StandardScaler(), "passthrough", columns((MinMaxScaler(), [5])), Normalizer("max")),
    "union, weights": FeatureUnion(
        [("s", StandardScaler()), ("gone", "drop"), ("m", MinMaxScaler())], transformer_weights={"m": 3.0}
    ),
    "columns, then a pipeline": make_pipeline(columns((Normalizer(), [0, 1]), ("passthrough", [5])), StandardScaler()),
}
BY_NAME = {
    "names": columns((StandardScaler(), ["f", "b"]), remainder="passthrough"),
    "one name's slice": columns((StandardScaler(), slice("b", "d")), (MinMaxScaler(), slice(None, "a"))),
    "picked by function": columns((MinMaxScaler(), lambda frame: ["c"]), remainder=StandardScaler()),
    "names array": columns((MaxAbsScaler(), np.array(["a", "c"], dtype=object)), remainder=StandardScaler()),
}


def expected_of(transformer: Any, rows: NDArray[np.float32], names: list[str] | None = None) -> NDArray[np.float32]:
    given: Any = rows.astype(np.float64)
    with np.errstate(all="ignore"):
        made = transformer.transform(given if names is None else pd.DataFrame(given, columns=names))
        return np.asarray(made).astype(np.float32)


def assert_same(made: Any, expected: NDArray[np.float32]) -> None:
    made = np.asarray(made)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)


def traced(module: torch.nn.Module, *example: int) -> Any:
    """As it is exported: traced on three rows, written and read back, with no operation that a policy may not use."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, torch.ones(3, *example)), buffer)
    loaded = torch.jit.load(io.BytesIO(buffer.getvalue()))
    check_operations(loaded)
    return loaded


def operations(graph: Any) -> list[str]:
    """What a traced graph computes with, without what only reads constants."""
    nodes = [node.kind() for node in graph.inlined_graph.nodes()]
    return [kind.removeprefix("aten::") for kind in nodes if not kind.startswith("prim::")]


@pytest.mark.parametrize("transformer", (ONE_TO_ONE | COMPOSITES).values(), ids=ONE_TO_ONE | COMPOSITES)
def test_the_graph_computes_what_scikit_learn_computes(transformer: Any):
    transformer.fit(FITTED_ON)
    module = translate(transformer, WIDTH)
    expected = expected_of(transformer, ROWS)
    assert_same(module(torch.from_numpy(ROWS)), expected)
    graph = traced(module, WIDTH)
    assert_same(graph(torch.from_numpy(ROWS)), expected)
    assert_same(graph(torch.from_numpy(ROWS[:1])), expected[:1])


@pytest.mark.parametrize("transformer", BY_NAME.values(), ids=BY_NAME)
def test_columns_are_found_by_the_names_that_they_were_fitted_with(transformer: Any):
    transformer.fit(NAMED)
    assert_same(
        translate(transformer, WIDTH)(torch.from_numpy(ROWS)), expected_of(transformer, ROWS, list(NAMED.columns))
    )


@pytest.mark.parametrize("transformer", [StandardScaler(), MinMaxScaler(), RobustScaler(), MaxAbsScaler()], ids=str)
def test_a_scaler_fitted_in_float32_is_translated_with_its_own_constants(transformer: Any):
    transformer.fit(FITTED_ON.astype(np.float32))
    assert_same(translate(transformer, WIDTH)(torch.from_numpy(ROWS)), expected_of(transformer, ROWS))


@pytest.mark.parametrize("transformer", [StandardScaler(), MinMaxScaler(clip=True), MaxAbsScaler()], ids=str)
def test_what_is_not_a_number_stays_so(transformer: Any):
    transformer.fit(FITTED_ON)
    rows = np.where(np.eye(WIDTH) == 1, np.nan, ROWS[:WIDTH]).astype(np.float32)
    assert_same(translate(transformer, WIDTH)(torch.from_numpy(rows)), expected_of(transformer, rows))


SCALERS = [StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, Normalizer, lambda: "passthrough", lambda: "drop"]


@st.composite
def column_transformers(draw: Callable[..., Any]) -> ColumnTransformer:
    part = st.sampled_from(SCALERS).map(lambda make: make())
    chain = st.lists(part.filter(lambda made: made != "drop"), min_size=1, max_size=3).map(
        lambda made: make_pipeline(*made)
    )
    taken = st.lists(st.integers(-WIDTH, WIDTH - 1), min_size=1, max_size=WIDTH)
    parts = draw(st.lists(st.tuples(st.one_of(part, chain), taken), min_size=1, max_size=4))
    weights = draw(st.dictionaries(st.sampled_from(["part0", "part1", "remainder"]), st.floats(-3, 3)))
    return columns((StandardScaler(), [0]), *parts, remainder=draw(part), transformer_weights=weights)


def depends_on_rounding(transformer: Any) -> bool:
    """Whether the last bit of float64 moves scikit-learn's own answer by half of the tolerance or more.

    So it does where a scaler follows norms that are nearly equal: a translation can't be held to such an answer.
    """
    rows = ROWS.astype(np.float64)
    with np.errstate(all="ignore"):
        made = np.asarray(transformer.transform(rows))
        moved = [np.abs(transformer.transform(rows * (1 + ulp)) - made) for ulp in (EPSILON, -EPSILON)]
        return bool(np.any((moved >= (1e-6 + 1e-5 * np.abs(made)) / 2) & np.isfinite(moved)))


@settings(max_examples=60, deadline=None)
@given(column_transformers(), st.booleans())
def test_any_column_transformer_is_translated_faithfully(transformer: ColumnTransformer, behind_a_scaler: bool):
    whole = make_pipeline(StandardScaler(), transformer) if behind_a_scaler else transformer
    whole.fit(FITTED_ON)
    assume(not depends_on_rounding(whole))
    assert_same(translate(whole, WIDTH)(torch.from_numpy(ROWS)), expected_of(whole, ROWS))


@pytest.mark.parametrize(
    ("transformer", "expected"),
    [
        (FunctionTransformer(), ["to"]),
        (columns(("passthrough", [3, 0])), ["index_select", "to"]),
        (columns(("passthrough", [3, 4])), ["slice", "slice", "to"]),
        (StandardScaler(), ["to", "sub", "div", "to"]),
        (COMPOSITES["columns"], ["to", "sub", "div", "mul", "add", "maximum", "minimum", "to"]),
        (COMPOSITES["columns, twice"], ["index_select", "to", "sub", "div", "to"]),
    ],
    ids=["identity", "selection", "neighbours", "scaler", "parts in order", "parts out of order"],
)
def test_the_graph_holds_nothing_that_it_could_do_without(transformer: Any, expected: list[str]):
    graph = traced(translate(transformer.fit(FITTED_ON), WIDTH), WIDTH)
    assert operations(graph) == expected


class Homemade(StandardScaler):
    pass


class Squares(TransformerMixin):
    def fit(self, rows: Any, _: Any = None) -> Squares:
        return self

    def transform(self, rows: Any) -> Any:
        return rows * rows


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (PolynomialFeatures(), "PolynomialFeatures can't be translated"),
        (Homemade(), r"test_translation\.Homemade can't be translated"),
        (FunctionTransformer(np.log1p), "FunctionTransformer with func=log1p can't"),
        (Squares(), r"test_translation\.Squares can't be translated"),
        (Pipeline([("s", StandardScaler()), ("p", PolynomialFeatures())]), r"PolynomialFeatures \(at Pipeline\.p\)"),
        (columns((Pipeline([("p", PolynomialFeatures())]), [0])), r"\(at ColumnTransformer\.part0\.p\)"),
        (columns((StandardScaler(), [0]), remainder=Homemade()), r"Homemade \(at ColumnTransformer\.remainder\)"),
        (FeatureUnion([("p", PolynomialFeatures())]), r"\(at FeatureUnion\.p\)"),
    ],
)
def test_what_has_no_translation_is_named_with_its_place(transformer: Any, message: str):
    with np.errstate(all="ignore"):
        transformer.fit(np.abs(FITTED_ON))
    with pytest.raises(Untranslatable, match=message):
        translate(transformer, WIDTH)


def test_a_transformer_that_drops_everything_is_refused():
    with pytest.raises(Untranslatable, match="ColumnTransformer leaves no feature"):
        translate(columns(("drop", [0, 1])).fit(FITTED_ON), WIDTH)


def test_a_word_is_translated_as_scikit_learn_reads_it():
    rows = torch.from_numpy(ROWS)
    assert torch.equal(translate("passthrough", WIDTH)(rows), rows)
    with pytest.raises(Untranslatable, match="str can't be translated"):
        translate("typo", WIDTH)


def test_a_transformer_is_translated_only_for_the_width_that_it_was_fitted_on():
    with pytest.raises(ExportError, match="fitted on 6 features, the observation has 7"):
        translate(StandardScaler().fit(FITTED_ON), 7)
