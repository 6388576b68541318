"""Where policies come from: each source becomes a TrainedPolicy, which export turns into an artifact."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from carla_mlflow.card import ActionCard, Control, FieldCard, check_action, observation_spec, read_section, read_yaml
from carla_mlflow.control import to_control
from carla_mlflow.errors import CardError, ExportError
from carla_mlflow.golden import Golden
from carla_mlflow.heads import PARAMETERS
from carla_mlflow.preprocessing import translate
from carla_mlflow.specs import ObservationSpec
from training_export.checkpoint import PREPROCESSOR, Checkpoint, load_policy, preprocess
from training_export.driving import Driver, drive_episodes
from training_export.env import ENV_ID, RATE_HZ, Beams
from training_export.graph import Flatten, PolicyGraph, script_network

Arrays = Mapping[str, NDArray[Any]]

GOLDEN_DRIVES = 8
"""Episodes that the golden observations from driving are drawn from; their seeds start at GOLDEN_SEED."""
GOLDEN_SEED = 20_000


class CardDraft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the author of a policy says of it: the sections of the card that can't be measured."""

    observation: dict[str, FieldCard]
    action: ActionCard
    name: str = "carla-policy"
    version: str = "0.1.0"
    description: str = ""
    training: dict[str, Any] = {}


@dataclass(frozen=True)
class TrainedPolicy:
    """A policy as its training left it.

    Attributes:
        graph: what will be exported.
        observation: the card's observation section.
        action: the card's action section.
        answer: what the trained policy itself does with observations; the measure of the exported graph.
        driving: observations from driving, each (N, *shape), or None when there are none.
        preprocessor: the fitted transformer as skops bytes, when there is one.
        training: for the card: where it comes from.
    """

    graph: PolicyGraph
    observation: dict[str, FieldCard]
    action: ActionCard
    answer: Callable[[Arrays], Golden]
    driving: Arrays | None = None
    preprocessor: bytes | None = None
    training: dict[str, Any] = field(default_factory=dict)


def read_draft(path: Path) -> CardDraft:
    """Reads a card's authored sections from YAML.

    Raises:
        CardError: what is wrong, where.
    """
    try:
        draft = read_section(read_yaml(path.read_bytes()), CardDraft)
    except OSError as error:
        raise CardError(f"{path}: {error.strerror}") from error
    problems = check_action(draft.action)
    if problems:
        raise CardError(f"{path}: " + "; ".join(problems))
    observation_spec(draft.observation)
    return draft


