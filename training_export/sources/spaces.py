"""Gymnasium's action spaces → what they determine of the card's action section."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from gymnasium import spaces

from carla_mlflow.contract.control import RAW_NAMES
from carla_mlflow.errors import CardError
from training_export.sources.draft import ActionDraft

Bounds = list[tuple[float, float]]


def action_of_space(space: Any) -> tuple[str | None, Bounds | None, Callable[[ActionDraft | None], ActionDraft | None]]:
    """What an action space determines: the head (or None), the bounds, and a function that completes the draft.

    A Dict of scalar Boxes with the names of a control (acceleration and steer, or throttle, brake and steer)
    needs no card; a Box has bounds but no names, a Discrete a number of choices but no table.
    """
    if space is None:
        return None, None, lambda draft: draft
    if isinstance(space, spaces.Discrete):
        return "categorical", [(0.0, float(space.n - 1))], lambda draft: draft
    boxes: list[Any] = list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]
    if not all(isinstance(box, spaces.Box) and len(box.shape) <= 1 for box in boxes):
        raise CardError("the action space: expected a flat Box, a Dict of scalar Boxes, or Discrete")
    low = np.concatenate([np.ravel(box.low) for box in boxes])
    high = np.concatenate([np.ravel(box.high) for box in boxes])
    bounds = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    names = list(space.spaces) if isinstance(space, spaces.Dict) else None
    return None, bounds, lambda draft: _named(draft, names)


def _named(draft: ActionDraft | None, names: list[str] | None) -> ActionDraft | None:
    if names is None:
        return draft
    control = next((control for control, wanted in RAW_NAMES.items() if set(wanted) == set(names)), None)
    if draft is None:
        return None if control is None else ActionDraft(control, names, head="deterministic")
    return draft if draft.raw is not None else msgspec.structs.replace(draft, raw=names)
