"""Converts between an environment's own spaces and a policy's named observations and raw actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.array_spec import ArraySpec
from carla_mlflow.contract.control_kinds import CHOICE
from carla_mlflow.contract.field_card import observation_spec
from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.errors import CardError, DrivingError
from training_export.sources.observation_spaces import field_of, mask_name, parts_of, parts_of_observation

OTHER = "use the environment that the policy was trained in, with the same wrappers"

Observe = Callable[[Any], dict[str, NDArray[Any]]]
"""The environment's observation → a batch of one row, by the policy's names."""
Act = Callable[[NDArray[np.float32]], Any]
"""A raw action (A,) → the environment's action."""


def observer(specs: ObservationSpec, space: Any, mask: Callable[[], Any] | None = None) -> Observe:
    """Makes the function that picks a policy's observations from an environment's Dict, or lone part (`observation`).

    Each is found by the name that it had in training (`source` in the card, else its own); a part of a Dict within a
    Dict by the names joined by dots. Images with channels last are transposed to channels first, as Stable-Baselines3
    did in training.

    Args:
        specs: of the policy.
        space: the environment's.
        mask: gives the choices that an environment allows now, for a policy that takes MaskablePPO's mask;
            None if the environment has no such function.

    Raises:
        DrivingError: the environment's observations are not those that the policy takes.
    """
    parts = parts_of(space)
    masked = mask_name(parts)
    shown = {spec.origin: spec.shape for spec in specs if mask is not None and spec.origin == masked}
    parts |= {name: spaces.MultiBinary(shape) for name, shape in shown.items()}
    missing = [spec.origin for spec in specs if spec.origin not in parts]
    if missing:
        raise DrivingError(
            f"the policy sees {', '.join(spec.origin for spec in specs)}, the environment gives {', '.join(parts)}; "
            f"{OTHER}"
        )
    turned = {spec.name: _is_turned(spec, parts[spec.origin]) for spec in specs}

    def observe(given: Any) -> dict[str, NDArray[Any]]:
        named = parts_of_observation(given)
        if mask is not None and shown:
            named[masked] = np.asarray(mask(), dtype=np.uint8)
        return {spec.name: _row(spec, named.get(spec.origin), turned[spec.name]) for spec in specs}

    return observe


def _is_turned(spec: ArraySpec, part: Any) -> bool:
    """Whether an image's axes have to be turned; DrivingError if the environment gives something else."""
    if not isinstance(part, spaces.Box):
        _check_choices(spec, part)
        return False
    box = part
    turned = len(box.shape) == 3 and box.shape != spec.shape and (box.shape[2], *box.shape[:2]) == spec.shape
    if (box.shape != spec.shape and not turned) or (spec.dtype == "uint8" and box.dtype != np.uint8):
        raise DrivingError(
            f"observation {spec.name}: the environment gives {box.dtype}{list(box.shape)}, the policy sees "
            f"{spec.dtype}{list(spec.shape)}; {OTHER}"
        )
    return turned


def _check_choices(spec: ArraySpec, part: Any) -> None:
    try:
        [given] = observation_spec({spec.name: field_of(spec.name, part)})
    except CardError as error:
        raise DrivingError(f"{error}; {OTHER}") from error
    if (given.dtype, given.shape, given.choices) != (spec.dtype, spec.shape, spec.choices) or (
        (given.lows < spec.lows).any() or (given.highs > spec.highs).any()
    ):
        raise DrivingError(
            f"observation {spec.name}: the environment gives {part}, the policy sees {spec.dtype}{list(spec.shape)} "
            f"from {spec.low} to {spec.high}; {OTHER}"
        )


