"""A policy's columns, worked out once: what it takes to pack and to unpack its rows."""

from __future__ import annotations

import math
from typing import NamedTuple

import pyarrow as pa

from carla_mlflow.contract.card import Card
from serve.record.ring import ACTED, OBSERVED
from serve.record.schema import OBSERVATION, Images, elements, is_image, recording_schema

BESIDE = ("episode_index", "version", "digest", "worker", "sequence")
"""Columns that a block does not have: they follow from what stands beside it, or are given by the writer."""


class ObservationColumn(NamedTuple):
    """One recorded field of the observation.

    Attributes:
        name: of the column.
        field: of the observation.
        shape: of one row of it.
        dtype: of it.
        width: numbers in a row; None for a scalar.
    """

    name: str
    field: str
    shape: tuple[int, ...]
    dtype: str
    width: int | None


class Layout:
    """The columns of one policy's blocks.

    Attributes:
        card: of the policy.
        observations: columns of the observation.
        row_bytes: of an observation that is recorded, and of the memory.
        action_width, raw_width: numbers of an action and of a raw action.
        states: names.
    """

    def __init__(self, card: Card, images: Images) -> None:
        """`images` is `keep` or `none`."""
        self.card = card
        self._schemas = {flags: block_schema(card, images, flags) for flags in range((OBSERVED | ACTED) + 1)}
        recorded = [spec for spec in card.observation_spec if images == "keep" or not is_image(spec)]
        self.observations = [
            ObservationColumn(
                OBSERVATION + spec.name, spec.name, spec.shape, spec.dtype, elements(spec) if spec.shape else None
            )
            for spec in recorded
        ]
        self.row_bytes = sum(elements(spec) * (4 if spec.dtype == "float32" else 1) for spec in recorded)
        self.row_bytes += sum(4 * math.prod(state.shape) for state in card.states.values())
        self.action_width, self.raw_width = len(card.action.control_names), len(card.action.raw)
        self.states = tuple(card.states)

    def schema(self, flags: int) -> pa.Schema:
        """The columns of a block with these flags."""
        return self._schemas[flags]


def block_schema(card: Card, images: Images, flags: int) -> pa.Schema:
    """The columns of a block.

    Args:
        card: of the policy.
        images: `keep`, or `none` for blocks without images.
        flags: of the block.
    """
    fields = []
    for field in recording_schema(card, images):
        is_observation, is_action = field.name.startswith(OBSERVATION), field.name.startswith("action")
        if field.name in BESIDE or (is_observation and not flags & OBSERVED) or (is_action and not flags & ACTED):
            continue
        fields.append(field.with_type(pa.int8()) if field.name == "outcome" else field)
    return pa.schema(fields)
