"""A loaded policy, with all that is needed to answer requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carla_mlflow.contract.actions import Actions
from carla_mlflow.contract.answer import AnswerColumn
from carla_mlflow.contract.card import Card
from carla_mlflow.contract.state_token import StateTokens
from carla_mlflow.inference.engine import Engine
from serve.codecs.carla import PredictCodec
from serve.codecs.inference import InferenceCodec
from serve.codecs.invocations import ScoringCodec
from serve.policy.forward_times import ForwardTimes

if TYPE_CHECKING:
    from carla_mlflow.inference.result_cache import ResultCache

SLOW_MS = 1.0
"""Milliseconds that a forward on the event loop may take: one that takes longer runs in a thread."""


@dataclass(frozen=True)
class Serving:
    """A policy that may be served: verified, in parity and warm, with its codecs.

    Attributes:
        fallback: the card's, as an action in a response.
        columns: of the actions.
        tokens: for a policy with memory.
        forward_times: how long a forward of so many observations takes.
    """

    engine: Engine
    cache: ResultCache | None
    backend_figures: dict[str, Any]
    predict: PredictCodec
    scoring: ScoringCodec
    inference: InferenceCodec
    loaded_at: float
    forward_times: ForwardTimes
    fallback: dict[str, Any]
    columns: tuple[AnswerColumn, ...]
    tokens: StateTokens | None = None
    stage: str | None = None

    @property
    def is_slow(self) -> bool:
        """Whether even a forward of one observation would block the event loop for too long."""
        return self.forward_times.ms(1) > SLOW_MS

    @property
    def act(self) -> Callable[..., Actions]:
        """`Engine.act`, or the same through the result cache."""
        return self.engine.act if self.cache is None else self.cache.act

    @property
    def card(self) -> Card:
        return self.engine.card

    @property
    def version(self) -> str:
        return self.engine.card.version

    @property
    def digest(self) -> str:
        return self.engine.digest
