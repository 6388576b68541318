"""A changed answer is a changed contract: what a car's code reads would have another name or meaning."""

from __future__ import annotations

import msgspec
import pytest
from without_pedals import KINDS

from carla_mlflow.contract.card import Card
from registry.rules.changes import contract_changes, other_changes


def changed(card: Card, **parts: object) -> Card:
    return msgspec.structs.replace(card, action=msgspec.structs.replace(card.action, **parts))


@pytest.fixture(scope="module")
def card() -> Card:
    return KINDS["labelled"].artifact().card


def test_other_labels_and_another_order_of_labels_change_the_contract(card: Card):
    for labels in (["LEFT", "IDLE", "FASTER"], ["RIGHT", "IDLE", "LEFT"]):
        [change] = contract_changes(card, changed(card, choices=labels))
        assert str(change).startswith("action.choices: ['LEFT', 'IDLE', 'RIGHT'] → ")
        assert changed(card, choices=labels).contract != card.contract


def test_labels_that_come_or_go_change_the_contract(card: Card):
    without = changed(card, choices=msgspec.UNSET)
    assert [change.place for change in contract_changes(without, card)] == ["action.choices"]
    assert [change.place for change in contract_changes(card, without)] == ["action.choices"]


def test_another_fallback_does_not(card: Card):
    other = changed(card, fallback={"choice": "LEFT"})
    assert contract_changes(card, other) == []
    assert [str(change) for change in other_changes(card, other)] == ["action.fallback.choice: IDLE → LEFT"]
