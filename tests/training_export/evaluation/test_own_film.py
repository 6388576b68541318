"""The film of an evaluation in an environment of the author's own, and the picture of its rewards."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import imageio.v3 as imageio
import mlflow
import numpy as np
import pytest
from own_environment import write_own_files
from PIL import Image, ImageSequence
from tests_support import command_here

from carla_mlflow import Engine, open_artifact, write_artifact
from carla_mlflow.errors import DrivingError
from training_export.evaluation.own_driving import Outcome
from training_export.evaluation.own_env import open_own_env
from training_export.evaluation.own_film import MOST_FRAMES, FilmedEnv, film_first, film_own
from training_export.export.export import export_policy
from training_export.sources.draft import read_draft
from training_export.sources.from_module import from_module

BOTH = Outcome("is_success", "crash")
DRAWN = """
import numpy as np
from my_env import Lane

class Drawn(Lane):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, length, render_mode):
        super().__init__(length)
        self.render_mode = render_mode

    def render(self):
        picture = np.zeros((60, 100, 3), np.uint8)
        picture[:, int(np.clip(50 + 10 * self.offset, 0, 99))] = 255
        return picture

def make(length=12, render_mode=None):
    return Drawn(length, render_mode)

def never(length=12):
    return Drawn(length, None)
"""


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_own_files(tmp_path)
    (tmp_path / "drawn.py").write_text(DRAWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a policy that steers to the middle of the author's lane."""
    folder = tmp_path_factory.mktemp("own")
    write_own_files(folder)
    source = from_module(f"{folder}/my_policy.py:build", read_draft(folder / "card.yaml"))
    return write_artifact(folder / "policy", export_policy(source, "mine", "0.1.0", "").artifact).path


@pytest.fixture
def engine(policy: Path) -> Engine:
    return Engine(open_artifact(policy), "cpu")


def columns(film: Path) -> list[int]:
    """Where the car is drawn in each tenth of a second; a GIF holds a frame that does not change for longer."""
    found: list[int] = []
    with Image.open(film) as frames:
        for frame in ImageSequence.Iterator(frames):
            found += [int(np.asarray(frame.convert("L"))[0].argmax())] * (frame.info["duration"] // 100)
    return found


def test_the_film_shows_where_the_policy_drove_in_the_environments_time(author: Path, engine: Engine):
    film_own(engine, open_own_env("drawn.py:make", None), 5, BOTH, author / "film.gif")
    env = open_own_env("drawn.py:make", None).env
    (seen, _), episode = env.reset(seed=5), engine.start_episode()
    offsets = [float(seen[0])]
    for _ in range(12):
        seen, *_ = env.step(episode.act({"observation": seen[None]}).raw[0])
        offsets.append(float(seen[0]))
    assert len(set(offsets)) > 3
    assert columns(author / "film.gif") == [int(50 + 10 * offset) for offset in offsets]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("my_env.py:make", "my_env.py:make: can't be filmed: its metadata has no 'rgb_array' among the render_modes"),
        ("drawn.py:never", "drawn.py:never: can't be filmed: its function has to take render_mode='rgb_array'"),
    ],
)
def test_what_can_not_draw_itself_is_told_what_it_lacks(author: Path, engine: Engine, name: str, complaint: str):
    own = open_own_env(name, None)
    with pytest.raises(DrivingError) as raised:
        film_own(engine, own, 5, BOTH, author / "film.gif")
    assert str(raised.value).startswith(complaint)
    assert str(film_first(engine, own, 5, BOTH, author / "film.gif", None)).startswith(complaint)
    assert not (author / "film.gif").exists()


class Endless(gym.Env[Any, Any]):
    """Draws how many steps it has made, always into the same large picture."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 50}
    render_mode = "rgb_array"

    def reset(self, **given: Any) -> Any:
        self.steps, self.picture = 0, np.zeros((1000, 700, 3), np.uint8)
        return None, {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return None, 0.0, False, False, {}

    def render(self) -> Any:
        self.picture[:] = self.steps % 251
        return self.picture


def test_a_long_episode_is_shown_whole_by_fewer_and_smaller_frames(tmp_path: Path):
    env = FilmedEnv(Endless())
    env.reset()
    for _ in range(2000):
        env.step(None)
    assert env.every == 12  # of 50 steps a second every third, and then twice half of those
    assert len(env.frames) == 2000 // 12 + 1 <= MOST_FRAMES
    assert [int(frame[0, 0, 0]) for frame in env.frames] == [n * 12 % 251 for n in range(2000 // 12 + 1)]
    assert env.frames[0].shape == (334, 234, 3)
    env.write(tmp_path / "film.gif")
    assert imageio.immeta(tmp_path / "film.gif")["duration"] == 240


def test_evidence_has_the_film_and_a_picture_of_the_rewards(
    author: Path, policy: Path, mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(author)
    flags = ["--env", "drawn.py:make", "--success-key", "is_success", "--episodes", "3", "--log", "--json"]
    done = command_here("training_export", "evaluate", str(policy), *flags, "--gif", "shown.gif")
    assert done.code == 0, done.err
    [run] = mlflow.search_runs(search_all_experiments=True, output_format="list")
    logged = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert {"episode.gif", "outcomes.png", "episodes.json"} <= logged
    assert imageio.imread(author / "shown.gif").shape[1:] == (60, 100, 3)
    for gif, problem in (("nowhere/shown.gif", "nowhere: no such folder"), (".", ".: is a folder")):
        done = command_here("training_export", "evaluate", str(policy), *flags, "--gif", gif)
        assert (done.code, f"argument --gif: {problem}" in done.err) == (2, True)
    flags = ["--env", "my_env.py:make", "--success-key", "is_success", "--gif", "shown.gif"]
    done = command_here("training_export", "evaluate", str(policy), *flags)
    assert (done.code, "--gif: my_env.py:make can't be filmed: its metadata has no" in done.err) == (2, True)
