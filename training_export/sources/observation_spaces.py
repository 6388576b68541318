"""Observation spaces of gymnasium → the card's observation section, and the names of their parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
from gymnasium import spaces
from msgspec import UNSET, UnsetType

from carla_mlflow.contract.array_bounds import MAX_WHOLE, NAME
from carla_mlflow.contract.field_card import FieldBound, FieldCard
from carla_mlflow.errors import CardError

MAX_BOUNDS = 10_000
"""The most different bounds of one field: a card may have 1 MiB."""

SINGLE = "observation"
"""The name of an observation space that is no Dict."""

MASK = "action_mask"
"""The observation, uint8 (K,), that says which of K choices are allowed, with MaskablePPO."""

Section = dict[str, FieldCard]


def parts_of(space: Any) -> dict[str, Any]:
    """The parts of an observation space by their names: of a Dict within a Dict joined by dots, of a lone one SINGLE.

    Raises:
        CardError: two parts get the same name.
    """
    if not isinstance(space, spaces.Dict):
        return {SINGLE: space}
    found: dict[str, Any] = {}
    for key, part in space.spaces.items():
        below = parts_of(part) if isinstance(part, spaces.Dict) else None
        named = {str(key): part} if below is None else {f"{key}.{name}": each for name, each in below.items()}
        for name, each in named.items():
            if name in found:
                raise CardError(f"observation {name}: two parts of the space have this name; rename one")
            found[name] = each
    return found


def parts_of_observation(given: Any) -> dict[str, Any]:
    """An environment's observation by the names of `parts_of`."""
    if not isinstance(given, Mapping):
        return {SINGLE: given}
    found: dict[str, Any] = {}
    for key, value in given.items():
        below = parts_of_observation(value) if isinstance(value, Mapping) else None
        found |= {str(key): value} if below is None else {f"{key}.{name}": each for name, each in below.items()}
    return found


def observation_of_space(space: Any) -> Section:
    """A space as the card's observation section; a lone part is named `observation`.

    Box, Discrete, MultiDiscrete, MultiBinary, and Dicts of them, also within one another. What is no identifier becomes
    one, with its name in the space as `source`.

    Raises:
        CardError: there is no space, or it contains something else.
    """
    if space is None:
        raise CardError(
            "the source has no observation space: pass --card FILE with an observation section, or gymnasium spaces"
        )
    return fields_of(parts_of(space))


def fields_of(parts: Mapping[str, Any]) -> Section:
    """Parts by their names in the space → the card's observation section, in their order.

    Raises:
        CardError: a part is of a kind that can't be a field, or two names become the same identifier.
    """
    section: Section = {}
    for source, part in parts.items():
        name = identifier(source)
        if name in section:
            other = section[name].source or name
            raise CardError(
                f"observation: {other} and {source} would both be called {name}; name them in --card FILE, with "
                f"`source: {source}` beside the field"
            )
        if not NAME.fullmatch(name):
            raise CardError(
                f"observation {source}: a name of {len(name)} characters, at most 64; give it a shorter one in --card "
                f"FILE, with `source: {source}` beside the field"
            )
        field = field_of(name, part)
        section[name] = field if name == source else msgspec.structs.replace(field, source=source)
    return section


def mask_name(parts: Iterable[str]) -> str:
    """The name of MaskablePPO's mask beside the parts of a space, which may show the same mask to the network."""
    return f"{MASK}s" if MASK in parts else MASK


def identifier(source: str) -> str:
    """The name of a field for a name in a space: other characters become _, and _ comes before a leading digit."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", source)
    return name if re.match(r"[A-Za-z_]", name) else f"_{name}"


def sources_of(section: Section) -> dict[str, str]:
    """Each field's name → the name of the part of the space that it is, in the section's order."""
    return {name: name if isinstance(field.source, UnsetType) else field.source for name, field in section.items()}


def with_sources(section: Section, sources: Iterable[str]) -> Section:
    """The author's section, with `source` where a field's name is the identifier of a part that no field names."""
    named = set(sources_of(section).values())
    by_name = {identifier(source): source for source in sources if source not in named}
    return {
        name: msgspec.structs.replace(field, source=by_name[name])
        if field.source is UNSET and by_name.get(name, name) != name
        else field
        for name, field in section.items()
    }


def field_of(name: str, part: Any) -> FieldCard:
    """One part of a space as a field: numbers as they are, choices as the whole numbers that the environment gives.

    Choices are uint8 where their numbers fit, else float32, which holds whole numbers up to 2**24.

    Raises:
        CardError: it is of another kind, or its choices are too many.
    """
    if isinstance(part, spaces.Box):
        if part.dtype == np.uint8:
            return FieldCard("uint8", list(part.shape), _bound(name, part.low), _bound(name, part.high))
        return FieldCard("float32", list(part.shape), _bound(name, part.low), _bound(name, part.high))
    if isinstance(part, spaces.MultiBinary):
        return FieldCard("uint8", list(part.shape), 0, 1)
    if isinstance(part, spaces.Discrete | spaces.MultiDiscrete):
        return _choices(name, part)
    raise CardError(
        f"observation {name}: a {type(part).__name__}; expected a Box, Discrete, MultiDiscrete or MultiBinary, or a "
        "Dict of them"
    )


def _choices(name: str, part: Any) -> FieldCard:
    counts = np.asarray(part.n if isinstance(part, spaces.Discrete) else part.nvec, dtype=np.int64)
    low = np.broadcast_to(np.asarray(part.start, dtype=np.int64), counts.shape)
    high = low + counts - 1
    if counts.ndim > 1:
        raise CardError(f"observation {name}: a MultiDiscrete of shape {list(counts.shape)}; flatten it to one axis")
    if max(abs(int(low.min())), int(high.max())) > MAX_WHOLE:
        raise CardError(f"observation {name}: choices up to {int(high.max()):,}; at most {MAX_WHOLE:,.0f}")
    dtype: Any = "uint8" if low.min() >= 0 and high.max() <= 255 else "float32"
    choices = int(counts) if counts.ndim == 0 else counts.tolist()
    return FieldCard(dtype, list(counts.shape), _bound(name, low), _bound(name, high), choices=choices)


def _bound(name: str, values: Any) -> FieldBound:
    """One number if all elements share it, else a list along the last axis, else nested lists; None: no bound.

    Nested lists have one element where all along an axis are the same.
    """
    values = np.asarray(values, dtype=np.float64)
    limit = np.finfo(np.float32).max
    values = np.where(np.abs(values) >= limit, np.copysign(np.inf, values), values)
    for axis in range(values.ndim):
        first = values.take([0], axis)
        if (values == first).all():
            values = first
    if values.size > MAX_BOUNDS:
        raise CardError(
            f"observation {name}: {values.size:,} different bounds, at most {MAX_BOUNDS:,}; --card FILE has to state "
            "simpler ones"
        )
    if values.size == 1:
        return _written(values.item())
    if all(size == 1 for size in values.shape[:-1]):
        values = values.ravel()
    return _nested(values.tolist())  # type: ignore[no-any-return]


def _nested(values: Any) -> Any:
    return [_nested(each) for each in values] if isinstance(values, list) else _written(values)


def _written(value: float) -> float | None:
    return value if np.isfinite(value) else None
