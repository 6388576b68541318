"""What an environment of highway-env says about its actions: names, labels of choices, and how often one is taken.

No other environment is known to say it. Sources: highway_env/envs/common/action.py, DiscreteMetaAction and
ContinuousAction; `policy_frequency` is in the environment's config.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec import UNSET

from carla_mlflow.contract.control_kinds import CHOICE, NAMED
from carla_mlflow.errors import CardError
from training_export.sources.draft import FALLBACKS, FULL_BRAKE, ActionDraft, CardDraft

CAUTIOUS = ("SLOWER", "IDLE")
"""Choices to fall back to, the first that the environment offers."""


def labels_of_env(env: Any) -> list[str] | None:
    """The labels of the environment's choices, in their order; None if it does not say them."""
    kind = _action_type(env)
    actions = getattr(kind, "actions", None)
    if type(kind).__name__ != "DiscreteMetaAction" or not isinstance(actions, dict):
        return None
    return [str(actions[index]) for index in range(len(actions))]


def action_of_env(env: Any) -> ActionDraft | None:
    """The card's action section of a policy that was trained in the environment; None if that does not say it.

    Raises:
        CardError: its raw actions are no pedals or steering, since 0 is not between full throttle and full brake, or
            not straight ahead.
    """
    kind = _action_type(env)
    if kind is None:
        return None
    labels, rate_hz = labels_of_env(env), float(env.unwrapped.config["policy_frequency"])
    if labels is not None:
        fallback = next((label for label in CAUTIOUS if label in labels), labels[0])
        return ActionDraft(NAMED, rate_hz=rate_hz, fallback={CHOICE: fallback}, choices=labels)
    if type(kind).__name__ != "ContinuousAction":
        return None
    _check_ranges(kind)
    if kind.longitudinal and kind.lateral:
        return ActionDraft("acceleration_steer", ["acceleration", "steer"], rate_hz=rate_hz, fallback=FULL_BRAKE)
    control = "acceleration" if kind.longitudinal else "steer"
    return ActionDraft(control, [control], rate_hz=rate_hz, fallback=FALLBACKS[control])


def _check_ranges(kind: Any) -> None:
    """Raises CardError unless [-1, 1] stands for equal ranges on both sides of 0, as pedals and steering have them.

    highway-env's y axis points to the right of its x axis: a positive steering angle steers to the right.
    """
    used = {"acceleration_range": kind.longitudinal, "steering_range": kind.lateral}
    for key in (key for key, is_used in used.items() if is_used):
        low, high = map(float, getattr(kind, key))
        if not (low < high and math.isclose(low, -high)):
            raise CardError(
                f"its {key} is [{low:g}, {high:g}], of which raw 0 is not the middle 0, or which is turned round, so "
                "that raw actions are no pedals or steering; pass --card FILE with an action section that names them "
                "(control: named, raw: [acceleration, steering], a fallback in raw values)"
            )


def takes_of_env(env: Any) -> str:
    """What the environment takes, in words, where `action_of_env` says it."""
    labels = labels_of_env(env)
    if labels is not None:
        return f"{len(labels)} choices ({', '.join(labels)})"
    action = action_of_env(env)
    return ", ".join(action.raw or []) if action is not None else type(env.action_space).__name__


def with_env(draft: CardDraft, env: Any, name: str) -> CardDraft:
    """The author's sections, completed by what the environment says; `name` goes into the card's training section.

    Raises:
        CardError: the environment's actions are no pedals or steering.
    """
    training = {"env": name, **draft.training}
    action = draft.action
    if action is None:
        try:
            action = action_of_env(env)
        except CardError as error:
            raise CardError(f"--env {name}: {error}") from error
    elif action.control == NAMED and action.choices is UNSET and (labels := labels_of_env(env)) is not None:
        action = msgspec.structs.replace(action, choices=labels)
    return msgspec.structs.replace(draft, action=action, training=training)


def _action_type(env: Any) -> Any:
    """How highway-env's environments take actions; None for other environments."""
    kind = getattr(env.unwrapped, "action_type", None)
    return kind if any(base.__module__.startswith("highway_env.") for base in type(kind).__mro__) else None
