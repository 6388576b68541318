"""The card's `state` section, and the states of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from carla_mlflow import open_artifact
from carla_mlflow.contract.card import Card, dump_card, parse_card
from carla_mlflow.contract.card_sections import StateCard
from carla_mlflow.contract.memory import Memory
from carla_mlflow.errors import CardError, SpecError

STATES = {"h": StateCard("float32", [3]), "c": StateCard("float32", [2, 3], [1.0, 2.0, 3.0])}


@pytest.fixture(scope="module")
def card(example: Path) -> Card:
    return open_artifact(example).card


def remembering(card: Card, **parts: Any) -> Card:
    free = msgspec.structs.replace(card.parity, free_running=parts.pop("free_running", 1e-4))
    return msgspec.structs.replace(card, **{"state": STATES, "parity": free, **parts})


def test_a_card_with_a_memory_is_of_format_2_and_reads_back_in_order(card: Card):
    read = parse_card(dump_card(remembering(card)))
    assert (read.format, list(read.states), read.states) == (2, ["h", "c"], STATES)
    observations = card.observation_spec.names
    assert read.graph_inputs.names == (*observations, "reset", "h", "c")
    assert read.graph_outputs == {**card.graph_outputs, "h_next": (3,), "c_next": (2, 3)}
    assert read.memory is not None
    assert read.memory.size == 9


def test_a_car_depends_on_whether_there_is_a_memory_but_not_on_its_shape(card: Card):
    with_memory = remembering(card)
    assert with_memory.contract != card.contract
    assert remembering(card, state={"memory": StateCard("float32", [9])}).contract == with_memory.contract


def test_the_order_and_the_initial_values_of_states_belong_to_the_content(card: Card):
    contents = {
        parse_card(dump_card(remembering(card, state=states))).content
        for states in (STATES, dict(reversed(STATES.items())), {**STATES, "h": StateCard("float32", [3], 0.5)})
    }
    assert len(contents) == 3


@pytest.mark.parametrize(
    ("states", "complaint"),
    [
        ({}, "expected one to 16 states, got 0"),
        ({f"h{i}": StateCard("float32", [1]) for i in range(17)}, "got 17"),
        ({"speed": StateCard("float32", [1])}, "state.speed: speed and speed_next are names of the graph"),
        ({"reset": StateCard("float32", [1])}, "state.reset: reset and reset_next"),
        ({"mean": StateCard("float32", [1])}, "state.mean: mean and mean_next"),
        ({"h": StateCard("float32", [1]), "h_next": StateCard("float32", [1])}, "state.h: h and h_next"),
        ({"2": StateCard("float32", [1])}, "a name is a letter"),
        ({"h": StateCard("float32", [0])}, "each at least 1"),
        ({"h": StateCard("float32", [1] * 9)}, "at most 8 sizes"),
        ({"h": StateCard("float32", [256, 257])}, "more than 65,536 elements"),
        ({"h": StateCard("float32", [3], [0.0, 0.0])}, "initial has 2 values for 3 elements"),
        ({"h": StateCard("float32", [], [0.0])}, "initial has 1 values for 1 elements"),
        ({"h": StateCard("float32", [3], 1e39)}, "finite in float32"),
    ],
)
def test_a_section_state_that_contradicts_itself_or_the_graph_is_refused(card: Card, states: Any, complaint: str):
    with pytest.raises(CardError, match=complaint):
        dump_card(remembering(card, state=states))


@pytest.mark.parametrize("bound", [np.inf, np.nan])
def test_a_choice_without_a_last_one_is_refused_beside_a_memory_as_without(card: Card, bound: float):
    choosing = msgspec.structs.replace(card.action, head="categorical", raw={"choice": (0.0, bound)})
    for given in (msgspec.structs.replace(card, action=choosing), remembering(card, action=choosing)):
        with pytest.raises(CardError, match=r"action\.raw"):
            dump_card(given)


def test_an_observation_named_reset_is_refused_only_beside_a_memory(card: Card):
    fields = {"reset" if name == "speed" else name: field for name, field in card.observation.items()}
    dump_card(msgspec.structs.replace(card, observation=fields))
    with pytest.raises(CardError, match=r"observation\.reset: this name is used inside the graph"):
        dump_card(remembering(card, observation=fields))


def test_the_tolerance_of_free_running_belongs_to_a_memory(card: Card):
    with pytest.raises(CardError, match="free_running: expected with `state`"):
        dump_card(remembering(card, free_running=msgspec.UNSET))
    with pytest.raises(CardError, match="and nothing without"):
        dump_card(remembering(card, state=msgspec.UNSET))
    with pytest.raises(CardError, match=r"free_running must lie in \[0, 0.01\]"):
        dump_card(remembering(card, free_running=0.02))


def test_a_state_has_no_other_type_than_float32(card: Card):
    before, section, after = dump_card(remembering(card)).partition(b"state:")
    with pytest.raises(CardError, match="uint8"):
        parse_card(before + section + after.replace(b"dtype: float32", b"dtype: uint8", 1))


def test_rows_that_begin_get_the_initial_values_whatever_they_bring():
    memory = Memory(STATES)
    state = {name: np.full((2, *shape), 7.0) for name, shape in memory.shapes.items()}
    state["c"][1] = np.nan
    reset, entered = memory.enter(2, state, [False, True])
    assert reset.tolist() == [0.0, 1.0]
    assert entered["h"].tolist() == [[7.0] * 3, [0.0] * 3]
    assert entered["c"][1].tolist() == [[1.0, 2.0, 3.0]] * 2
    assert np.isnan(state["c"][1]).all()  # the caller's own is left as it was
    assert memory.enter(2, None, None)[0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("change", "reset", "field"),
    [
        ({"c": None}, None, "state.c"),
        ({"more": np.zeros((2, 3))}, None, "state"),
        ({"h": np.zeros((1, 3))}, None, "state.h"),
        ({"h": np.zeros((2, 3), dtype="U1")}, None, "state.h"),
        ({"h": np.array([[0, 0, 0], [0, np.inf, 0]])}, None, r"state[1].h[1]"),
        ({"h": np.full((2, 3), 1e39)}, None, r"state[0].h[0]"),
        ({}, [0.5, 0.0], "reset"),
        ({}, [True], "reset"),
        ({}, ["yes", "no"], "reset"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_naming_row_and_element(change: Any, reset: Any, field: str):
    state = {"h": np.zeros((2, 3)), "c": np.zeros((2, 2, 3))}
    state = {name: array for name, array in {**state, **change}.items() if array is not None}
    with pytest.raises(SpecError) as refused:
        Memory(STATES).enter(2, state, reset)
    assert refused.value.field == field
