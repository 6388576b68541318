"""What changed between two cards, in words, and which version step each change requires. Pure.

major: the observation or action contract changed, so a car's code has to change. minor: the weights changed, or the
network that uses them. patch: anything else, such as packaging, description or metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from carla_mlflow.contract.card import Card
from carla_mlflow.contract.figures import with_new_names
from carla_mlflow.escaping import escaped


@dataclass(frozen=True)
class Change:
    """One difference: its place in the card, the old value and the new one."""

    place: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return escaped(f"{self.place}: {_value_text(self.old)} → {_value_text(self.new)}")


ABSENT = object()


def contract_changes(old: Card, new: Card) -> list[Change]:
    """Changes of what a car's code depends on: names, types, shapes, bounds, units, order of observations and actions.

    Cards whose units alone differ have the same `contract`, since its hash is older than this rule.
    """
    before, after = _depended_on(old), _depended_on(new)
    changes = list(_differences("", before, after))
    for section in ("observation", "action.raw"):
        orders = [list(_at(part, section)) for part in (before, after)]
        if sorted(orders[0]) == sorted(orders[1]) and orders[0] != orders[1]:
            changes.append(Change(f"{section} order", orders[0], orders[1]))
    return changes


def other_changes(old: Card, new: Card) -> list[Change]:
    """Changes of weights, files, training, metrics and the rest of the card that is not the contract."""
    before, after = (_outside_the_contract(card) for card in (old, new))
    files = [{name: file.sha256[:19] + "…" for name, file in card.files.items()} for card in (old, new)]
    return [*_differences("", before, after), *_differences("files.", files[0], files[1])]


def _depended_on(card: Card) -> dict[str, Any]:
    contract = card.depended_on()
    fields = {name: {**field, "unit": card.observation[name].unit} for name, field in contract["observation"].items()}
    return {**contract, "observation": fields}


def _outside_the_contract(card: Card) -> dict[str, Any]:
    document, contract = card.to_dict(), _depended_on(card)
    fields = {
        name: {key: value for key, value in field.items() if key not in contract["observation"][name]}
        for name, field in document["observation"].items()
    }
    action = {key: value for key, value in document["action"].items() if key not in contract["action"]}
    if isinstance(driven := document["metrics"].get("closed_loop"), dict):
        document["metrics"] = {**document["metrics"], "closed_loop": with_new_names(driven)}
    hidden = {"content", "version", "files"}
    return {k: v for k, v in document.items() if k not in hidden} | {"observation": fields, "action": action}


def _at(document: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    for key in place.split("."):
        document = document[key]
    return document


def _differences(place: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(f"{place}{key}.", old.get(key, ABSENT), new.get(key, ABSENT))
    elif old != new:
        yield Change(place.rstrip("."), old, new)


def _value_text(value: Any) -> str:
    if value is ABSENT:
        return "none"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"
