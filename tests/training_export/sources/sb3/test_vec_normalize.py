"""Whether a policy was trained behind VecNormalize: what its zip shows, and what lies beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import joblib
import numpy as np
import pytest
from sb3_policies import Trainer
from tests_support import command_here

from carla_mlflow.errors import ExportError
from training_export.sources.sb3.source import from_sb3
from training_export.sources.sb3.vec_normalize import read_statistics, statistics_beside


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    return Trainer(tmp_path_factory.mktemp("sb3"))


def alone(path: Path, folder: Path) -> Path:
    return Path(shutil.copy(path, folder / "model.zip"))


@pytest.mark.parametrize("name", ["ppo-float64", "ppo-mixed", "a2c-choices", "trpo", "ars"])
def test_a_zip_that_shows_a_vecnormalize_is_refused_without_its_statistics(trained: Trainer, tmp_path: Path, name: str):
    given = trained(name)
    path = alone(given.path, tmp_path)
    with pytest.raises(ExportError, match=r"^model\.zip: was trained with VecNormalize.*--vecnormalize FILE.*--no-vec"):
        from_sb3(path, given.draft, None, trust_pickle=True)
    assert from_sb3(path, given.draft, None, trust_pickle=True, no_vecnormalize=True).assumed == ""
    assert from_sb3(path, given.draft, given.vecnormalize, trust_pickle=True).assumed == ""


def test_an_image_as_vecnormalize_leaves_it_shows_one_too(trained: Trainer, tmp_path: Path):
    given = trained("dqn-normalised-image")
    with pytest.raises(ExportError, match="observation looks like an image after VecNormalize; --vecnormalize FILE"):
        from_sb3(alone(given.path, tmp_path), given.draft, None, trust_pickle=True)


@pytest.mark.parametrize("name", ["sac", "td3", "dqn", "tqc", "crossq", "qrdqn"])
def test_a_zip_that_does_not_tell_is_said_to_be_taken_without(trained: Trainer, tmp_path: Path, name: str):
    given = trained(name)
    found = from_sb3(alone(given.path, tmp_path), given.draft, None, trust_pickle=True)
    assert found.assumed.startswith(f"no VecNormalize: a zip of {given.case.algorithm} does not record one")


@pytest.mark.parametrize("place", ["vecnormalize.pkl", "vec_normalize.pkl", "model/vecnormalize.pkl"])
def test_statistics_that_lie_beside_a_zip_are_not_passed_over(trained: Trainer, tmp_path: Path, place: str):
    given = trained("sac")
    path = alone(given.path, tmp_path)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    shutil.copy(given.vecnormalize, tmp_path / place)
    assert statistics_beside(path) == [tmp_path / place]
    with pytest.raises(ExportError, match=rf"{place} lies beside it: is it this policy's\? --vecnormalize FILE"):
        from_sb3(path, given.draft, None, trust_pickle=True)
    assert from_sb3(path, given.draft, tmp_path / place, trust_pickle=True).assumed == ""
    assert from_sb3(path, given.draft, None, trust_pickle=True, no_vecnormalize=True).assumed == ""


def test_what_a_checkpoint_callback_saved_is_found_too_and_that_of_the_zips_own_name_first(tmp_path: Path):
    for place in ("run/vecnormalize.pkl", "model/vecnormalize.pkl", "rl_model_vecnormalize_500_steps.pkl", "other.pkl"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).touch()
    found = [str(path.relative_to(tmp_path)) for path in statistics_beside(tmp_path / "model.zip")]
    assert found == ["model/vecnormalize.pkl", "rl_model_vecnormalize_500_steps.pkl", "run/vecnormalize.pkl"]


def saved_again(given: Path, to: Path, without: tuple[str, ...] = (), moved: float = 0.0) -> Path:
    """Statistics with some of their state missing, as older versions wrote them, or with another mean."""
    found = joblib.load(given)
    if moved:
        found.obs_rms.mean += moved * np.sqrt(found.obs_rms.var)
    state = vars(found)
    if without:
        state["observation_space"] = None  # then gym's, which no check of today's knows
    for name in without:
        del state[name]
    state.update(venv=None, class_attributes={}, returns=None)  # what saving takes out
    joblib.dump(found, to)
    return to


def test_statistics_that_are_not_what_the_policy_was_trained_behind_are_refused(trained: Trainer, tmp_path: Path):
    sac, ppo = trained("sac"), trained("ppo")
    other = saved_again(sac.vecnormalize, tmp_path / "other.pkl", moved=3.0)
    with pytest.raises(ExportError, match=r"normalised by other\.pkl.*another policy's"):
        from_sb3(sac.path, sac.draft, other, trust_pickle=True)
    with pytest.raises(ExportError, match=r"was not trained with VecNormalize; leave --vecnormalize .*\.pkl out"):
        from_sb3(ppo.path, ppo.draft, trained("ppo-float64").vecnormalize, trust_pickle=True)


@pytest.mark.parametrize("name", ["sac", "ppo-pair"])
def test_statistics_that_an_older_version_saved_are_read(trained: Trainer, tmp_path: Path, name: str):
    given = trained(name)
    usual = read_statistics(given.vecnormalize, trusted=True)
    older = saved_again(given.vecnormalize, tmp_path / "older.pkl", without=("norm_obs_keys",))
    seen = given.model.observation_space.sample()
    np.testing.assert_equal(read_statistics(older, trusted=True).normalize_obs(seen), usual.normalize_obs(seen))
    broken = saved_again(given.vecnormalize, tmp_path / "broken.pkl", without=("norm_obs_keys", "clip_obs"))
    with pytest.raises(ExportError, match=r"broken\.pkl: holds a VecNormalize without clip_obs"):
        read_statistics(broken, trusted=True)


def test_the_command_says_what_it_assumed_and_takes_one_of_the_two_flags(trained: Trainer, tmp_path: Path):
    path = alone(trained("sac").path, tmp_path)
    (tmp_path / "card.yaml").write_text(
        "action: {control: acceleration_steer, raw: [acceleration, steer],"
        " full_throttle: 2, full_brake: -3, full_right: 0.7}"
    )
    command = ["carla-export", str(path), "--card", str(tmp_path / "card.yaml"), "--trust-pickle", "--dry-run"]
    done = command_here(*command)
    assert done.code == 0, done.err
    assert "\nassumed   no VecNormalize: a zip of SAC does not record one" in done.out
    assert command_here(*command, "--no-vecnormalize", "--vecnormalize", "x.pkl").code == 2
