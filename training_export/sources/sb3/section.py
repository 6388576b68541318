"""The observation section of a Stable-Baselines3 policy: of its space, of the author's card, and MaskablePPO's mask."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from msgspec import UNSET
from msgspec.structs import replace
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO

from carla_mlflow.contract.field_card import FieldCard
from carla_mlflow.errors import CardError, ExportError
from training_export.sources.observation_spaces import (
    MASK,
    Section,
    field_of,
    fields_of,
    mask_name,
    sources_of,
    with_sources,
)

Boxes = Mapping[str, Any]


def mask_of(source: str, model: Any, boxes: Boxes) -> dict[str, Any]:
    """The observation that MaskablePPO gets as `action_masks`: 1 for each choice that is allowed. Else nothing.

    Raises:
        ExportError: its actions are MultiBinary, of which it masks either value by itself.
    """
    if not isinstance(model, MaskablePPO):
        return {}
    if isinstance(model.action_space, spaces.MultiBinary):
        raise ExportError(f"{source}: MaskablePPO with MultiBinary actions can't be exported; use MultiDiscrete of 2s")
    if mask_name(boxes) in boxes:
        raise ExportError(
            f"{source}: observes both {MASK} and {MASK}s, of which MaskablePPO's own mask needs one; rename one of "
            "them in the environment, and train again"
        )
    return {mask_name(boxes): spaces.MultiBinary(sum(choice_counts(model.action_space)))}


def choice_counts(space: Any) -> list[int]:
    """How many choices each element of a Discrete or MultiDiscrete has."""
    counts: list[int] = space.nvec.tolist() if isinstance(space, spaces.MultiDiscrete) else [int(space.n)]
    return counts


def with_a_choice(mask: str, counts: Sequence[int], drawn: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Observations with a mask that allows at least one choice of each element, as an environment's does."""
    masks = drawn[mask].copy()
    for part, count in zip(np.split(masks, np.cumsum(counts)[:-1], axis=1), counts, strict=True):
        none = np.flatnonzero(~part.any(axis=1))
        part[none, none % count] = 1  # a view of `masks`
    return {**drawn, mask: masks}


def check_starts(source: str, parts: Boxes, action: Any) -> None:
    """Raises ExportError where choices, observed or made, start at another number than 0."""
    if np.any(np.asarray(getattr(action, "start", 0)) != 0):
        raise ExportError(
            f"{source}: chooses among actions that start at {action.start}; Stable-Baselines3 gives the environment "
            "numbers from 0 on, and never adds the start; train it in an environment whose choices start at 0"
        )
    for name, part in parts.items():
        if np.any(np.asarray(getattr(part, "start", 0)) != 0):
            raise ExportError(
                f"{source}: observes {name}, choices that start at {part.start}; Stable-Baselines3 takes only those "
                "that start at 0"
            )


def hidden_images(clip: float, boxes: Boxes) -> set[str]:
    """Images whose original space is lost: VecNormalize replaces it by float32 within its clip range."""
    images = {name: box for name, box in boxes.items() if len(box.shape) == 3 and box.dtype == np.float32}
    return {name for name, box in images.items() if (box.low == -clip).all() and (box.high == clip).all()}


def observation_section(parts: Boxes, given: Section | None, hidden: Collection[str]) -> Section:
    """The author's section, if it agrees with the policy; without one, the section of the policy's space."""
    if given is None and hidden:
        raise CardError(
            f"observation {', '.join(hidden)}: VecNormalize hid whether it was uint8; pass --card FILE with an "
            "observation section"
        )
    if given is None:
        return fields_of(parts)
    given = with_sources(given, parts)
    named = sources_of(given)
    if sorted(named.values()) != sorted(parts):
        raise CardError(f"observation: the card names {', '.join(named.values())}; the policy takes {', '.join(parts)}")
    return {name: _agreed(name, given[name], parts[source], source in hidden) for name, source in named.items()}


def _agreed(name: str, given: FieldCard, part: Any, is_hidden: bool) -> FieldCard:
    """The author's field, with the space's own bounds and choices but for a Box; CardError if it contradicts those."""
    if isinstance(part, spaces.Box):  # not `field_of`: the author may state bounds that a space can't
        own = FieldCard("uint8" if part.dtype == np.uint8 else "float32", list(part.shape))
    else:
        own = field_of(name, part)
    dtypes = {own.dtype, "uint8"} if is_hidden else {own.dtype}
    if given.dtype not in dtypes or given.shape != own.shape:
        raise CardError(
            f"observation {name}: the card says {given.dtype}{given.shape}, the policy takes {own.dtype}{own.shape}"
        )
    if isinstance(part, spaces.Box):
        return given
    low, high = (own.low if given.low is None else given.low), (own.high if given.high is None else given.high)
    given = replace(given, low=low, high=high, choices=own.choices if given.choices is UNSET else given.choices)
    if (given.low, given.high, given.choices) != (own.low, own.high, own.choices):
        choices = "no choices" if own.choices is UNSET else f"choices: {own.choices}"
        raise CardError(f"observation {name}: the policy takes {choices}, low: {own.low}, high: {own.high}")
    return given
