"""A policy with memory as an MLflow model: the column or tensor `state` goes in and comes out."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from remembering_export import exported_lstm
from remembering_policies import local, observed

from benchmarks.policies.remembering import gru_of_images
from benchmarks.policies.two_policies import write
from carla_mlflow.contract.control import CONTROL_NAMES
from carla_mlflow.errors import SpecError
from carla_mlflow.flavor.model import log_policy
from training_export.export.export import export_policy

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


def column(values: np.ndarray) -> list:
    return values.astype(float).tolist()


def test_a_rollout_by_the_column_state_has_the_bits_of_the_engine(mlflow_home: Path, monkeypatch: pytest.MonkeyPatch):
    artifact, engine = exported_lstm().artifact, exported_lstm().engine
    monkeypatch.setenv("POLICY_STATE_KEY", "the-key-of-the-fleet")
    with mlflow.start_run():
        model = mlflow.pyfunc.load_model(log_policy(artifact))
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
    export = export_policy(gru_of_images(), "seeing", "1.0.0", "a GRU")
    artifact, engine = export.artifact, export.engine
    with mlflow.start_run():
        model = mlflow.pyfunc.load_model(log_policy(artifact))
    steps = observed(engine.specs, 2, 3)
    length = model.metadata.signature.inputs.inputs[-1].shape[1]
    states, found = np.zeros((2, length), np.uint8), []
    for step in steps:
        answer = model.predict({**step, "state": states})
        states = np.stack([np.frombuffer(base64.b64decode(text), np.uint8) for text in answer["state"]])
        found.append(answer[list(CONTROL_NAMES)].to_numpy())
    assert np.stack(found).tobytes() == local(engine, steps).tobytes()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from carla_mlflow.flavor.pyfunc_model import PolicyModel  # MLflow warns where it is imported

    folder = write(exported_lstm().artifact, tmp_path_factory.mktemp("remembering"))
    model = PolicyModel()
    model.load_context(SimpleNamespace(artifacts={"policy": str(folder)}))
    return model


def test_a_dict_of_arrays_takes_the_texts_that_came_as_answers(loaded: Any):
    first, second = observed(exported_lstm().engine.specs, 3, 2)
    texts = loaded.predict(None, first)["state"]
    frame = pd.DataFrame({name: list(values) for name, values in second.items()})
    wanted = loaded.predict(None, frame.assign(state=texts))
    columns = list(CONTROL_NAMES)
    tokens = np.stack([np.frombuffer(base64.b64decode(text), np.uint8) for text in texts])
    for states in (texts, texts.tolist(), texts.to_numpy(), np.array(texts.tolist()), tokens):
        given = loaded.predict(None, {**second, "state": states})
        assert given["state"].tolist() == wanted["state"].tolist()
        assert given[columns].to_numpy().tobytes() == wanted[columns].to_numpy().tobytes()
    begun = loaded.predict(None, {**first, "state": [None, "", float("nan")]})
    assert begun["state"].tolist() == texts.tolist()


def test_a_state_that_is_not_one_token_for_each_row_is_an_error_of_the_state(loaded: Any):
    [step] = observed(exported_lstm().engine.specs, 3, 1)
    texts = loaded.predict(None, step)["state"].tolist()
    length = len(base64.b64decode(texts[0]))
    for states in (texts[:2], np.zeros((2, length), np.uint8)):
        with pytest.raises(SpecError, match=r"observations.state: expected 3 rows, as many as speed has, got 2"):
            loaded.predict(None, {**step, "state": states})
    for states in (np.zeros((3, length - 1), np.uint8), np.zeros((3, length), np.float32), texts[0]):
        with pytest.raises(SpecError, match=r"observations.state: expected uint8 \[rows, \d+\], or \[rows\] base64"):
            loaded.predict(None, {**step, "state": states})
    frame = pd.DataFrame({name: list(values) for name, values in step.items()})
    with pytest.raises(SpecError, match=r"observations\[1\].state: is not a state token"):
        loaded.predict(None, frame.assign(state=[None, ["not a text"], None]))
