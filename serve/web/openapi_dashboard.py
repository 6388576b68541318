"""The part of the OpenAPI document that describes what the page at / asks for."""

from __future__ import annotations

from serve.web.openapi_shapes import Json, array_of

ASKED: list[Json] = [
    {
        "name": "after",
        "in": "query",
        "required": False,
        "schema": {"type": "integer", "minimum": 0},
        "description": "the number of a slot: of the history only what came after it",
    },
    {
        "name": "card",
        "in": "query",
        "required": False,
        "schema": {"type": "string"},
        "description": "the digest of the version whose card is known already, and is left out",
    },
]
"""The parameters of /dashboard."""


def dashboard() -> Json:
    """What /dashboard answers, as far as programs read it."""
    maybe: Json = {"type": ["string", "null"]}
    counts = {"type": "object", "additionalProperties": array_of({"type": "integer"})}
    history: Json = {
        "server": {"type": "string", "description": "another one has another history"},
        "slot_s": {"type": "number", "description": "seconds of a slot"},
        "slots": {"type": "integer", "description": "how many are kept"},
        "began": {"type": "integer", "description": "the slot in which the server began to count"},
        "now": {"type": "integer", "description": "the number of the present slot, which is not over"},
        "now_begins": {"type": "number", "description": "when that began, seconds since 1970"},
        "bounds": {"type": "object", "description": "the buckets' upper bounds, of latency in seconds, of actions"},
        "counts": {
            "type": "object",
            "description": "slot → codes, latency, actions, saturated, outside → name → counts; left out where 0",
            "additionalProperties": {"type": "object", "additionalProperties": counts},
        },
    }
    properties: Json = {
        "ready": {"type": "boolean"},
        "reason": {**maybe, "description": "why it is not ready"},
        "warnings": array_of({"type": "string"}),
        "workers": {"type": "integer"},
        "ready_workers": {"type": "integer"},
        "has_key": {"type": "boolean", "description": "whether the server asks for an API key"},
        "metadata": {"type": ["object", "null"], "description": "as /metadata answers; null while nothing is served"},
        "columns": {"type": "array", "description": "the values that the policy answers, with their bounds or labels"},
        "refused": {"type": "array", "description": "as in /metadata"},
        "history": {"type": "object", "properties": history, "required": [*history]},
        "moves": {
            "type": ["object", "null"],
            "description": "the journal's last moves, the latest first; who and why only with an API key",
        },
        "errors": {"type": "object", "description": "status → the error codes that have it → what each means"},
    }
    schema = {"type": "object", "properties": properties, "required": [*properties]}
    return {"description": "the server's state and history", "content": {"application/json": {"schema": schema}}}
