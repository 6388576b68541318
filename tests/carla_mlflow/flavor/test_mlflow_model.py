"""The logged model: it loads without pickle, travels with its own code, and acts as the engine does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mlflow
import msgspec
import numpy as np
import pandas as pd
import pytest
from registry_policies import changed
from registry_policies import example as example_artifact
from tests_support import ROOT

from carla_mlflow import Engine, open_artifact
from carla_mlflow.errors import NotFoundError
from carla_mlflow.flavor import code_bundle as bundle
from carla_mlflow.flavor.model import fetch_policy, log_policy
from carla_mlflow.flavor.runs import STEP_TAG, expand_latest, logging_run

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture
def logged(mlflow_home: Path, example: Path) -> str:
    with mlflow.start_run():
        return log_policy(open_artifact(example))


def frame_of(engine: Engine) -> pd.DataFrame:
    columns = engine.golden.observations.items()
    return pd.DataFrame({name: list(a.astype(float).tolist()) for name, a in columns})


def test_the_model_acts_exactly_as_the_engine(logged: str, example: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    engine = Engine.open(example, device="cpu")
    model = mlflow.pyfunc.load_model(logged)
    frame = frame_of(engine)
    answer = model.predict(frame)
    assert list(answer.columns) == ["throttle", "brake", "steer"]
    assert answer.to_numpy().tobytes() == engine.act(engine.golden.observations).control.tobytes()
    sampled = model.predict(frame, params={"deterministic": False, "seed": 3})
    wanted = engine.act(engine.golden.observations, deterministic=False, seed=3).control
    assert sampled.to_numpy().tobytes() == wanted.tobytes()


def test_raw_actions_whose_meaning_no_card_says_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    from carla_mlflow.flavor.pyfunc_model import PolicyModel  # here, since MLflow warns of it as it is imported

    action = example_artifact().card.action
    wide = msgspec.structs.replace(action, raw={**action.raw, "acceleration": (-1.0, 2.0)})
    PolicyModel().load_context(SimpleNamespace(artifacts={"policy": changed(tmp_path, "0.2.0", action=wide)}))
    assert "0.2.0: action.raw.acceleration has the bounds [-1, 2], not [-1, 1]" in caplog.text


def test_the_model_answers_where_this_project_is_not_installed(logged: str, mlflow_home: Path):
    script = """
import importlib.abc, sys
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('carla_mlflow', 'training_export', 'registry', 'serve'):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
print(model.predict(model.input_example)['throttle'].iloc[0])
"""
    done = subprocess.run([sys.executable, "-c", script, logged], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0 <= float(done.stdout) <= 1


def test_two_versions_never_run_each_others_code(mlflow_home: Path, example: Path, tmp_path: Path, monkeypatch):
    with mlflow.start_run():
        first = log_policy(open_artifact(example))
    # Another release of our code, whose models steer the other way.
    changed = tmp_path / "release" / "carla_mlflow"
    shutil.copytree(bundle.PACKAGE, changed)
    for source in changed.rglob("*.py"):
        text = source.read_text()
        if source.name == "pyfunc_model.py":
            assert "self._columns, self._engine.act(" in text
            text = text.replace("self._columns, self._engine.act(", "self._columns, -self._engine.act(")
        source.write_text(text)
    monkeypatch.setattr(bundle, "PACKAGE", changed)
    with mlflow.start_run():
        second = log_policy(open_artifact(example))
    frame = frame_of(Engine.open(example, device="cpu"))
    one = mlflow.pyfunc.load_model(first)
    two = mlflow.pyfunc.load_model(second)
    np.testing.assert_array_equal(one.predict(frame).to_numpy(), -two.predict(frame).to_numpy())
    assert np.abs(one.predict(frame).to_numpy()).max() > 0


def test_a_model_that_was_logged_by_an_earlier_layout_of_this_package_still_acts(tmp_path: Path, example: Path):
    shutil.unpack_archive(ROOT / "tests" / "data" / "logged-before-the-wings.zip", tmp_path)
    engine = Engine.open(example, device="cpu")
    answers = mlflow.pyfunc.load_model(str(tmp_path)).predict(frame_of(engine)).to_numpy()
    assert answers.astype(np.float32).tobytes() == engine.act(engine.golden.observations).control.tobytes()


def test_what_is_fetched_from_a_run_is_what_was_logged(logged: str, example: Path, tmp_path: Path):
    fetched = open_artifact(fetch_policy(logged, tmp_path / "fetched"))
    assert fetched.digest == open_artifact(example).digest


def train_run(status: str = "FINISHED", step: str = "train") -> str:
    with logging_run() as run_id:
        mlflow.set_tag(STEP_TAG, step)
        mlflow.end_run(status)
    return run_id


def elsewhere(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As in another process, whose user names another experiment."""
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    monkeypatch.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)


def test_latest_is_the_newest_finished_training_of_our_experiment_and_is_named(mlflow_home, monkeypatch, capsys):
    train_run()
    ours = train_run()
    train_run("FAILED")
    train_run(step="evaluate")
    elsewhere(monkeypatch, "somebody-else")
    theirs = train_run()
    assert expand_latest("runs:/latest/policy") == f"runs:/{theirs}/policy"
    elsewhere(monkeypatch, "carla-mlflow")
    assert expand_latest("runs:/latest/policy") == f"runs:/{ours}/policy"
    said = [line for line in capsys.readouterr().err.splitlines() if "latest" in line]  # MLflow talks too
    assert said[0].startswith(f"runs:/latest is runs:/{theirs}, started ")
    assert said[1].startswith(f"runs:/latest is runs:/{ours}, started ")
    assert said[1].endswith(" in the experiment 'carla-mlflow'")
    with logging_run(ours):  # as `mlflow run` opens one: its experiment is where things are logged
        monkeypatch.setenv("MLFLOW_RUN_ID", theirs)
        assert expand_latest("runs:/latest") == f"runs:/{theirs}"


def test_where_nothing_was_trained_latest_names_the_experiment(mlflow_home, monkeypatch):
    elsewhere(monkeypatch, "somebody-else")
    train_run()
    elsewhere(monkeypatch, "mine\nforged")
    with pytest.raises(NotFoundError, match=r"no training run yet in the experiment 'mine\\nforged'; train"):
        expand_latest("runs:/latest/policy")
    assert expand_latest("runs:/0123/policy") == "runs:/0123/policy"