def _row(spec: ArraySpec, value: Any, turned: bool) -> NDArray[Any]:
    array = np.asarray(value)
    if turned and array.ndim == 3:
        array = np.moveaxis(array, 2, 0)
    if array.dtype.kind not in "biuf" or array.shape != spec.shape:
        raise DrivingError(
            f"observation {spec.name}: the environment gave {array.dtype}{list(array.shape)}, which is not in its "
            "own observation space"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 can't hold becomes infinite, and is refused
        return np.ascontiguousarray(array[None], dtype=spec.dtype)


def actor(action: ActionCard, space: Any) -> Act:
    """Makes the function that turns a raw action into the environment's action: the same numbers, in its space.

    Raises:
        DrivingError: the environment's action space is not the one that the policy was trained with.
    """
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return _choosing(action, space)
    if action.choice_counts or not isinstance(space, spaces.Box | spaces.Dict):
        raise DrivingError(
            f"the environment takes a {type(space).__name__}, the policy gives {_names(action)}; {OTHER}"
        )
    if isinstance(space, spaces.Dict):
        if set(space.spaces) != set(action.raw):
            raise DrivingError(
                f"the environment takes {', '.join(space.spaces)}, the policy gives {_names(action)}; {OTHER}"
            )
        parts: dict[str, Any] = {name: space.spaces[name] for name in action.raw}
        for name, part in parts.items():
            if not isinstance(part, spaces.Box) or part.low.size != 1:
                raise DrivingError(f"action {name}: expected a Box of one number")
        _check_bounds(action, [p.low.item() for p in parts.values()], [p.high.item() for p in parts.values()])
        return lambda raw: {
            name: np.full(part.shape, value, part.dtype) for (name, part), value in zip(parts.items(), raw, strict=True)
        }
    if space.low.size != len(action.raw):
        raise DrivingError(
            f"the environment takes {space.low.size} numbers, the policy gives {_names(action)}; {OTHER}"
        )
    if not np.issubdtype(space.dtype, np.floating):
        raise DrivingError(
            f"the environment takes a Box of {space.dtype}, in which raw actions would be rounded; {OTHER}"
        )
    _check_bounds(action, space.low.ravel().tolist(), space.high.ravel().tolist())
    return lambda raw: raw.reshape(space.shape).astype(space.dtype)


def check_labels(action: ActionCard, offered: list[str] | None) -> None:
    """Raises DrivingError when the environment's choices have other labels than the policy's, or another order."""
    if offered is not None and isinstance(action.choices, list) and action.choices != offered:
        raise DrivingError(
            f"the environment offers {', '.join(offered)}, the policy chooses among {', '.join(action.choices)}; "
            f"{OTHER}"
        )


def _choosing(action: ActionCard, space: Any) -> Act:
    """The choices of a raw action as the environment takes them: an int of a Discrete, else an array."""
    if isinstance(space, spaces.Discrete):
        offered, start = [int(space.n)], np.array([int(space.start)])
    elif isinstance(space, spaces.MultiDiscrete):
        offered, start = space.nvec.ravel().tolist(), space.start
    else:
        offered, start = [2] * int(np.prod(space.shape)), np.zeros(space.shape, space.dtype)
    if list(action.choice_counts) != offered or isinstance(space, spaces.Discrete) != (tuple(action.raw) == (CHOICE,)):
        raise DrivingError(
            f"the environment offers {_counts(offered)} choices, the policy gives {_names(action)}; {OTHER}"
        )
    if isinstance(space, spaces.Discrete):
        return lambda raw: int(raw[0]) + int(start[0])
    return lambda raw: raw.astype(space.dtype).reshape(space.shape) + start


def _counts(counts: Sequence[int]) -> str:
    return " × ".join(map(str, counts))


def _names(action: ActionCard) -> str:
    if action.choice_counts:
        return f"{_counts(action.choice_counts)} choices" + (" from a table" if action.table is not None else "")
    return ", ".join(action.raw)


def _check_bounds(action: ActionCard, low: list[float], high: list[float]) -> None:
    lows, highs = action.bounds
    for at, name in enumerate(action.raw):
        if (lows[at], highs[at]) != (np.float32(low[at]), np.float32(high[at])):  # other bounds mean other units
            raise DrivingError(
                f"action {name}: the policy gives {lows[at]:g} to {highs[at]:g}, the environment takes {low[at]:g} to "
                f"{high[at]:g}; {OTHER}"
            )
