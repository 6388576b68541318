"""A checkpoint of `training_export train` → a TrainedPolicy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from carla_mlflow.artifact.golden import Golden
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.field_card import FieldCard, observation_spec
from carla_mlflow.contract.seeds import GOLDEN_FIRST
from carla_mlflow.preprocessing.translation import translate
from training_export.graphs.graph import Flatten, PolicyGraph
from training_export.racetrack.driving import Driver, drive_episodes
from training_export.racetrack.env import ENV_ID, RATE_HZ, Beams
from training_export.sources.draft import FULL_BRAKE
from training_export.sources.seen import of_rows, of_scaler, with_seen
from training_export.sources.trained import Arrays, TrainedPolicy, control_of, flatten
from training_export.training.checkpoint import PREPROCESSOR, Checkpoint, load_policy, preprocess

GOLDEN_DRIVES = 8
"""Episodes from which the golden observations of driving are drawn."""


RACETRACK_ACTION = ActionCard(
    head="gaussian",
    raw={"acceleration": (-1.0, 1.0), "steer": (-1.0, 1.0)},
    control="acceleration_steer",
    rate_hz=float(RATE_HZ),
    fallback=FULL_BRAKE,
)


def racetrack_observation() -> dict[str, FieldCard]:
    """The card's observation section for the racetrack, from the environment's own spaces."""
    units = {"speed": "m/s"}
    section = {}
    for name, box in Beams.boxes().items():
        low, high = float(box.low.min()), float(box.high.max())
        section[name] = FieldCard("float32", list(box.shape), low, high, units.get(name, "1"))
    return section


class GaussianActor(nn.Module):
    """Preprocessing, then Stable-Baselines3's actor: named observations → mean and standard deviation."""

    def __init__(self, preprocessing: nn.Module, actor: nn.Module, log_std: torch.Tensor) -> None:
        super().__init__()
        self.flatten = Flatten()
        self.preprocessing = preprocessing
        self.actor = actor
        self.register_buffer("std", log_std.detach().exp())
        self.std: torch.Tensor

    def forward(self, *observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.actor(self.preprocessing(self.flatten(*observations)))
        return mean, self.std.expand_as(mean)


def from_checkpoint(checkpoint: Checkpoint) -> TrainedPolicy:
    """The PPO policy in a checkpoint of `training_export train`."""
    policy = load_policy(checkpoint)
    specs = observation_spec(racetrack_observation())
    names = specs.names
    low, high = RACETRACK_ACTION.bounds

    def answer(observations: Arrays) -> Golden:
        features = preprocess(checkpoint.preprocessor, flatten(specs, observations))
        raw, _ = policy.predict(features, deterministic=True)
        with torch.no_grad():
            normal: Any = policy.get_distribution(torch.from_numpy(features)).distribution
        distribution = {"mean": normal.mean.numpy(), "std": normal.stddev.numpy()}
        raw = np.clip(raw, low, high)
        return Golden(dict(observations), raw, distribution, control_of(RACETRACK_ACTION, raw), features)

    def driver(observation: Any) -> NDArray[np.float32]:
        return np.asarray(answer({name: np.asarray(observation[name])[None] for name in names}).action[0])

    actor = nn.Sequential(policy.mlp_extractor.policy_net, policy.action_net)
    scaler = checkpoint.preprocessor
    network = GaussianActor(translate(scaler, scaler.n_features_in_), actor, policy.log_std)
    driving = _observations_of_driving(driver, checkpoint.config.traffic)
    training = {**checkpoint.provenance, "steps": checkpoint.steps, "seed": checkpoint.config.seed}
    return TrainedPolicy(
        graph=PolicyGraph(network, RACETRACK_ACTION),
        observation=with_seen(racetrack_observation(), of_scaler(scaler, specs), of_rows(driving)),
        action=RACETRACK_ACTION,
        answer=answer,
        driving=driving,
        preprocessor=(checkpoint.folder / PREPROCESSOR).read_bytes(),
        training={**training, "env": ENV_ID, "traffic": checkpoint.config.traffic},
    )


def _observations_of_driving(driver: Driver, traffic: int) -> Arrays:
    seeds = range(GOLDEN_FIRST, GOLDEN_FIRST + GOLDEN_DRIVES)
    seen = [o for episode in drive_episodes(driver, seeds, traffic) for o in episode.observations]
    return {name: np.stack([observation[name] for observation in seen]) for name in seen[0]}
