"""What the original project's create_example_artifacts writes is migrated, without its code and without trust."""

from __future__ import annotations

import json
import pickle
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests_support import ROOT, run_command

from carla_mlflow import Engine, open_artifact
from carla_mlflow.contract.field_card import observation_spec
from carla_mlflow.errors import ExportError
from training_export.sources.draft import read_draft
from training_export.sources.original_preprocessor import OriginalFeatures, read_original

MADE, SPEC = ROOT / "tests/data/original-v0.1.0", ROOT / "tests/data/original-v0.1.0-spec.yaml"
SPECS = observation_spec(read_draft(SPEC).observation)
STATE: dict[str, Any] = {
    "is_fitted": True,
    "feature_names": ["speed", "steering", "sensors"],
    "input_shape": [5],
    "output_shape": [5],
    "normalize_speed": True,
    "normalize_steering": True,
    "normalize_sensors": True,
    "sensor_clip_range": [-10.0, 10.0],
    "speed_stats": {"mean": 44.75, "std": 14.433034896850586},
    "steering_stats": {"mean": -0.010000009089708328, "std": 0.5773214101791382},
    "sensor_stats": {"mean": 0.8299999833106995, "std": 0.6135688424110413},
}
"""What the preprocessor of `MADE` learned from the hundred observations that the original fits it on."""


def drawn(rows: int) -> dict[str, NDArray[Any]]:
    return {spec.name: spec.sample(np.random.default_rng(0), rows) for spec in SPECS}


def features(observations: dict[str, NDArray[Any]], state: dict[str, Any]) -> NDArray[np.float32]:
    """The original's own arithmetic: float32 columns, sensors clipped, less the mean, by the deviation."""
    columns = []
    for name, key in (("speed", "speed"), ("steering", "steering"), ("sensors", "sensor")):
        column = observations[name].reshape(len(observations[name]), -1)
        if state.get(f"normalize_{name}", False) and state["is_fitted"]:
            column = np.clip(column, *state["sensor_clip_range"]) if name == "sensors" else column
            column = (column - state[f"{key}_stats"]["mean"]) / state[f"{key}_stats"]["std"]
        columns.append(column)
    return np.column_stack(columns).astype(np.float32)


def made_features(state: dict[str, Any], folder: Path, kind: str = "standard") -> NDArray[np.float32]:
    path = folder / "preprocessor.pkl"
    path.write_text(json.dumps({"format_version": 1, "type": kind, "state": state}))
    fitted = read_original(path)
    assert fitted is not None
    flat = np.column_stack([array.reshape(100, -1) for array in drawn(100).values()])
    return OriginalFeatures(fitted, SPECS)(torch.from_numpy(flat)).numpy()


def test_an_artifact_of_the_original_acts_as_it_did(tmp_path: Path):
    done = run_command(
        "carla-registry", "migrate", str(MADE), "--observation", str(SPEC), "--output", str(tmp_path / "new")
    )
    assert done.code == 0, done.err
    engine = Engine(open_artifact(tmp_path / "new"), "cpu")
    observations = drawn(1000)
    with torch.no_grad():
        outputs = torch.jit.load(str(MADE / "model.pt"))(torch.from_numpy(features(observations, STATE))).numpy()
    acted = np.clip(outputs, [0.0, 0.0, -1.0], 1.0)
    assert np.ptp(acted[:, 0]) > 0.05
    np.testing.assert_allclose(engine.act(observations).control, acted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"is_fitted": False},
        {"normalize_sensors": False},
        {"normalize_speed": False, "normalize_steering": False, "sensor_clip_range": [0.0, 0.5]},
    ],
)
def test_the_pickle_and_the_json_of_the_original_give_its_features_to_the_bit(tmp_path: Path, changes: dict):
    state = {**STATE, **changes}
    assert (made_features(state, tmp_path) == features(drawn(100), state)).all()


def test_a_minimal_preprocessor_leaves_the_numbers_as_they_are(tmp_path: Path):
    state = {"is_fitted": True, "feature_names": [], "input_shape": None, "output_shape": None}
    assert (made_features(state, tmp_path, "minimal") == features(drawn(100), state)).all()


def test_the_pickle_holds_the_numbers_that_the_original_learned():
    fitted = read_original(MADE / "preprocessor.pkl")
    assert fitted is not None
    assert (fitted.speed_stats.mean, fitted.sensor_stats.std) == (44.75, STATE["sensor_stats"]["std"])
    assert fitted.sensor_clip_range == (-10.0, 10.0)


def test_observations_in_another_order_reach_the_right_features(tmp_path: Path):
    path = shutil.copy(MADE / "preprocessor.pkl", tmp_path)
    reordered = type(SPECS)(reversed(SPECS))
    fitted = read_original(Path(path))
    assert fitted is not None
    flat = np.column_stack([drawn(100)[spec.name].reshape(100, -1) for spec in reordered])
    made = OriginalFeatures(fitted, reordered)(torch.from_numpy(flat)).numpy()
    assert (made == features(drawn(100), STATE)).all()


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def test_reading_the_numbers_runs_nothing(tmp_path: Path):
    path = tmp_path / "preprocessor.pkl"
    path.write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    assert read_original(path) is None
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("step", [b"r" + (0x7FFFFFFF).to_bytes(4, "little"), b"\x96" + (1 << 40).to_bytes(8, "little")])
def test_a_pickle_of_a_few_bytes_takes_no_memory(tmp_path: Path, step: bytes):
    path = tmp_path / "preprocessor.pkl"
    path.write_bytes(b"\x80\x05N" + step + b".")
    tracemalloc.start()
    assert read_original(path) is None
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"format_version": 2, "type": "standard", "state": STATE}, "expected type standard or minimal"),
        ({"format_version": 1, "type": "standard", "state": {}}, "missing required field `is_fitted`"),
        ({"format_version": 1, "type": "standard", "state": {**STATE, "speed_stats": [1, 2]}}, "speed_stats"),
        ({"format_version": 1, "type": "standard", "state": {**STATE, "input_shape": [7]}}, "was fitted on 5 sensors"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_in_words(tmp_path: Path, document: dict, complaint: str):
    path = tmp_path / "preprocessor.pkl"
    path.write_text(json.dumps(document))
    with pytest.raises(ExportError, match=complaint):
        OriginalFeatures(read_original(path), SPECS)
