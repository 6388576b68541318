"""What training saw, as preprocessors, VecNormalize and rows of driving tell it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, Normalizer, RobustScaler, StandardScaler

from carla_mlflow.contract.field_card import FieldCard, Seen, observation_spec
from training_export.sources.seen import of_moments, of_rows, of_scaler, unknown, with_seen

SECTION = {"speed": FieldCard("float32", [], 0.0, 60.0), "sensors": FieldCard("float32", [2])}
ROWS = np.random.default_rng(0).normal([6.5, 0.0, 100.0], [1.0, 2.0, 3.0], (4000, 3))
SPLIT = ColumnTransformer([("speed", StandardScaler(), [0]), ("none", Normalizer(), [1]), ("far", MinMaxScaler(), [2])])


@pytest.mark.parametrize(
    ("transformer", "low", "high"),
    [
        (StandardScaler(), [1.5, -10, 85], [11.5, 10, 115]),
        (make_pipeline(StandardScaler(), MinMaxScaler()), [1.5, -10, 85], [11.5, 10, 115]),
        (RobustScaler(), [0, -13.5, 79.8], [13.2, 13.5, 120.2]),
        (MinMaxScaler(), ROWS.min(axis=0), ROWS.max(axis=0)),
        (MaxAbsScaler(), [0, *-np.abs(ROWS).max(axis=0)[1:]], np.abs(ROWS).max(axis=0)),
    ],
)
def test_a_fitted_scaler_tells_from_where_to_where_its_input_was(transformer, low, high):
    specs = observation_spec(SECTION)
    found = with_seen(SECTION, of_scaler(transformer.fit(ROWS), specs))
    speed, sensors = found["speed"].seen, found["sensors"].seen
    np.testing.assert_allclose([speed.low, *sensors.low], low, atol=0.7)
    np.testing.assert_allclose([speed.high, *sensors.high], high, atol=0.7)
    assert unknown(SECTION) == ["sensors"]
    assert unknown(found) == []


def test_what_a_transformer_does_not_tell_stays_unknown():
    specs = observation_spec(SECTION)
    found = with_seen(SECTION, of_scaler(SPLIT.fit(ROWS), specs))
    assert found["speed"].seen.high == pytest.approx(11.5, abs=0.5)
    assert found["sensors"].seen is msgspec.UNSET
    for silent in (Normalizer().fit(ROWS), StandardScaler(with_mean=False).fit(ROWS), None):
        assert with_seen(SECTION, of_scaler(silent, specs)) == SECTION


def test_ranges_are_taken_together_and_what_the_author_says_stays():
    driven = of_rows({"speed": np.float32([2, 14]), "sensors": np.float32([[0, 1], [5, 2]])})
    fitted = {"speed": of_moments(6.5, 1.0), "sensors": of_moments([0.0, 100.0], [0.1, 1.0])}
    found = with_seen(SECTION, driven, fitted)
    assert found["speed"].seen == Seen(pytest.approx(1.5), 14.0)
    assert found["sensors"].seen == Seen([-0.5, 1.0], [5.0, 105.0])
    assert with_seen(SECTION, {"speed": of_moments(6.5, 100.0)})["speed"].seen == Seen(0.0, 60.0)  # inside the bounds
    stated = {**SECTION, "speed": msgspec.structs.replace(SECTION["speed"], seen=Seen(0.0, 45.0))}
    assert with_seen(stated, driven)["speed"].seen == Seen(0.0, 45.0)
