"""The pieces of an OpenAPI document."""

from __future__ import annotations

from typing import Any

from serve.errors import STATUS, Code

Json = dict[str, Any]

ASKED: tuple[Code, ...] = ("bad_json", "bad_request", "version_not_found", "body_too_large", "unsupported_media_type",
         "invalid_observation", "overloaded", "internal", "not_ready", "deadline_exceeded")  # fmt: skip
"""What a prediction may be refused with."""


def ref(name: str) -> Json:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def array_of(items: Json, least: int | None = None, most: int | None = None) -> Json:
    """A list."""
    found: Json = {"type": "array", "items": items}
    found |= {} if least is None else {"minItems": least}
    return found if most is None else {**found, "maxItems": most}


def fields(properties: Json, *required: str) -> Json:
    """An object with these fields and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def json_content(name: str) -> Json:
    """A request's body."""
    return {"required": True, "content": {"application/json": {"schema": ref(name)}}}


def body(name: str) -> Json:
    """An answer's body, and the headers that every answer has."""
    text = {"schema": {"type": "string"}}
    headers = {"X-Request-Id": text, "X-Policy-Version": text, "X-Policy-Digest": text, "Retry-After": text}
    return {"description": name, "headers": headers, "content": {"application/json": {"schema": ref(name)}}}


def operation(summary: str, responses: Json, *codes: Code, error: str = "Error") -> Json:
    """One operation: what it answers, and the codes of errors that it may answer instead."""
    refusals: dict[str, list[str]] = {}
    always: tuple[Code, ...] = ("unauthorized", "host_not_allowed", "overloaded", "internal")
    for code in (*codes, *always):
        refusals.setdefault(str(STATUS[code]), []).append(code)
    errors = {
        status: {**body(error), "description": ", ".join(sorted(set(names)))} for status, names in refusals.items()
    }
    return {"summary": summary, "responses": {**responses, **errors}}
