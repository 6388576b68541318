"""A policy's card in an MLflow run: as a text that MLflow's page shows, and its figures as metrics."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import mlflow

from ..contract.card import Card, dump_card
from ..contract.figures import with_new_names
from ..contract.strict_yaml import CARD_NAME

MOST = 100
"""The most figures that are logged: a card's metrics may hold anything."""
CONDITIONS = ("traffic", "duration_s", "first_seed")
"""What a card has among its figures of driving and is none."""
_PART = r"[A-Za-z0-9_-][A-Za-z0-9_. -]*"
_NAME = re.compile(f"(?=.{{1,200}}$){_PART}(/{_PART})*")
"""Names that every MLflow takes for a metric; a card's keys may be any."""


def log_card(card: Card) -> None:
    """Logs the card to the active run."""
    mlflow.log_text(dump_card(card).decode(), CARD_NAME)


def log_figures(card: Card) -> None:
    """Logs what was measured when the policy was exported to the active run, such as `closed_loop/reward_mean`."""
    measured = dict(card.metrics)
    if isinstance(driven := measured.get("closed_loop"), Mapping):
        measured["closed_loop"] = {k: v for k, v in with_new_names(driven).items() if k not in CONDITIONS}
    figures = dict(list(_figures("", measured))[:MOST])
    if figures:
        mlflow.log_metrics(figures)


def _figures(place: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _figures(f"{place}/{key}" if place else str(key), item)
    elif isinstance(value, int | float) and not isinstance(value, bool) and _NAME.fullmatch(place):
        with contextlib.suppress(OverflowError):  # of a whole number that no float holds
            if math.isfinite(value):
                yield place, float(value)
