"""The text on a version's page: what it tells, that it fits, that texts stay texts, and whose it is."""

from __future__ import annotations

import re

import msgspec
import pytest
from registry_policies import example

from carla_mlflow.contract.field_card import FieldCard
from registry.pages.description import Described, description
from registry.pages.markdown import plain, with_links
from registry.pages.signed import MAX_LENGTH, may_replace, signed
from registry.rules.chain import next_link
from registry.rules.journal import Entry, Move, read_entry
from registry.rules.judged import LONGEST, Judged, judged
from registry.store.run_figures import RunFigures

RUN = "c" * 32
TYPED = "a | b <script>x</script> ![see](http://evil/x.png) `code` *bold*\n# head"


def promoted(*moves: Move) -> list[Entry]:
    entries: list[Entry] = []
    for number, move in enumerate(moves, 1):
        link = next_link(entries, move)
        entries.append(read_entry(number, link.to_bytes().decode(), link.hash, True))
    return entries


def to_production(version: str, why: str = "", count: int = 1, text: str = "as good") -> Move:
    findings = (*[Judged("driving", False, text)] * count, Judged("integrity", True, "unchanged"))
    return Move("promote", version, "production", None, "ann", 1.8e9, why, findings=findings)


def test_it_says_what_the_policy_sees_how_it_drove_what_gates_found_and_how_to_serve_it():
    drove = RunFigures(
        RUN, "7", "runs:/x", "evaluate", "0.1.0", 0.0, {"policy/episodes": 60.0}, {"env": "racetrack-v1"}
    )
    text = description(Described("mine", example().card, promoted(to_production("0.1.0", "brakes earlier")), drove))
    for told in (
        "**mine 0.1.0** · answers 10 times a second",
        "| `speed`&emsp; | float32&emsp; | 0 to 60 m/s&emsp; |",
        "| `sensors`&emsp; | float32 × 12&emsp; | 0 to 1&emsp; |",
        "| **answers** `steer`&emsp; | &emsp; | -1 to 1&emsp; |",
        f"**Drove** in racetrack-v1, [run cccccccc](#/experiments/7/runs/{RUN}): 60 episodes",
        "for production; it passed integrity",
        "- **overruled** driving: as good",
        "- production from 2027-01-15 08:00 UTC, by ann: “brakes earlier”",
        "**Serve it**: `carla-serve --model mine@production`",
    ):
        assert told in text, told


def test_a_version_that_did_not_drive_yet_says_how_to_make_evidence_and_one_that_was_refused_says_why():
    refused = ("production", judged([Judged("evidence", False, "mine@0.1.0 was not evaluated")]))
    text = description(Described("mine", example().card, refused=refused))
    assert "no evaluation yet. `python -m training_export evaluate mine@0.1.0 --log`" in text
    assert "**Gates** refused it for production; it passed none" in text
    assert "- **refused** evidence: mine@0.1.0 was not evaluated" in text
    assert "carla-serve --model mine@0.1.0" in text


def test_of_many_moves_the_last_are_shown_and_said_to_be_no_more_than_that():
    moves = [to_production(version, f"move {number}") for number, version in enumerate(("0.1.0", "0.2.0") * 4)]
    text = description(Described("mine", example().card, promoted(*moves)))
    assert "**Moves**, the last 3" in text
    assert ["move 0" in text, *(f"move {number}" in text for number in (2, 4, 6))] == [False, True, True, True]
    assert "**Moves**\n" in description(Described("mine", example().card, promoted(moves[0])))


def test_however_much_there_is_to_tell_it_fits_into_mlflows_database_and_is_ours():
    fields = {f"field_{number}": FieldCard("float32", [], 0.0, 1.0) for number in range(300)}
    card = msgspec.structs.replace(example().card, observation=fields, description="*" * 4000)
    text = description(Described("mine", card, promoted(to_production("0.1.0", "!" * 1000, 80, "|" * LONGEST))))
    assert len(text) <= MAX_LENGTH
    assert may_replace(text)
    assert "and 297 more" in text


def test_what_people_typed_is_no_markup():
    card = msgspec.structs.replace(example().card, description=TYPED)
    text = description(Described("mine", card, promoted(to_production("0.1.0", TYPED, text=TYPED))))
    for markup in ("<script", "![", "](http", "\n# head", "*bold*", "`code`", "://evil"):
        assert markup not in text
    assert plain("a_b") == "a&#95;b"
    link = f"http://mlflow/#/experiments/3/runs/{RUN}"
    assert with_links(f"in {link}, runs:/{RUN}") == f"in [run cccccccc](#/experiments/3/runs/{RUN}), run cccccccc"


@pytest.mark.parametrize(
    ("change", "ours"),
    [
        (lambda text: text, True),
        (lambda text: text.replace("\n", "\r\n"), True),
        (lambda text: f"{text}\n", True),
        (lambda text: "", True),
        (lambda text: None, True),
        (lambda text: "by hand", False),
        (lambda text: text.replace("ours", "mine"), False),
        (lambda text: f"first this\n\n{text}", False),
        (lambda text: f"{text}\n\nand this", False),
        (lambda text: re.sub(r"\n\n<!--.*", "", text), False),
    ],
)
def test_a_text_is_ours_only_as_long_as_nobody_changed_it(change, ours: bool):
    assert may_replace(change(signed("ours\n\n| a |\n|---|"))) is ours
