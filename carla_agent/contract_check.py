"""Whether a card and the observers fit, and how often the policy decides: all that is known before the first tick."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from carla_mlflow import ArraySpec, Card, ContractError
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.history import frame_spec, takes_frame

from .observers.observer import Observer

RATE_TOLERANCE = 1e-6
"""Relative: how far world_hz / rate_hz may be from a whole number, as 1 / 0.05 is in floating point."""


def check_fit(card: Card, observers: Sequence[Observer]) -> None:
    """Compares the card's observations with what the observers make, and its actions with what a car takes.

    Raises:
        ContractError: names every field that is missing, made twice, not asked for, or made otherwise; or the policy
            answers something else than throttle, brake and steer.
    """
    if not card.action.is_pedals:
        raise ContractError(
            f"{card.name} {card.version} answers {', '.join(card.action.control_names)}; a car in CARLA takes "
            "throttle, brake and steer"
        )
    problems = list(_problems(card, observers))
    if problems:
        raise ContractError(f"{card.name} {card.version} and the observers do not fit: " + "; ".join(problems))


def _problems(card: Card, observers: Sequence[Observer]) -> Iterator[str]:
    made: dict[str, ArraySpec] = {}
    for observer in observers:
        for spec in observer.spec:
            if spec.name in made:
                yield f"two observers make {spec.name}"
            made[spec.name] = spec
    for wanted in frame_spec(card.observation):
        if wanted.name not in made:
            yield f"no observer makes {wanted.name} ({wanted.dtype} {list(wanted.shape)})"
        else:
            with_history = bool(card.observation[wanted.name].history)
            yield from _difference(wanted, made.pop(wanted.name), with_history)
    for name in made:
        yield f"the card has no {name}, which an observer makes"


def _difference(wanted: ArraySpec, made: ArraySpec, with_history: bool) -> Iterator[str]:
    if wanted.dtype != made.dtype or not takes_frame(wanted.shape, made.shape, with_history):
        each = " at each tick" if with_history else ""
        yield (
            f"{wanted.name}: the card says {wanted.dtype} {list(wanted.shape)}{each}, "
            f"the observer makes {made.dtype} {list(made.shape)}"
        )
    elif wanted.unit != made.unit:
        yield f"{wanted.name}: the card says {wanted.unit}, the observer makes {made.unit}"
    else:
        yield from _difference_in_bounds(wanted, replace(made, shape=wanted.shape))  # [] makes a frame of [1], too


def _difference_in_bounds(wanted: ArraySpec, made: ArraySpec) -> Iterator[str]:
    beyond = (made.lows < wanted.lows) | (made.highs > wanted.highs)
    if not beyond.any():
        return
    first = tuple(int(at) for at in np.argwhere(beyond)[0])  # of the axes along which bounds differ
    axes = ["..."] * (0 < len(first) < len(wanted.shape)) + [str(at) for at in first]
    place = f"[{', '.join(axes)}]" if axes else ""
    yield (
        f"{wanted.name}{place}: the card allows {_range(wanted, first)}, the observer makes {_range(made, first)}; "
        "where the observer takes bounds (low, high), give it the card's"
    )


def _range(spec: ArraySpec, at: tuple[int, ...]) -> str:
    """The bounds of an element; `at` may lack its first axes, along which bounds do not differ."""
    place = (0,) * (len(spec.shape) - len(at)) + at
    low, high = (np.broadcast_to(bound, spec.shape)[place] for bound in (spec.lows, spec.highs))
    no_low, no_high = (np.broadcast_to(is_open, spec.shape)[place] for is_open in spec.is_open)
    return f"[{'-∞' if no_low else f'{low:g}'}, {'∞' if no_high else f'{high:g}'}]"


def ticks_between(action: ActionCard, world_hz: float) -> int:
    """How many ticks of the world lie between two of the policy's, at each of which it sees an observation.

    Raises:
        ContractError: the world's rate is no whole multiple of the policy's.
    """
    return _whole_ratio(action.tick_hz, world_hz, "decides" if not action.repeat else "sees its observations")


def ticks_per_action(rate_hz: float, world_hz: float) -> int:
    """How many ticks one action lasts.

    Raises:
        ContractError: the world's rate is no whole multiple of the policy's.
    """
    return _whole_ratio(rate_hz, world_hz, "decides")


def _whole_ratio(rate_hz: float, world_hz: float, does: str) -> int:
    ticks = world_hz / rate_hz
    whole = round(ticks)
    if whole < 1 or abs(ticks - whole) > RATE_TOLERANCE * ticks:
        raise ContractError(
            f"the policy {does} at {rate_hz:g} Hz and the world ticks at {world_hz:g} Hz: set the world to "
            f"{rate_hz:g} Hz or a whole multiple of it"
        )
    return whole
