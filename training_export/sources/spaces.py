"""Gymnasium's action spaces → what they determine of the card's action section."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from gymnasium import spaces

from carla_mlflow.contract.control_kinds import CHOICE, RAW_NAMES
from carla_mlflow.errors import CardError
from training_export.sources.draft import ActionDraft

Bounds = list[tuple[float, float]]


def action_of_space(space: Any) -> tuple[str | None, Bounds | None, Callable[[ActionDraft | None], ActionDraft | None]]:
    """What an action space determines: the head (or None), the bounds, and a function that completes the draft.

    A Dict of scalar Boxes with the names of a control (acceleration, steer or both, or throttle, brake and steer)
    needs no card; a Box has bounds but no names, a Discrete a number of choices, but neither a table nor labels.
    MultiDiscrete and MultiBinary need the names of their dimensions.
    """
    if space is None:
        return None, None, lambda draft: draft
    if isinstance(space, spaces.Discrete):
        return "categorical", [(0.0, float(space.n - 1))], _choosing
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return "multi_categorical", [(0.0, float(count - 1)) for count in space.nvec], lambda draft: draft
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return "bernoulli", [(0.0, 1.0)] * space.shape[0], lambda draft: draft
    boxes: list[Any] = list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]
    if not all(isinstance(box, spaces.Box) and len(box.shape) <= 1 for box in boxes):
        raise CardError(
            "the action space: expected a flat Box, a Dict of scalar Boxes, Discrete, MultiDiscrete or MultiBinary"
        )
    low = np.concatenate([np.ravel(box.low) for box in boxes])
    high = np.concatenate([np.ravel(box.high) for box in boxes])
    bounds = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    names = list(space.spaces) if isinstance(space, spaces.Dict) else None
    return None, bounds, lambda draft: _named(draft, names)


def _choosing(draft: ActionDraft | None) -> ActionDraft | None:
    """Names the only dimension of a policy that chooses; without a table its choice is answered as it is."""
    if draft is None or draft.raw is not None or draft.table is not None:
        return draft
    return msgspec.structs.replace(draft, raw=[CHOICE])


def _named(draft: ActionDraft | None, names: list[str] | None) -> ActionDraft | None:
    if names is None:
        return draft
    control = next((control for control, wanted in RAW_NAMES.items() if set(wanted) == set(names)), None)
    if draft is None:
        return None if control is None else ActionDraft(control, names, head="deterministic")
    return draft if draft.raw is not None else msgspec.structs.replace(draft, raw=names)
