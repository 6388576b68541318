"""The building blocks of an OpenAPI document."""

from __future__ import annotations

from typing import Any

from carla_mlflow.contract.card import Card
from carla_mlflow.contract.episode import DIGEST, EPISODE_ID
from serve.errors import STATUS, Code

Json = dict[str, Any]

ASKED: tuple[Code, ...] = ("bad_json", "bad_request", "version_not_found", "body_too_large", "unsupported_media_type",
         "invalid_observation", "episode_of_another_version", "overloaded", "internal", "not_ready",
         "deadline_exceeded")  # fmt: skip
"""The codes of errors that a prediction may get."""
OF_STATES: tuple[Code, ...] = ("state_of_another_key", "state_of_another_version")
"""Further ones, of policies with memory."""
TOKEN: Json = {"type": "string", "contentEncoding": "base64", "description": "send it with the next observation"}
"""The schema of a state token in an answer."""

EPISODE: Json = {"type": "string", "pattern": f"^{EPISODE_ID}$"}
"""The schema of an episode's id."""
BEGAN_BY: Json = {"type": "string", "pattern": f"^{DIGEST}$"}
"""The schema of the digest of the version that began an episode."""
REQUEST_HEADERS: list[Json] = [
    {"name": "X-Request-Budget-Ms", "in": "header", "required": False,
     "schema": {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?$"},
     "description": "milliseconds that the answer is worth waiting for; after that 504 with the card's fallback"},
    {"name": "X-Episode-Id", "in": "header", "required": False, "schema": EPISODE,
     "description": "the episode that the request belongs to, such as one route of one car; sent back"},
    {"name": "X-Episode-Digest", "in": "header", "required": False, "schema": BEGAN_BY,
     "description": "the digest of the episode's first answer: that version goes on answering while it is held, else "
                    "409 episode_of_another_version"},
]  # fmt: skip
"""The headers that a prediction may have."""
RESPONSE_HEADERS: Json = {
    name: {"schema": {"type": "string"}}
    for name in ("X-Request-Id", "X-Episode-Id", "X-Policy-Version", "X-Policy-Digest", "Retry-After")
}
"""The headers that a response to a prediction may have."""


def asked_of(card: Card) -> tuple[Code, ...]:
    """The codes of errors that a prediction of this policy may get."""
    return ASKED + OF_STATES if card.states else ASKED


def ref(name: str) -> Json:
    """A reference to a schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def array_of(items: Json, least: int | None = None, most: int | None = None) -> Json:
    """The schema of a list."""
    found: Json = {"type": "array", "items": items}
    found |= {} if least is None else {"minItems": least}
    return found if most is None else {**found, "maxItems": most}


def fields(properties: Json, *required: str) -> Json:
    """The schema of an object with these fields and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def json_content(name: str) -> Json:
    """The body of a request."""
    return {"required": True, "content": {"application/json": {"schema": ref(name)}}}


def body(name: str) -> Json:
    """The body of a response, and the headers that every response has."""
    content = {"application/json": {"schema": ref(name)}}
    return {"description": name, "headers": RESPONSE_HEADERS, "content": content}


def operation(summary: str, responses: Json, *codes: Code, error: str = "Error") -> Json:
    """One operation: its responses, and the codes of its errors."""
    refusals: dict[str, list[str]] = {}
    always: tuple[Code, ...] = ("unauthorized", "host_not_allowed", "overloaded", "internal")
    for code in (*codes, *always):
        refusals.setdefault(str(STATUS[code]), []).append(code)
    errors = {
        status: {**body(error), "description": ", ".join(sorted(set(names)))} for status, names in refusals.items()
    }
    return {"summary": summary, "responses": {**responses, **errors}}
