"""Strict YAML: bounded in size and depth, without aliases or duplicate keys."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeVar

import msgspec
import yaml

from ..errors import CardError

CARD_NAME = "model_card.yaml"


MAX_BYTES, MAX_DEPTH = 1 << 20, 32


S = TypeVar("S")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader that refuses duplicate keys: libyaml's if installed, since a card is read at every start."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = Counter(key.value for key, _ in node.value if isinstance(key.value, str))
        twice = next((key for key, count in keys.items() if count > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"the key {twice!r} is there twice")
        return super().construct_mapping(node, deep)


def read_yaml(data: bytes, where: str = CARD_NAME) -> Any:
    """Reads YAML as plain values; raises CardError for invalid YAML or a duplicate key. `where` names the file."""
    try:
        _check_events(data, where)
        return yaml.load(data, Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise CardError(f"{where}: invalid YAML: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What is wrong, and in which line; PyYAML's own first line is often only what it was reading."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}: {problem}" if mark and problem else " ".join(str(error).split())


def _check_events(data: bytes, where: str) -> None:
    """Refuses a document that is too large or too deep, or has aliases, before any value is built."""
    if len(data) > MAX_BYTES:
        raise CardError(f"{where}: larger than {MAX_BYTES >> 20} MiB")
    depth = 0
    for event in yaml.parse(data, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
            raise CardError(f"{where}: holds an alias, or is nested more than {MAX_DEPTH} deep")


def read_section(document: Any, section: type[S], where: str = CARD_NAME) -> S:
    """Turns plain values into a card or a part of one; CardError names the place that does not fit."""
    try:
        return msgspec.convert(document, section)
    except (msgspec.ValidationError, TypeError) as error:
        is_word = "str`, got `bool`" in str(error)
        quotes = "; YAML reads on, off, yes and no as true or false: write such a word in quotes" if is_word else ""
        raise CardError(f"{where}: {error}{quotes}") from error
