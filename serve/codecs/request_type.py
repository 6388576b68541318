"""The type of a request to /predict, made from a card: the decoder checks by it, and OpenAPI describes it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from carla_mlflow.contract.array_spec import ArraySpec
from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.contract.state_token import STATE
from carla_mlflow.inference.sampling import MAX_SEED
from serve.codecs.columns import Base64

NAME = "PredictRequest"
_STATE = Annotated[
    str | UnsetType | None,
    Meta(
        description="the state token of the episode's last answer; null, empty or left out: the episode begins",
        extra_json_schema={"contentEncoding": "base64"},
    ),
]


def request_type(specs: ObservationSpec, max_rows: int, remembers: bool = False, as_tuples: bool = False) -> type[Any]:
    """Returns a msgspec type.

    Its JSON Schema is stricter than the decoder: the bounds of values, the number of observations and the largest seed
    are checked later, by code whose errors name row and field.

    Args:
        specs: of the observations.
        max_rows: most observations of a request.
        remembers: whether the policy has a memory, so that rows may bring their state.
        as_tuples: whether vectors are decoded as tuples: the same JSON in a tenth less time, but a longer JSON Schema.
    """
    kinds = [vector_type(spec) if as_tuples and len(spec.shape) == 1 else value_type(spec) for spec in specs]
    fields = [(spec.name, kind) for spec, kind in zip(specs, kinds, strict=True)]
    optional = [(STATE, _STATE, UNSET)] if remembers else []
    observation = msgspec.defstruct("Observation", [*fields, *optional], forbid_unknown_fields=True, gc=False)
    rows = Meta(extra_json_schema={"minItems": 1, "maxItems": max_rows})
    return msgspec.defstruct(
        NAME,
        [
            ("observations", Annotated[list[observation], rows]),  # type: ignore[valid-type]
            ("deterministic", _flag(True), UNSET),
            ("seed", Annotated[int, Meta(ge=0, extra_json_schema={"maximum": MAX_SEED})] | None | UnsetType, UNSET),
            ("budget_ms", Annotated[float, Meta(ge=0)] | None | UnsetType, UNSET),
            ("details", _flag(False), UNSET),
        ],
        forbid_unknown_fields=True,
    )


def number_limits(spec: ArraySpec) -> dict[str, Any]:
    """What a JSON Schema says of a field's numbers: the limits that hold for every element."""
    open_low, open_high = (side.any() for side in spec.is_open)
    limits: dict[str, Any] = {"multipleOf": 1} if spec.dtype == "uint8" or spec.choices else {}
    limits |= {} if open_low else {"minimum": float(spec.lows.min())}
    return limits | ({} if open_high else {"maximum": float(spec.highs.max())})


def value_type(spec: ArraySpec) -> Any:
    """Returns the type of one field of one observation: a number, nested lists, or the base64 text of an array."""
    kind: Any = Annotated[float, Meta(extra_json_schema=number_limits(spec))]
    for size in reversed(spec.shape):
        kind = Annotated[list[kind], Meta(min_length=size, max_length=size)]
    if len(spec.shape) > 1:
        kind = kind | Base64
    described_as = spec.unit if spec.choices is None else "choices, whole numbers that name one each"
    return Annotated[kind, Meta(description=f"{spec.dtype}, {described_as}")]


def vector_type(spec: ArraySpec) -> Any:
    """Returns the type of a field with one dimension, as `value_type` does, but as a tuple."""
    return tuple[(float,) * spec.shape[0]]  # type: ignore[misc]


def _flag(default: bool) -> Any:
    return Annotated[bool | None, Meta(extra_json_schema={"default": default})] | UnsetType
