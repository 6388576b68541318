"""python -m benchmarks.recurrent: RecurrentPPO's own predict() against its exported policy, over whole episodes.

Both carry their own states from step to step, over the same observations; episodes begin anew at random. Printed is the
largest difference of an action, and of a state, between sb3-contrib and each backend.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import RecurrentPPO

from benchmarks.support.command_line import parser_of
from benchmarks.support.table import Column, Table
from carla_mlflow.inference.engine import Engine
from training_export.export.export import export_policy
from training_export.sources.draft import ActionDraft, CardDraft
from training_export.sources.sb3.source import from_sb3

TABLE = Table(
    "largest |exported - predict()|", 32, (Column("steps", 8, ",d"), Column("action", 10), Column("states", 10))
)
BEGINS = 1 / 200
"""The share of steps at which an episode begins anew."""
CARD = CardDraft(ActionDraft("acceleration_steer", ["acceleration", "steer"]))


class Noise(gym.Env[Any, Any]):
    """Gives observations at random: a policy is to be had, not a good one."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (16,))
    action_space = gym.spaces.Box(-1.0, 1.0, (2,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 16).astype(np.float32), {}

    def step(self, action: Any) -> Any:
        ended = bool(self.np_random.random() < BEGINS)
        return self.np_random.uniform(-1, 1, 16).astype(np.float32), -float(np.square(action).sum()), ended, False, {}


def trained(hidden: int) -> Any:
    """RecurrentPPO after two short rollouts, with larger weights than these leave it: its actions fill their bounds."""
    model = RecurrentPPO(
        "MlpLstmPolicy",
        Noise(),
        n_steps=64,
        batch_size=64,
        seed=3,
        device="cpu",
        policy_kwargs={"lstm_hidden_size": hidden},
    )
    model.learn(128)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            width = parameter[0].numel() if parameter.dim() > 1 else 9
            parameter.add_(torch.randn(parameter.shape, generator=generator) / width**0.5)
    return model


def exported(model: Any) -> dict[str, Engine]:
    """The engine of each backend."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.zip"
        model.save(path)
        policy = from_sb3(path, CARD, None, trust_pickle=True)
        return export_policy(policy, "recurrent", "0.1.0", "RecurrentPPO").engines


def rollout(steps: int, episodes: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Observations, (steps, episodes, 16), and where an episode begins, (steps, episodes)."""
    rng = np.random.default_rng(5)
    observations = rng.uniform(-1, 1, (steps, episodes, 16)).astype(np.float32)
    return observations, rng.random((steps, episodes)) < BEGINS


def difference(model: Any, engine: Engine, steps: int, episodes: int) -> tuple[float, float]:
    """The largest difference of an action and of a state, both running freely."""
    ours: Any = None
    theirs: Any = None
    action = states = 0.0
    for seen, begins in zip(*rollout(steps, episodes), strict=True):
        wanted, theirs = model.predict(seen, theirs, begins, deterministic=True)
        actions = engine.act({"observation": seen}, state=ours, reset=None if ours is None else begins)
        ours = actions.state
        action = max(action, float(np.abs(actions.raw - wanted).max()))
        apart = (float(np.abs(ours[name] - state[0]).max()) for name, state in zip(("h", "c"), theirs, strict=True))
        states = max(states, *apart)
    return action, states


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--steps", type=int, default=1_000, help="of each episode (default 1000)")
    parser.add_argument("--episodes", type=int, default=8, help="side by side (default 8)")
    parser.add_argument("--hidden", type=int, default=256, help="elements of the LSTM (default 256)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of Stable-Baselines3, about a batch that its own defaults make
    model = trained(options.hidden)
    TABLE.print_heading()
    for name, engine in exported(model).items():
        action, states = difference(model, engine, options.steps, options.episodes)
        label = f"{name}, LSTM-{options.hidden} × {options.episodes}"
        TABLE.print_row(label, options.steps, f"{action:.1e}", f"{states:.1e}")


if __name__ == "__main__":
    main()
