"""The columns of recordings: one row an observation. The files, and the batches that readers get, have them. Pure.

Names are LeRobot's where it has one (`observation.*`, `action`, `timestamp`, `frame_index`, `episode_index`; dataset
format v3.0).

| column | type | meaning |
|---|---|---|
| `timestamp` | timestamp[ns, UTC] | when the request's first byte came |
| `request_id` | string | as in the response's X-Request-Id |
| `row` | int32 | the observation's place in its request, from 0 |
| `episode_id` | string | that the request named; null where it named none |
| `episode_index` | int64 | a running number of the episode on its node; null without an id |
| `frame_index` | int64 | actions that the episode had before: of the state token, or as its worker counts; else null |
| `version`, `digest` | dictionary<string> | of the policy that answered |
| `deterministic` | bool | false for a sampled action |
| `seed` | int64 | of a sampled action |
| `outcome` | dictionary<string> | policy, fallback (late: 504) or refused (any other error) |
| `status` | int16 | of the response; 499 where the client had gone |
| `queue_ms`, `decode_ms`, `inference_ms`, `total_ms` | float32 | milliseconds; null where there was no forward |
| `worker` | int32 | process id |
| `sequence` | int64 | counts the rows that this worker recorded, from 0: a gap is rows that were lost |
| `observation.NAME` | float32, or a fixed-size list of float32 or uint8, flat in C order | as the policy got it |
| `observation.NAME.sha256` | fixed-size binary(32) | of an image's bytes, in its place where images are hashed |
| `action` | fixed-size list<float32> | what was answered, in the order of `card.action.control_names` |
| `action.raw` | fixed-size list<float32> | the head's raw action; null unless the outcome is policy |
| `state.NAME` | list<float32>, flat | the memory that came in, in the rows that `memory_rows.py` names |
| `reset` | bool | whether the policy's memory began here; null for a policy without memory |

Observations are null where a request could not be read. There is no column for an image that is not recorded.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Literal

import pyarrow as pa

from carla_mlflow.contract.array_spec import ArraySpec
from carla_mlflow.contract.card import Card

FORMAT = "1"
RECORDING = "carla-mlflow.recording"
"""Metadata key with FORMAT."""
CARD = "card:"
"""Metadata key of a card's bytes: CARD and its digest."""
TIME = pa.timestamp("ns", "UTC")
TEXTS = pa.dictionary(pa.int32(), pa.string())
OBSERVATION, STATE, HASH = "observation.", "state.", ".sha256"
OUTCOMES = ("policy", "fallback", "refused")
"""The values of `outcome`; a block has their index."""

Images = Literal["keep", "hash", "none"]


def is_image(spec: ArraySpec) -> bool:
    """Whether a field of observations counts as an image: an array of bytes."""
    return spec.dtype == "uint8" and bool(spec.shape)


def elements(spec: ArraySpec) -> int:
    """How many numbers one row of a field has."""
    return math.prod(spec.shape)


def value_type(spec: ArraySpec) -> pa.DataType:
    """The type of one field's column."""
    number = pa.float32() if spec.dtype == "float32" else pa.uint8()
    return pa.list_(number, elements(spec)) if spec.shape else number


def observation_fields(card: Card, images: Images) -> Iterator[pa.Field]:
    """The columns of the observation."""
    for spec in card.observation_spec:
        if not is_image(spec) or images == "keep":
            yield pa.field(OBSERVATION + spec.name, value_type(spec))
        elif images == "hash":
            yield pa.field(OBSERVATION + spec.name + HASH, pa.binary(32))


def action_fields(card: Card) -> Iterator[pa.Field]:
    """The columns of the answer and of the raw action."""
    yield pa.field("action", pa.list_(pa.float32(), len(card.action.control_names)))
    yield pa.field("action.raw", pa.list_(pa.float32(), len(card.action.raw)))


def state_fields(card: Card) -> Iterator[pa.Field]:
    """The columns of the memory; none for a policy without one."""
    for name in card.states:
        yield pa.field(STATE + name, pa.list_(pa.float32()))


def columns_key(card: Card) -> str:
    """The same for policies whose recordings have the same columns: the contract, and the states' names, not in it."""
    return ":".join([card.contract, *card.states])


def recording_schema(card: Card, images: Images) -> pa.Schema:
    """The columns of a recording of a policy; the same for all versions with its `columns_key`.

    Args:
        card: of the policy.
        images: what is recorded of images.
    """
    return pa.schema(
        [
            pa.field("timestamp", TIME),
            pa.field("request_id", pa.string()),
            pa.field("row", pa.int32()),
            pa.field("episode_id", pa.string()),
            pa.field("episode_index", pa.int64()),
            pa.field("frame_index", pa.int64()),
            pa.field("version", TEXTS),
            pa.field("digest", TEXTS),
            pa.field("deterministic", pa.bool_()),
            pa.field("seed", pa.int64()),
            pa.field("outcome", TEXTS),
            pa.field("status", pa.int16()),
            *(pa.field(f"{part}_ms", pa.float32()) for part in ("queue", "decode", "inference", "total")),
            pa.field("worker", pa.int32()),
            pa.field("sequence", pa.int64()),
            *observation_fields(card, images),
            *action_fields(card),
            *state_fields(card),
            pa.field("reset", pa.bool_()),
        ]
    )


def in_share(episode_id: str | None, request_id: str, share: float) -> bool:
    """Whether a request belongs to a share of all, in [0, 1]: the same for a whole episode, in every process.

    Whatever belongs to a share belongs to every larger one.
    """
    name = request_id if episode_id is None else episode_id
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64 < share
