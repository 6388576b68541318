"""A policy with memory as an MLflow model: the column or tensor `state` goes in and comes out."""

from __future__ import annotations

import base64
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from remembering_policies import local, observed

from benchmarks.policies.remembering import gru_of_images, lstm
from carla_mlflow import Engine
from carla_mlflow.contract.control import CONTROL_NAMES
from carla_mlflow.flavor.model import log_policy
from training_export.export.export import export_policy

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


def column(values: np.ndarray) -> list:
    return values.astype(float).tolist()


def test_a_rollout_by_the_column_state_has_the_bits_of_the_engine(mlflow_home: Path, monkeypatch: pytest.MonkeyPatch):
    artifact = export_policy(lstm(), "remembering", "1.0.0", "an LSTM").artifact
    monkeypatch.setenv("POLICY_STATE_KEY", "the-key-of-the-fleet")
    with mlflow.start_run():
        model = mlflow.pyfunc.load_model(log_policy(artifact))
    engine = Engine(artifact, "cpu")
    steps = observed(engine.specs, 3, 4)
    states, found = None, []
    for step in steps:
        frame = pd.DataFrame({name: column(values) for name, values in step.items()})
        if states is not None:
            frame["state"] = states
        answer = model.predict(frame)
        assert list(answer.columns) == [*CONTROL_NAMES, "state"]
        states = answer["state"]
        found.append(answer[list(CONTROL_NAMES)].to_numpy())
    assert np.stack(found).tobytes() == local(engine, steps).tobytes()

    frame = pd.DataFrame({name: column(values) for name, values in steps[0].items()})
    begun = model.predict(frame.assign(state=[None, "", states[2]]))[list(CONTROL_NAMES)].to_numpy()
    assert begun[:2].tobytes() == found[0][:2].tobytes()
    assert begun[2].tobytes() != found[0][2].tobytes()
    with pytest.raises(Exception, match=r"observations\[1\].state: is not a state token"):
        model.predict(frame.assign(state=[None, "AAAA", None]))
    monkeypatch.setenv("POLICY_STATE_KEY", "the-key-of-others")
    with mlflow.start_run():
        other = mlflow.pyfunc.load_model(log_policy(artifact))
    with pytest.raises(Exception, match=r"observations\[0\].state: was made with another key"):
        other.predict(frame.assign(state=states))


def test_states_of_images_are_a_tensor_of_bytes_in_which_zeros_begin_an_episode(mlflow_home: Path):
    artifact = export_policy(gru_of_images(), "seeing", "1.0.0", "a GRU").artifact
    with mlflow.start_run():
        model = mlflow.pyfunc.load_model(log_policy(artifact))
    engine = Engine(artifact, "cpu")
    steps = observed(engine.specs, 2, 3)
    length = model.metadata.signature.inputs.inputs[-1].shape[1]
    states, found = np.zeros((2, length), np.uint8), []
    for step in steps:
        answer = model.predict({**step, "state": states})
        states = np.stack([np.frombuffer(base64.b64decode(text), np.uint8) for text in answer["state"]])
        found.append(answer[list(CONTROL_NAMES)].to_numpy())
    assert np.stack(found).tobytes() == local(engine, steps).tobytes()
