from __future__ import annotations

import base64
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import stable_baselines3 as sb3
from gymnasium.spaces import Discrete, MultiDiscrete
from sb3_policies import CASES, CHOOSE, DRIVE, PEDALS, VECTOR, Remembering, Toy, Trainer

from carla_mlflow.errors import ExportError
from training_export.sources.sb3.archive import identify
from training_export.sources.sb3.source import from_sb3


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    return Trainer(tmp_path_factory.mktemp("sb3"))


@pytest.mark.parametrize("name", ["ppo", "a2c-choices", "sac", "td3", "ddpg-image", "dqn"])
def test_the_algorithm_is_told_without_unpickling(trained: Trainer, name: str):
    assert identify(trained(name).path)[1]["algorithm"] == CASES[name].algorithm


def edited(path: Path, to: Path, **settings: Any) -> Path:
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(to, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, json.dumps({**json.loads(data), **settings}) if name == "data" else data)
    return to


class Bait:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def pickled(data: bytes) -> dict[str, str]:
    return {":type:": "<class 'dict'>", ":serialized:": base64.b64encode(data).decode()}


def test_nothing_in_the_zip_runs_until_its_reader_is_trusted(trained: Trainer, tmp_path: Path):
    canary = tmp_path / "canary"
    path = edited(trained("ppo").path, tmp_path / "model.zip", policy_kwargs=pickled(pickle.dumps(Bait(canary))))
    with pytest.raises(
        ExportError, match=r"^model.zip: is a .* PPO policy .*pickle runs code.*--trust-pickle"
    ) as refused:
        from_sb3(path, DRIVE, None, trust_pickle=False)
    assert "\n" not in str(refused.value)
    assert not canary.exists()
    with pytest.raises(ExportError, match="can't be loaded"):
        from_sb3(path, DRIVE, None, trust_pickle=True)
    assert canary.exists(), "the bait works"


def test_a_policy_whose_classes_are_not_here_is_refused_with_the_reason(trained: Trainer, tmp_path: Path):
    path = edited(trained("ppo").path, tmp_path / "model.zip", policy_class=pickled(b"cmy_lab.nets\nPolicy\n."))
    with pytest.raises(
        ExportError, match=r"model.zip: can't be loaded: .*'my_lab'.*; put my_lab.py beside it, set PYTHONPATH"
    ):
        from_sb3(path, DRIVE, None, trust_pickle=True)


def test_what_only_training_needs_is_not_made(trained: Trainer, tmp_path: Path):
    schedule = pickled(b"cmy_lab.schedules\nCosine\n.")
    path = edited(trained("dqn").path, tmp_path / "model.zip", buffer_size=10**13, learning_rate=schedule)
    found = from_sb3(path, CHOOSE, None, trust_pickle=True)
    assert found.training["algorithm"] == "DQN"
    assert "a zip of DQN does not record one; --vecnormalize FILE" in found.assumed


def test_what_stable_baselines3_never_wrote_is_refused(tmp_path: Path):
    path = tmp_path / "model.zip"
    path.write_bytes(b"text")
    with pytest.raises(ExportError, match=r"model.zip: not a policy as Stable-Baselines3's model.save writes it"):
        from_sb3(path, DRIVE, None, trust_pickle=True)
    for members in ({}, {"data": "{"}, {"data": "[]"}, {"data": '{"policy_class": {}}'}):
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in members.items():
                archive.writestr(name, text)
        with pytest.raises(ExportError, match="not a policy as Stable-Baselines3"):
            from_sb3(path, DRIVE, None, trust_pickle=True)


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        ("a2c-choices", {"batch_size": 128}),
    ],
)
def test_an_unknown_algorithm_is_refused_with_those_that_are_known(
    trained: Trainer, tmp_path: Path, source: str, settings: Any
):
    path = edited(trained(source).path, tmp_path / "model.zip", **settings)
    with pytest.raises(
        ExportError, match="MaskablePPO, RecurrentPPO, PPO, TRPO, A2C, SAC, TQC, CrossQ, TD3, DDPG, QRDQN, DQN, ARS"
    ):
        from_sb3(path, DRIVE, None, trust_pickle=True)


def test_choices_that_do_not_start_at_0_and_policies_with_memory_are_refused(tmp_path: Path):
    path = tmp_path / "model.zip"
    for policy, space, complaint in (
        ("MlpPolicy", Discrete(3, start=2), "observes observation, choices that start at 2"),
        (Remembering, VECTOR, "returns a state, though it is not RecurrentPPO's"),
    ):
        sb3.A2C(policy, Toy(space, PEDALS), device="cpu").save(path)
        with pytest.raises(ExportError, match=complaint):
            from_sb3(path, DRIVE, None, trust_pickle=True)


@pytest.mark.parametrize("space", [Discrete(3, start=2), MultiDiscrete([3, 2], start=[0, 1])])
def test_actions_that_do_not_start_at_0_are_refused_since_the_library_never_adds_the_start(space: Any, tmp_path: Path):
    path = tmp_path / "model.zip"
    sb3.A2C("MlpPolicy", Toy(VECTOR, space), device="cpu").save(path)
    with pytest.raises(ExportError, match=r"chooses among actions that start at .*; Stable-Baselines3 .* never adds"):
        from_sb3(path, CHOOSE, None, trust_pickle=True)


def test_a_policy_that_was_saved_with_gym_is_told_what_to_install(trained: Trainer, tmp_path: Path):
    path = edited(trained("ppo").path, tmp_path / "model.zip", observation_space=pickled(b"cgym.spaces.box\nBox\n."))
    with pytest.raises(ExportError, match=r"No module named 'gym'.*: pip install gym==0\.26\.2 shimmy$"):
        from_sb3(path, DRIVE, None, trust_pickle=True)


def test_statistics_of_another_policy_are_refused(trained: Trainer, tmp_path: Path):
    def refused(name: str, statistics: Path, complaint: str) -> None:
        with pytest.raises(ExportError, match=complaint):
            from_sb3(trained(name).path, trained(name).draft, statistics, trust_pickle=True)

    refused(
        "ppo", trained("sac").vecnormalize, r"sac.pkl: VecNormalize was fitted on observation of shape \[4\].*\[3\]"
    )
    refused("ppo", trained("ppo-mixed").vecnormalize, "takes a Dict of observations, the other a Box")
    other = tmp_path / "other.pkl"
    other.write_bytes(pickle.dumps({"mean": 0}))
    refused("ppo", other, "other.pkl: holds a dict, not what VecNormalize.save writes")
    refused("ppo", tmp_path / "none.pkl", "there is no such file")
