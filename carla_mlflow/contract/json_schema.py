"""The JSON schema of a card, for editors that complete and check YAML by one, derived from the card's own types.

A schema knows keys, types and what their docstrings say; that a card does not contradict itself is checked by
`parse_card` alone.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""Names the dialect; nothing is fetched from there."""


Sections = dict[type[msgspec.Struct], type[msgspec.Struct]]


def json_schema(section: type[msgspec.Struct], title: str, alike: Sections | None = None) -> dict[str, Any]:
    """The schema of a card's section and of those below it.

    Args:
        section: such as CardFields.
        title: of the schema, which editors show.
        alike: section → another one, whose docstring describes the keys that its own does not.
    """
    _, described = msgspec.json.schema_components([section], ref_template="#/$defs/{name}")
    for each in sections_below(section):
        described[each.__name__]["description"] = summary(each)
        properties = described[each.__name__]["properties"]
        for key, text in key_texts(each, alike).items():
            if key in properties:
                properties[key] = {**properties[key], "description": text}
    top = described.pop(section.__name__)
    return {"$schema": DIALECT, **top, "title": title, "$defs": described}


def sections_below(section: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """A section, and all that its keys hold, each once and in the order of the keys."""
    found = [section]
    for hint in get_type_hints(section).values():
        for each in _structs(hint):
            found += [below for below in sections_below(each) if below not in found]
    return found


def key_texts(section: type[msgspec.Struct], alike: Sections | None = None) -> dict[str, str]:
    """Key → what is said of it, for `json_schema`."""
    other = (alike or {}).get(section)
    return {**(attributes(other) if other else {}), **attributes(section)}


def summary(section: type[msgspec.Struct]) -> str:
    """The first paragraph of a section's docstring, in one line."""
    return " ".join(inspect.cleandoc(section.__doc__ or "").partition("\n\n")[0].split())


def attributes(section: type[msgspec.Struct]) -> dict[str, str]:
    """Key → what the docstring's section `Attributes` says of it, also of the classes that it extends."""
    found: dict[str, str] = {}
    for owner in reversed(section.__mro__):
        text = inspect.cleandoc(owner.__doc__ or "").partition("\nAttributes:\n")[2]
        for key, said in re.findall(r"^    (\w+): (.*(?:\n     .*)*)", text, re.M):
            found[key] = " ".join(said.split())
    return found


def _structs(hint: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield hint
    for argument in get_args(hint):
        yield from _structs(argument)
