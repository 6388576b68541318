"""What a policy answers: its columns, its labels, its fallback, and which cards are refused."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from without_pedals import KINDS

from carla_mlflow import ContractError
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.actions import Actions, fallback_actions
from carla_mlflow.contract.answer import answer_columns, answer_table, fallback_answer
from carla_mlflow.contract.card import dump_card, parse_card
from carla_mlflow.contract.card_rules import check_action
from carla_mlflow.contract.control import controller, inverse_controller
from carla_mlflow.errors import CardError
from serve.codecs.action_rows import ActionRows
from training_export.sources.draft import ActionDraft, complete

CARDS = {name: complete(kind.draft) for name, kind in KINDS.items()}
PEDALS = complete(ActionDraft("acceleration_steer", {"acceleration": (-1.0, 1.0), "steer": (-1.0, 1.0)}, "gaussian"))


@pytest.mark.parametrize("name", KINDS)
def test_actions_are_answered_with_names_and_labels(name: str):
    kind, action = KINDS[name], CARDS[name]
    rows = ActionRows(answer_columns(action))
    objects = rows.template(len(kind.control)) % tuple(rows.parts(kind.control))
    assert msgspec.json.decode(b"[%b]" % objects) == kind.answers
    table = answer_table(answer_columns(action), kind.control)
    assert {key: values.tolist() for key, values in table.items()} == kind.columns
    assert fallback_answer(action) == kind.fallback
    assert fallback_actions(action, 2).control.shape == (2, len(kind.names))


@pytest.mark.parametrize("name", KINDS)
def test_an_answer_leads_back_to_the_raw_action(name: str):
    kind, action = KINDS[name], CARDS[name]
    raw = inverse_controller(action)(kind.control)
    low, high = action.bounds
    assert ((raw >= low) & (raw <= high)).all()
    np.testing.assert_array_equal(controller(action)(raw), kind.control)


def test_an_acceleration_alone_is_throttle_or_brake_by_the_cards_scale():
    action = ActionCard("gaussian", {"acceleration": (-8, 3)}, "acceleration", 10, {"acceleration": -1.0},
                        full_throttle=4.0, full_brake=-8.0)  # fmt: skip
    raw = np.array([[3.0], [-8.0], [-2.0], [0.0], [-0.0]], dtype=np.float32)
    assert controller(action)(raw).tolist() == [[0.75], [-1.0], [-0.25], [0.0], [0.0]]
    assert not np.signbit(controller(action)(raw)[3:]).any()


def test_only_pedals_make_a_vehicle_control():
    assert PEDALS.is_pedals
    assert PEDALS.control_names == ("throttle", "brake", "steer")
    for action in CARDS.values():
        assert not action.is_pedals
        with pytest.raises(ContractError, match="not throttle, brake and steer"):
            fallback_actions(action, 1).vehicle_control()
    assert fallback_actions(PEDALS, 1).vehicle_control() == (0.0, 0.0, 1.0)
    control = np.array([[0.5, 0.0, -0.25]], dtype=np.float32)
    assert Actions(control, control).vehicle_control() == (0.5, -0.25, 0.0)


@pytest.mark.parametrize("name", KINDS)
def test_such_a_card_is_written_as_format_2_and_read_back_the_same(name: str):
    card = KINDS[name].artifact().card
    data = dump_card(card)
    assert card.format == 2
    assert parse_card(data).action == CARDS[name]
    assert dump_card(parse_card(data)) == data
    with pytest.raises(CardError, match=r"(control|head|choices|full_\w+): format 1 has no such key or value"):
        parse_card(data.replace(b"format: 2", b"format: 1"))


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("labelled", {"choices": ["LEFT", "IDLE"]}, "choices: expected 3 different labels for choice"),
    ("labelled", {"choices": ["LEFT", "IDLE", "LEFT"]}, "choices: expected 3 different labels for choice"),
    ("labelled", {"choices": ["LEFT", "", "RIGHT"]}, "labels of 1 to 64 printable characters"),
    ("labelled", {"choices": {"choice": ["A", "B", "C"]}}, "expected a list for the dimension choice"),
    ("labelled", {"fallback": {"choice": "STOP"}}, "fallback.choice: 'STOP': expected one of LEFT, IDLE, RIGHT"),
    ("labelled", {"fallback": {"choice": 3}}, r"fallback.choice: 3: must lie in \[0, 2\]"),
    ("labelled", {"fallback": {"choice": 0.5}}, "fallback.choice: 0.5: expected the index of a choice"),
    ("labelled", {"fallback": {"throttle": 0.0, "brake": 1.0, "steer": 0.0}}, "fallback: expected exactly choice"),
    ("labelled", {"head": "gaussian"}, "raw.choice: the name is for the only dimension of a policy that chooses"),
    ("labelled", {"raw": {"option": (0, 2)}}, "raw: a categorical head needs exactly choice"),
    ("labelled", {"raw": {"choice": (1, 2)}}, r"raw.choice: expected \[0, K - 1\] for K choices"),
    ("labelled", {"control": "steer"}, "raw: steer needs exactly steer"),
    ("unlabelled", {"fallback": {"choice": "IDLE"}}, "expected one of an index: the card has no labels"),
    ("several", {"choices": {"wheel": ["A", "B"]}}, "choices.wheel: there is no such raw dimension"),
    (
        "several",
        {"raw": {"gear": (0, 2), "gear_index": (0, 1)}},
        "the index of a choice with labels has the name of another dimension",
    ),
    ("flags", {"raw": {"horn": (0, 2), "wipers": (0, 1)}}, r"raw.horn: expected \[0, 1\]"),
    ("values", {"choices": ["A", "B"]}, "choices: only a policy that chooses"),
    ("values", {"full_throttle": 2.0}, "full_throttle: control: named has no raw value to scale"),
    ("values", {"raw": {"longitudinal": (-5, 3), "the lateral": (-1, 1)}}, "raw.the lateral: expected an identifier"),
    ("values", {"raw": {"raw": (-5, 3), "lateral": (-1, 1)}}, "raw.raw: expected an identifier"),
    ("values", {"raw": {"latency": (-5, 3), "lateral": (-1, 1)}}, "raw.latency: expected an identifier .*, latency,"),
    ("labelled", {"choices": ["2", "1", "0"], "fallback": {"choice": 0}}, "choice: 0: .* or the label '0' in quotes"),
    ("values", {"raw": {"throttle": (0, 1), "brake": (0, 1), "steer": (-1, 1)}}, "need control: throttle_brake_steer"),
    ("acceleration", {"full_right": 1.0}, "full_right: control: acceleration does not decide that"),
    ("acceleration", {"full_brake": 8.0}, "have the same sign"),
    ("acceleration", {"head": "categorical"}, "a categorical head needs control: table or named"),
    ("steer", {"head": "bernoulli"}, "a bernoulli head needs control: named"),
    ("steer", {"fallback": {"steer": float("nan")}}, r"fallback.steer: nan: must lie in \[-1, 1\]"),
]


@pytest.mark.parametrize(("name", "changes", "complaint"), WRONG)
def test_a_card_that_contradicts_itself_is_refused_in_words(name: str, changes: dict[str, Any], complaint: str):
    wrong = msgspec.structs.replace(CARDS[name], **changes)
    with pytest.raises(AssertionError, match=complaint):
        assert not check_action(wrong), "; ".join(check_action(wrong))


def test_the_order_of_a_fallback_is_that_of_the_answer():
    assert list(CARDS["several"].fallback) == ["gear", "lights"]


def test_with_named_control_the_author_has_to_say_what_the_fallback_is():
    with pytest.raises(CardError, match=r"action\.fallback is missing"):
        complete(ActionDraft("named", head="categorical", choices=["A", "B"]))
    assert complete(ActionDraft("steer", {"steer": (-1.0, 1.0)}, "gaussian")).fallback == {"steer": 0.0}
