"""Evaluates a policy and a baseline on the same seeds in the author's own environment, as evidence in MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import mlflow

from carla_mlflow.contract.answer import fallback_row
from carla_mlflow.contract.control import inverse_controller
from carla_mlflow.contract.history import frame_spec
from carla_mlflow.contract.seeds import seeds_of_training
from carla_mlflow.errors import ActionError, DrivingError, SpecError
from carla_mlflow.flavor.card_in_run import log_card
from carla_mlflow.flavor.opening import PolicyIdentity
from carla_mlflow.inference.engine import Engine
from training_export.evaluation.evidence_run import log_drives
from training_export.evaluation.own_driving import Drives, Outcome, OwnDriver, drive_all, rows_of, summarise
from training_export.evaluation.own_env import OwnEnv, call, load_function
from training_export.evaluation.own_spaces import actor, check_labels, observer
from training_export.evaluation.rewards_plot import plot_rewards
from training_export.racetrack.conditions import Conditions
from training_export.sources.from_env import labels_of_env


@dataclass
class PolicyDriver:
    """The policy as a driver, which acts as in a car: in episodes, and by the card's fallback after an error.

    The environment gives single ticks: of a field with a history it gives one frame, and an action that holds for
    several ticks is given to each of them.

    Attributes:
        fallbacks: how often the fallback was used.
        reason: why, the first time.
    """

    engine: Engine
    env: gymnasium.Env[Any, Any]
    fallbacks: int = 0
    reason: str = field(default="", init=False)

    def __post_init__(self) -> None:
        card = self.engine.card
        self._observe = observer(frame_spec(card.observation), self.env.observation_space, _mask_of(self.env))
        self._act = actor(card.action, self.env.action_space)
        check_labels(card.action, labels_of_env(self.env))
        self._fallback = inverse_controller(card.action)(fallback_row(card.action)[None])[0]
        self.begin()

    def begin(self) -> None:
        """Begins an episode."""
        self._episode = self.engine.start_episode()

    def __call__(self, observation: Any) -> Any:
        row = self._observe(observation)
        try:
            raw = self._episode.act(row).raw[0]
        except (SpecError, ActionError) as error:
            self.fallbacks += 1
            self.reason = self.reason or str(error)
            raw = self._fallback
        return self._act(raw)


def _mask_of(env: gymnasium.Env[Any, Any]) -> Callable[[], Any] | None:
    """The function that gives the allowed choices of an environment for MaskablePPO, as sb3-contrib looks it up."""
    name = "action_masks"
    if not env.has_wrapper_attr(name):
        return None
    return lambda: call(f"{name}()", env.get_wrapper_attr(name))


def baseline_driver(name: str | None, env: gymnasium.Env[Any, Any], seed: int) -> OwnDriver:
    """The driver that a first champion is compared with: the author's `FILE.py:FUNCTION`, or random actions."""
    if name is None:
        env.action_space.seed(seed)
        return lambda _: env.action_space.sample()
    function = load_function(name)
    return lambda observation: call(name, lambda: function(observation))


def check_seeds(training: Mapping[str, Any], conditions: Conditions) -> None:
    """Raises DrivingError when an evaluation's seeds may also have seeded the policy's training, as its card has it."""
    used = seeds_of_training(training)
    if used is not None and used.start <= conditions.seeds[-1] and used.stop > conditions.first_seed:
        raise DrivingError(
            f"the policy was trained with seed {used.start}, so its training may have used the seeds up to "
            f"{used.stop - 1}, among them some of this evaluation's, {conditions.first_seed} to "
            f"{conditions.seeds[-1]}; choose others with --first-seed"
        )


@dataclass(frozen=True)
class EvaluationResult:
    """An evaluation: every driver's episodes, and how often, and why first, the policy's fallback was used."""

    drives: Drives
    fallbacks: int
    reason: str


def evaluate_own(
    engine: Engine, own: OwnEnv, conditions: Conditions, outcome: Outcome, baseline: str | None
) -> EvaluationResult:
    """Drives the policy and its baseline on the same seeds; closes the environment."""
    policy = PolicyDriver(engine, own.env)
    other = baseline_driver(baseline, own.env, conditions.first_seed)
    name = "random" if baseline is None else "baseline"
    drives = {
        "policy": drive_all(own, policy, conditions, outcome, f"{engine.card.name} {engine.card.version}"),
        name: drive_all(own, other, conditions, outcome, name),
    }
    call(own.name, own.env.close)
    return EvaluationResult(drives, policy.fallbacks, policy.reason)


def log_own(
    engine: Engine,
    own: OwnEnv,
    driven: EvaluationResult,
    conditions: Conditions,
    outcome: Outcome,
    flags: dict[str, Any],
) -> None:
    """Logs an evaluation and a picture of it to the active MLflow run; `flags` are the flags needed to repeat it."""
    log_drives(
        PolicyIdentity(engine.card.name, engine.card.version, engine.digest),
        {"backend": engine.backend, "device": engine.device.name},
        {
            "env": own.name,
            "env_version": own.version,
            "first_seed": conditions.first_seed,
            "episodes": conditions.episodes,
            "success_key": outcome.success,
            "collision_key": outcome.collision,
            "fallbacks": driven.fallbacks,
            **flags,
        },
        {driver: summarise(episodes) for driver, episodes in driven.drives.items()},
        rows_of(driven.drives),
    )
    log_card(engine.card)
    (_, policy), (other, compared) = driven.drives.items()  # as `evaluate_own` made them
    ended = {
        "no fault": [each for each in policy if not each.failed],
        "no success": [each for each in policy if each.failed and not each.collision],
        "collision": [each for each in policy if each.collision],
    }
    mlflow.log_figure(plot_rewards(ended, other, compared), "outcomes.png")
