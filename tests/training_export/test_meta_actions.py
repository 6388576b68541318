"""A DQN on highway-env's meta-actions: from its zip to a served, driven and promoted version by the commands alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import msgspec
import numpy as np
import pytest
import yaml
from stable_baselines3 import DQN
from tests_support import Server, command_here, registry_here

from carla_mlflow import PolicyClient, open_artifact

ENV = "highway_env:highway-fast-v0"
CONFIG = {"config": {"duration": 10, "vehicles_count": 10}}
META_ACTIONS = ["LANE_LEFT", "IDLE", "LANE_RIGHT", "FASTER", "SLOWER"]

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def careful_dqn(path: Path) -> DQN:
    """Trains for a few steps, then leans towards IDLE and SLOWER, as a longer training would."""
    model = DQN(
        "MlpPolicy",
        gymnasium.make(ENV, **CONFIG),
        policy_kwargs={"net_arch": [32]},
        learning_starts=20,
        buffer_size=200,
        batch_size=16,
        train_freq=4,
        seed=1,
        device="cpu",
    )
    model.learn(60)
    last = model.policy.q_net.q_net[-1]
    last.bias.data += last.bias.new_tensor([0.0, 2.0, 0.0, 0.0, 2.0])
    model.save(path)
    return model


def run(*arguments: str) -> str:
    done = command_here(*arguments)
    assert done.code == 0, done.err
    return done.out


def test_from_training_to_a_served_driven_and_promoted_version(mlflow_home: Path, start_server: Callable[..., Server]):
    model = careful_dqn(mlflow_home / "lanes.zip")
    config, folder = mlflow_home / "env.yaml", mlflow_home / "lanes-0.1.0"
    config.write_text(yaml.safe_dump(CONFIG))
    env = ["--env", ENV, "--env-config", str(config)]
    run(
        "carla-export",
        str(mlflow_home / "lanes.zip"),
        "--trust-pickle",
        *env,
        "--output",
        str(folder),
        "--name",
        "lanes",
    )
    action = open_artifact(folder).card.action
    assert (action.control, action.head, action.choices) == ("named", "deterministic", META_ACTIONS)
    assert (action.fallback, action.rate_hz) == ({"choice": "SLOWER"}, 1.0)

    assert registry_here("register", str(folder)).code == 0
    said = run("training_export", "evaluate", "lanes@0.1.0", "--log", *env, "--collision-key", "crashed")
    assert "fallback" not in said
    moved = registry_here("promote", "lanes@0.1.0", "--to", "production", "--reason", "keeps its lane")
    assert moved.code == 0, moved.err

    server = start_server("--model", "lanes@production")
    server.wait_ready()
    _drive(model, server)


def _drive(model: DQN, server: Server) -> None:
    """Drives an episode by the server's answers, each of which is the trained policy's."""
    env = gymnasium.make(ENV, **CONFIG)
    seen, _ = env.reset(seed=5)
    over, steps = False, 0
    with PolicyClient(server.url) as client:
        while not over:
            [index] = client.act({"observation": seen[None]}).control[0].tolist()
            answer = _answer(server, seen)
            assert index == answer["index"] == int(model.predict(seen, deterministic=True)[0])
            assert answer["choice"] == META_ACTIONS[answer["index"]]
            seen, _, terminated, truncated, _ = env.step(answer["index"])
            over, steps = terminated or truncated, steps + 1
    assert steps > 1


def _answer(server: Server, seen: np.ndarray) -> dict[str, Any]:
    body = msgspec.json.encode({"observations": [{"observation": seen.tolist()}]})
    answer = server.send("POST", "/predict", body, {"Content-Type": "application/json"})
    assert answer.status == 200
    return answer.json["actions"][0]
