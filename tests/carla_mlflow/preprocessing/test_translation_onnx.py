from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, Normalizer, RobustScaler, StandardScaler

from carla_mlflow.preprocessing.modules import Normalise
from carla_mlflow.preprocessing.translation import translate

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

# The exporter's own, about its own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

RNG = np.random.default_rng(0)
WIDTH = 5
FITTED_ON = RNG.normal([5, 0, 1e6, -7, 0], [3, 1e-3, 1e-3, 0, 1e5], (300, WIDTH))
EXTREMES = [[0] * WIDTH, [3e38] * WIDTH, [-3e38] * WIDTH, [1e-38] * WIDTH]
ROWS = np.concatenate([FITTED_ON[:50], FITTED_ON[:50] * 1e6, EXTREMES]).astype(np.float32)

SIDE_BY_SIDE = ColumnTransformer(
    [
        ("s", make_pipeline(StandardScaler(), MinMaxScaler((0, 2), clip=True)), [2, 0]),
        ("n", make_pipeline(Normalizer("l2"), RobustScaler()), [1, 2]),
        ("m", MaxAbsScaler(), slice(3, 5)),
    ],
    remainder="passthrough",
    transformer_weights={"n": -0.5},
)


def in_onnxruntime(module: torch.nn.Module, example: torch.Tensor, rows: NDArray[Any]) -> NDArray[np.float32]:
    """Exported on three rows with a free batch axis, run on others."""
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(module.eval(), (example,), dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    buffer = io.BytesIO()
    program.save(buffer)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    [made] = session.run(None, {session.get_inputs()[0].name: rows})
    return np.asarray(made)


@pytest.mark.parametrize(
    "transformer",
    [
        MinMaxScaler((-3, 7), clip=True),
        SIDE_BY_SIDE,
        make_union(Normalizer("l1"), "passthrough", Normalizer("max"), StandardScaler()),
    ],
    ids=["clipped", "columns", "union"],
)
@pytest.mark.parametrize("rows", [ROWS, ROWS[:1]], ids=["many rows", "one row"])
def test_onnx_computes_what_scikit_learn_computes(transformer: Any, rows: NDArray[np.float32]):
    transformer.fit(FITTED_ON)
    made = in_onnxruntime(translate(transformer, WIDTH), torch.ones(3, WIDTH), rows)
    assert made.dtype == np.float32
    with np.errstate(all="ignore"):
        expected = transformer.transform(rows.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)


def test_vec_normalize_is_the_same_in_onnx():
    mean, var = RNG.normal(size=(2, 3)), RNG.uniform(0.1, 9, (2, 3))
    rows = RNG.normal(size=(9, 2, 3)).astype(np.float32)
    made = in_onnxruntime(Normalise(mean, var, 1e-8, 0.7), torch.ones(3, 2, 3), rows)
    expected = np.clip((rows - mean) / np.sqrt(var + 1e-8), -0.7, 0.7).astype(np.float32)
    np.testing.assert_array_equal(made, expected)
