"""The server's routes, from the OpenAPI document that the server derives of a policy's card."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carla_mlflow.contract.card import Card
from reference_pages.markdown import block, code, table, words
from serve.settings import Settings
from serve.web.openapi import example, openapi

EXAMPLE = Path(__file__).parents[2] / "examples" / "v0.1.0"


def routes() -> str:
    """A list of the routes, and each of them."""
    document = _document()
    rows = [
        [code(method.upper()), f"[{code(path)}](#{_anchor(method, path)})", words(described["summary"])]
        for method, path, described in operations(document)
    ]
    parts = [table(["method", "path", ""], rows)]
    for method, path, described in operations(document):
        parts.append(f"## {method.upper()} {words(path)} {{ #{_anchor(method, path)} }}\n")
        parts += _operation(path, described, document.get("security", []))
    return "\n".join(parts)


def openapi_file() -> str:
    """The whole document."""
    return json.dumps(_document(), indent=1)


@functools.cache
def _document() -> dict[str, Any]:
    settings = Settings(model="examples/v0.1.0", api_key="secret", webhook_secret="secret")
    return openapi(Card.load(EXAMPLE), settings, True)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each operation."""
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            if method in {"get", "post", "put", "delete", "head"}:
                yield method, path, described


def _anchor(method: str, path: str) -> str:
    return "-".join([method, *re.findall(r"\w+", path)])


def _operation(path: str, described: dict[str, Any], security: list[Any]) -> Iterator[str]:
    """What a client has to know of one operation."""
    summary = words(described["summary"])
    is_open = described.get("security", security) == []
    yield f"{summary[:1].upper()}{summary[1:]}.{' Needs no key.' if is_open else ''}\n"
    parameters = [one for one in described.get("parameters", []) if "name" in one]
    if parameters:
        rows = [[code(one["name"]), one["in"], words(one.get("description", ""))] for one in parameters]
        yield table(["parameter", "in", ""], rows)
    if path == "/predict":
        sent = {"observations": [example(Card.load(EXAMPLE))]}
        yield "A request of the example policy:\n\n" + block(json.dumps(sent), "json")
    responses = described["responses"].items()
    yield table(["status", ""], [[code(status), words(one.get("description", ""))] for status, one in responses])