RACETRACK_ACTION = ActionCard(
    head="gaussian",
    raw={"acceleration": (-1.0, 1.0), "steer": (-1.0, 1.0)},
    control="acceleration_steer",
    rate_hz=float(RATE_HZ),
    fallback=Control(throttle=0.0, brake=1.0, steer=0.0),
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
    """Stable-Baselines3's actor behind its preprocessing: named observations → mean and standard deviation."""

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
    """A PPO policy that `training_export train` left."""
    policy = load_policy(checkpoint)
    names = tuple(racetrack_observation())
    low, high = np.array(list(RACETRACK_ACTION.raw.values()), dtype=np.float32).T

    def answer(observations: Arrays) -> Golden:
        rows = len(observations[names[0]])
        flat = np.concatenate([observations[name].reshape(rows, -1) for name in names], axis=1)
        features = preprocess(checkpoint.preprocessor, flat)
        raw, _ = policy.predict(features, deterministic=True)
        with torch.no_grad():
            normal: Any = policy.get_distribution(torch.from_numpy(features)).distribution
        distribution = {"mean": normal.mean.numpy(), "std": normal.stddev.numpy()}
        raw = np.clip(raw, low, high)
        return Golden(dict(observations), raw, distribution, _control(RACETRACK_ACTION, raw), features)

    def driver(observation: Any) -> NDArray[np.float32]:
        return np.asarray(answer({name: np.asarray(observation[name])[None] for name in names}).action[0])

    actor = nn.Sequential(policy.mlp_extractor.policy_net, policy.action_net)
    network = GaussianActor(translate(checkpoint.preprocessor), actor, policy.log_std)
    training = {**checkpoint.provenance, "steps": checkpoint.steps, "seed": checkpoint.config.seed}
    return TrainedPolicy(
        graph=PolicyGraph(network, RACETRACK_ACTION),
        observation=racetrack_observation(),
        action=RACETRACK_ACTION,
        answer=answer,
        driving=_observations_of_driving(driver, checkpoint.config.traffic),
        preprocessor=(checkpoint.folder / PREPROCESSOR).read_bytes(),
        training={**training, "env": ENV_ID, "traffic": checkpoint.config.traffic},
    )


def from_module(target: str, draft: CardDraft, driving: Arrays | None) -> TrainedPolicy:
    """`package.module:build` or `path/to/file.py:build`, where build() returns a torch module.

    The module takes the named observations in the card's order and returns the head's parameters: for
    `deterministic` the raw action, for `gaussian` mean and standard deviation, each (B, A).

    Raises:
        ExportError: it can't be imported, built, scripted, or returns something else.
    """
    module = _build(target)
    specs = observation_spec(draft.observation)
    names = ("raw",) if draft.action.head == "deterministic" else PARAMETERS[draft.action.head]

    def answer(observations: Arrays) -> Golden:
        try:
            with torch.no_grad():
                outputs = module(*(torch.from_numpy(observations[name]) for name in specs.names))
        except Exception as error:  # the author's code may raise anything
            raise ExportError(f"{target}: does not take the card's observations: {error}") from error
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        _check_outputs(outputs, names, len(draft.action.raw))
        parameters = {name: output.numpy() for name, output in zip(names, outputs, strict=True)}
        low, high = np.array(list(draft.action.raw.values()), dtype=np.float32).T
        raw = np.clip(outputs[0].numpy(), low, high)
        distribution = {} if draft.action.head == "deterministic" else parameters
        return Golden(dict(observations), raw, distribution, _control(draft.action, raw))

    answer(specs.example(2))  # a module that doesn't fit its card is said so before anything is scripted
    return TrainedPolicy(
        graph=PolicyGraph(script_network(module), draft.action),
        observation=draft.observation,
        action=draft.action,
        answer=answer,
        driving=driving,
        training=draft.training,
    )


def _check_outputs(outputs: tuple[Any, ...], names: tuple[str, ...], width: int) -> None:
    shapes = [tuple(getattr(output, "shape", ())) for output in outputs]
    if len(outputs) != len(names) or any(shape[1:] != (width,) for shape in shapes):
        raise ExportError(
            f"the network returns shapes {shapes}; the card's head needs {', '.join(names)}, each (B, {width})"
        )


def _build(target: str) -> nn.Module:
    where, _, name = target.rpartition(":")
    try:
        built = getattr(_import(where), name)()
    except Exception as error:  # the author's code may raise anything
        raise ExportError(f"{target}: {type(error).__name__}: {error}") from error
    if not isinstance(built, nn.Module):
        raise ExportError(f"{target}: expected a torch module, got {type(built).__name__}")
    return built.eval()


def _import(where: str) -> Any:
    if not where.endswith(".py"):
        sys.path.insert(0, "")
        return importlib.import_module(where)
    spec = importlib.util.spec_from_file_location(Path(where).stem, where)
    if spec is None or spec.loader is None or not Path(where).is_file():
        raise FileNotFoundError(f"no file {where}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where torch.jit.script looks the source up
    spec.loader.exec_module(module)
    return module


def _control(action: ActionCard, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    return to_control(action.control, tuple(action.raw), raw)


def _observations_of_driving(driver: Driver, traffic: int) -> Arrays:
    seeds = range(GOLDEN_SEED, GOLDEN_SEED + GOLDEN_DRIVES)
    seen = [o for episode in drive_episodes(driver, seeds, traffic) for o in episode.observations]
    return {name: np.stack([observation[name] for observation in seen]) for name in seen[0]}


def stack(specs: ObservationSpec, parts: list[Arrays]) -> dict[str, NDArray[Any]]:
    """Batches one after the other, in the order and the types of the specs."""
    return {spec.name: np.concatenate([part[spec.name] for part in parts]).astype(spec.dtype) for spec in specs}
