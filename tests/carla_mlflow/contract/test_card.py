from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from carla_mlflow import open_artifact
from carla_mlflow.contract.card import Card, content_hash, dump_card, parse_card
from carla_mlflow.contract.card_sections import FileCard
from carla_mlflow.contract.field_card import FieldCard, Seen
from carla_mlflow.errors import CardError


@pytest.fixture(scope="module")
def card(example: Path) -> Card:
    return open_artifact(example).card


def changed(card: Card, **sections) -> Card:
    return msgspec.structs.replace(card, **sections)


def test_a_card_reads_back_as_it_was_written(card: Card):
    assert parse_card(dump_card(card)) == card


def test_what_does_not_change_the_policy_does_not_change_its_content(card: Card):
    same = changed(card, version="9.9.9", description="other", metrics={"a": 1}, training={"seed": 5})
    assert content_hash(same) == content_hash(card)
    assert content_hash(changed(card, name="other")) != content_hash(card)
    assert content_hash(changed(card, weights="sha256:" + "0" * 64)) != content_hash(card)


def test_the_contract_holds_what_a_car_depends_on_and_nothing_else(card: Card):
    fields, action = card.observation, card.action
    speed = fields["speed"]

    def with_speed(**parts) -> Card:
        return changed(card, observation={**fields, "speed": msgspec.structs.replace(speed, **parts)})

    assert with_speed(unit="km/h").contract == card.contract
    assert with_speed(high=70.0).contract != card.contract
    assert changed(card, observation=dict(reversed(fields.items()))).contract != card.contract
    other_order = msgspec.structs.replace(action, raw=dict(reversed(action.raw.items())))
    assert changed(card, action=other_order).contract != card.contract
    fallback = {**action.fallback, "brake": 0.5}
    assert changed(card, action=msgspec.structs.replace(action, fallback=fallback)).contract == card.contract


def test_format_1_keeps_its_bytes_its_content_and_its_contract(example: Path, card: Card):
    data = (example / "model_card.yaml").read_bytes()
    assert dump_card(card) == data
    assert card.format == 1
    assert card.content == "sha256:ae0a8caebfbd336909515b87504f4bd3b9601e76d5cce1a857e0b8b8c8072a2d"
    assert card.contract == "e74ee74c3411"


def test_a_key_that_format_1_does_not_have_makes_format_2_and_belongs_to_the_content(card: Card):
    newer = changed(card, action=msgspec.structs.replace(card.action, full_brake=-8.0))
    text = dump_card(newer).decode()
    assert text.startswith("format: 2\n")
    assert "full_brake: -8.0" in text
    assert "full_throttle" not in text
    read = parse_card(text.encode())
    assert read.action == newer.action
    assert read.content != card.content
    assert read.contract != card.contract
    assert dump_card(changed(read, action=card.action)) == dump_card(card)


def with_sensors(card: Card, **parts) -> Card:
    field = msgspec.structs.replace(card.observation["sensors"], **parts)
    return changed(card, observation={**card.observation, "sensors": field})


def test_one_open_element_makes_format_2_and_another_contract(card: Card):
    newer = with_sensors(card, low=[0.0] * 11 + [None], high=[None] + [1.0] * 11)
    text = dump_card(newer).decode()
    assert text.startswith("format: 2\n")
    read = parse_card(text.encode())
    assert read.observation["sensors"].low[10:] == [0.0, None]
    assert read.contract != card.contract
    largest = float(np.finfo(np.float32).max)  # how cards of format 1 say it, which a car's code can't tell apart
    assert read.contract == with_sensors(card, low=[0.0] * 11 + [-largest], high=[largest] + [1.0] * 11).contract
    assert read.observation_spec[2].lows[11] == np.finfo(np.float32).min
    with pytest.raises(CardError, match=r"observation\.sensors\.low: format 1 has no such key or value"):
        parse_card(text.replace("format: 2", "format: 1", 1).encode())


