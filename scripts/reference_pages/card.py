"""The card's fields, and their JSON schemas, from the card's own types."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from carla_mlflow.contract.card_sections import CardFields
from carla_mlflow.contract.json_schema import Sections, json_schema, key_texts, sections_below, summary
from reference_pages.markdown import code, table, words
from training_export.sources.draft import CardDraft
from training_export.sources.draft_schema import alike, draft_schema


def draft() -> str:
    """Tables of what an author writes."""
    return _sections(CardDraft, draft_schema(), "card.yaml", alike())


def finished() -> str:
    """Tables of what the export writes."""
    return _sections(CardFields, _finished(), "model_card.yaml", {})


def draft_file() -> str:
    """The JSON schema of what an author writes."""
    return json.dumps(draft_schema(), indent=2, ensure_ascii=False)


def finished_file() -> str:
    """The JSON schema of what the export writes."""
    return json.dumps(_finished(), indent=2, ensure_ascii=False)


def _finished() -> dict[str, Any]:
    return json_schema(CardFields, "model_card.yaml of a policy artifact")


def _sections(top: type[msgspec.Struct], schema: dict[str, Any], file: str, texts: Sections) -> str:
    """A table for each section, the card itself first."""
    text = ""
    for section in sections_below(top):
        described = schema if section is top else schema["$defs"][section.__name__]
        title = file if section is top else f"{file}: {PLACES[section.__name__]}"
        said, required = key_texts(section, texts), described.get("required", [])
        rows = [
            [code(key), _type(one), _default(key, one, required), words(said[key])]
            for key, one in described["properties"].items()
        ]
        keys = table(["key", "type", "default", "meaning"], rows)
        text += f"### {words(title)}\n\n{words(summary(section))}\n\n{keys}\n"
    return text


PLACES = {
    "FieldCard": "each of `observation`",
    "Seen": "`observation`, `seen`",
    "StateCard": "each of `state`",
    "ActionCard": "`action`",
    "ActionDraft": "`action`",
    "Control": "each of `action`, `table`",
    "FileCard": "each of `files`",
    "Preprocessing": "`preprocessing`",
    "Parity": "`parity`",
    "Tolerance": "`parity`",
}
"""Where each section stands in the card."""


WORDS = {"number": "number", "integer": "whole number", "string": "text", "boolean": "true or false", "null": "null"}
"""JSON's types."""


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(code(str(value)) for value in schema["enum"])
    if "anyOf" in schema:
        kinds = dict.fromkeys(_type(each) for each in schema["anyOf"])
        return " or ".join(kinds)
    if "$ref" in schema:
        return "a section"
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return "a list"
    if kind == "object":
        return "by name" if "additionalProperties" in schema else "anything"
    return WORDS.get(kind, kind)


def _default(key: str, schema: dict[str, Any], required: list[str]) -> str:
    if key in required:
        return "required"
    return code(json.dumps(schema["default"])) if schema.get("default") not in (None, "", {}) else ""
