from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import skops.io
import torch
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from carla_mlflow.errors import ArtifactError, ExportError
from carla_mlflow.preprocessing import load_preprocessor, translate

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("options", [{}, {"with_mean": False}, {"with_std": False}])
def test_the_graph_standardises_as_scikit_learn_does(options: dict):
    features = RNG.normal([5, 0, 100, 7], [3, 1e-3, 50, 0], (500, 4))  # the last one never varies
    scaler = StandardScaler(**options).fit(features)
    rows = np.concatenate([features, features * 100, np.zeros((1, 4))]).astype(np.float32)
    graph = translate(scaler)(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(graph, scaler.transform(rows.astype(np.float64)), rtol=1e-5, atol=2e-5)


def test_a_scaler_that_was_never_fitted_is_refused():
    with pytest.raises(ExportError, match="StandardScaler was never fitted"):
        translate(StandardScaler())


def test_a_transformer_without_a_translation_is_refused():
    with pytest.raises(ExportError, match="PolynomialFeatures can't be translated"):
        translate(PolynomialFeatures().fit(np.zeros((2, 2))))


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_that_calls_itself_skops_is_refused_and_not_executed(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ArtifactError, match="not a skops file"):
        load_preprocessor(pickle.dumps(Evil()))
    assert capsys.readouterr().out == ""


class Homemade(StandardScaler):
    pass


def test_a_type_outside_the_trust_list_is_refused():
    scaler = Homemade().fit(np.zeros((2, 2)))
    buffer = io.BytesIO()
    skops.io.dump(scaler, buffer)
    with pytest.raises(ArtifactError, match="not trusted"):
        load_preprocessor(buffer.getvalue())