def test_choices_sources_and_nested_bounds_make_format_2(card: Card):
    command = FieldCard("uint8", [], 0.0, 5.0, choices=6)
    grid = FieldCard("float32", [2, 2], [[0.0, None], [1.0, 2.0]], 9.0, source="grid-front")
    newer = changed(card, observation={**card.observation, "command": command, "grid": grid})
    text = dump_card(newer).decode()
    assert text.startswith("format: 2\n")
    read = parse_card(text.encode())
    assert read.observation == newer.observation
    specs = {spec.name: spec for spec in read.observation_spec}
    assert (specs["command"].choices, specs["grid"].origin, specs["command"].origin) == (6, "grid-front", "command")
    for key in ("command.choices", "grid.low", "grid.source"):
        with pytest.raises(CardError, match=rf"observation\.{key}: format 1 has no such key or value"):
            parse_card(text.replace("format: 2", "format: 1", 1).encode())
    renamed = msgspec.structs.replace(grid, source="other")
    other = changed(newer, observation={**newer.observation, "grid": renamed})
    assert other.contract != newer.contract, "it is another observation"
    twice = {**newer.observation, "more": msgspec.structs.replace(grid, source="command")}
    with pytest.raises(CardError, match="two fields have the source command"):
        dump_card(changed(newer, observation=twice))


def test_what_training_saw_belongs_to_the_content_and_not_to_the_contract(card: Card):
    newer = with_sensors(card, seen=Seen(0.0, [0.5] * 12))
    read = parse_card(dump_card(newer))
    assert (read.format, read.contract) == (2, card.contract)
    assert read.content != card.content
    with pytest.raises(CardError, match=r"sensors: seen\.low 2\.0 is above seen\.high 1\.0"):
        dump_card(with_sensors(card, seen=Seen(2.0, 1.0)))


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ({"version": "1.0"}, "version '1.0': expected a semantic version"),
        ({"version": "01.0.0"}, "semantic version"),
        ({"version": "1.0.0\n"}, "semantic version"),
        ({"name": "../up"}, "name '../up'"),
        ({"observation": {}}, "observation: expected at least one field"),
        ({"files": {"golden.npz": FileCard("sha256:" + "0" * 64)}}, "backend onnx: no file"),
        ({"files": {}}, "golden.npz is not listed"),
    ],
)
def test_a_card_that_contradicts_itself_can_not_be_written(card: Card, sections: dict, complaint: str):
    with pytest.raises(CardError, match=complaint):
        dump_card(changed(card, **sections))


@pytest.mark.parametrize(
    ("replace", "by", "complaint"),
    [
        ("format: 1", "format: 3", "format 3 is newer than this reader's 2"),
        ("format: 1", "format: 0", "format 0: expected 1 or 2"),
        ("rate_hz: 10.0", "full_brake: -8.0\n  rate_hz: 10.0", "action.full_brake: format 1 has no such key"),
        ("rate_hz: 10.0", "rate_hz: fast", r"Expected `float`, got `str` - at `\$.action.rate_hz`"),
        ("backend: torchscript", "backend: pickle", "Invalid enum value 'pickle'"),
        ("parity:", "surprise: 1\nparity:", "unknown field `surprise`"),
        ("head: gaussian", "head: cauchy", "action.head 'cauchy'"),
        ("model.pt:", "../model.pt:", "not a plain file name"),
        ("brake: 1.0", "brake: 2.0", "action.fallback"),
        ("format: 1", "format: [", "invalid YAML: line"),
    ],
)
def test_a_card_that_is_wrong_is_refused_with_the_place(card: Card, replace: str, by: str, complaint: str):
    text = dump_card(card).decode()
    assert replace in text
    with pytest.raises(CardError, match=complaint):
        parse_card(text.replace(replace, by, 1).encode())


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"- 1", b"!!python/object/apply:os.system ['true']"])
def test_what_is_no_card_is_refused(data: bytes):
    with pytest.raises(CardError):
        parse_card(data)
