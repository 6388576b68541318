"""Of which dimensions and fields servers count anything, so that an alarm on another one can be refused. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from carla_mlflow.contract.answer import answer_columns
from carla_mlflow.contract.card import Card
from carla_mlflow.errors import RefusedError
from registry.rules.alarms import Alarm


def counted_parts(card: Card) -> dict[str, list[str]]:
    """Metric → the dimensions or fields that servers count for it; without the metrics that are no matter of the card.

    Choices have no bound to lie at, and fields that are no float32, or of which no range is known, are not watched.
    """
    watched = [spec.name for spec in card.observation_spec if spec.dtype == "float32" and spec.has_usual]
    dimensions = [column.name for column in answer_columns(card.action) if not column.choices]
    return {"saturation": dimensions, "out_of_range": watched}


def check_counted(alarms: Iterable[Alarm], card: Card) -> None:
    """Raises RefusedError for an alarm on what no server counts of a policy: it could neither fire nor end a bake."""
    parts, policy = counted_parts(card), f"{card.name} {card.version}"
    for alarm in alarms:
        if alarm.metric not in parts:
            continue
        names = parts[alarm.metric]
        if not names:
            raise RefusedError(f"{alarm}: servers count no {alarm.metric} of {policy}, by its card")
        if alarm.of and alarm.of not in names:
            raise RefusedError(
                f"{alarm}: servers count no {alarm.metric} of {alarm.of}; of {policy} there are {', '.join(names)}"
            )
