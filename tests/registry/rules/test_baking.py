"""Which versions bake, by the journal alone."""

from __future__ import annotations

import pytest

from registry.rules.alarms import Bar
from registry.rules.baking import GUARDED, GUARDED_S, baking, cut_short, ended_by, is_guarded
from registry.rules.chain import next_link
from registry.rules.going_back import goes_back, rolled_back
from registry.rules.journal import Bake, Entry, Move, read_entry, say
from registry.rules.replay import holders

BAKE = Bake(1800.0, (Bar("fallback_rate>0.01", 0.01),))


def chained(*moves: Move) -> list[Entry]:
    entries: list[Entry] = []
    for number, move in enumerate(moves, 1):
        link = next_link(entries, move)
        entries.append(read_entry(number, link.to_bytes().decode(), link.hash, True))
    return entries


def move(kind: str, version: str, to: str = "production", displaced: str | None = None, **more: object) -> Move:
    return Move(kind, version, to, displaced, "ann@host", 100.0, **more)  # type: ignore[arg-type]


FIRST = move("promote", "0.1.0")
BAKES = move("promote", "0.2.0", displaced="0.1.0", bake=BAKE)


def test_a_promotion_that_bakes_is_read_back_from_the_journal():
    [bake] = baking(chained(FIRST, BAKES))
    assert (bake.entry, bake.move.version, bake.bake, bake.ends) == (2, "0.2.0", BAKE, 1900.0)


def test_entries_without_a_bake_have_the_bytes_that_they_always_had():
    assert b"bake" not in next_link([], FIRST).to_bytes()
    assert b"settings" not in next_link([], FIRST).to_bytes()


@pytest.mark.parametrize(
    "ended",
    [
        move("baked", "0.2.0", displaced="0.2.0"),
        move("rollback", "0.1.0", displaced="0.2.0"),
        move("promote", "0.3.0", displaced="0.2.0"),
        move("seen", "0.1.0", displaced="0.2.0"),
        move("seen", "0.2.0", "left production"),
        move("archive", "0.2.0", "archived"),
    ],
    ids=lambda each: each.kind,
)
def test_a_bake_ends_by_its_end_or_when_the_version_leaves_the_stage(ended: Move):
    assert baking(chained(FIRST, BAKES, ended)) == []


CANARY_BAKES = move("promote", "0.3.0", "canary", displaced="0.2.0", bake=BAKE, share=5.0)


@pytest.mark.parametrize(
    "ended",
    [
        move("promote", "0.3.0", displaced="0.1.0"),
        move("seen", "0.3.0", displaced="0.1.0"),
        move("promote", "0.4.0", "canary", displaced="0.3.0", share=5.0),
        move("rollback", "0.3.0", "left canary", displaced="0.3.0"),
        move("archive", "0.3.0", "archived"),
    ],
    ids=lambda each: f"{each.kind} {each.version} {each.to}",
)
def test_a_canarys_bake_ends_when_it_is_the_canary_no_more(ended: Move):
    entries = chained(FIRST, CANARY_BAKES, ended)
    assert (baking(entries[:2])[0].move, baking(entries)) == (CANARY_BAKES, [])
    assert ended_by(entries, baking(entries[:2])[0]) == ended


def test_another_version_that_goes_to_production_does_not_end_a_canarys_bake():
    entries = chained(FIRST, CANARY_BAKES, move("promote", "0.4.0", displaced="0.1.0"))
    assert [bake.move for bake in baking(entries)] == [CANARY_BAKES]


def test_a_promotion_says_of_every_bake_that_it_ends_how_long_it_was():
    entries = chained(FIRST, BAKES, CANARY_BAKES)
    said = [
        f"{version} had baked in {stage} for 1m of 30m"
        for version, stage in (("0.2.0", "production"), ("0.3.0", "canary"))
    ]
    assert cut_short(entries, "0.3.0", "production", 160.0) == "; ".join(said)
    assert cut_short(entries, "0.4.0", "canary", 160.0) == said[1]
    assert cut_short(entries, "0.4.0", "staging", 160.0) is None
    assert cut_short(entries, "0.3.0", "production", 1900.0) is None


@pytest.mark.parametrize(
    "other",
    [
        move("register", "0.3.0", "candidate"),
        move("promote", "0.3.0", "staging"),
        move("archive", "0.0.9", "archived"),
        move("set", "", "", settings={"gate.driving.margin": "0.02"}),
    ],
    ids=lambda each: each.kind,
)
def test_what_others_do_meanwhile_does_not_end_it(other: Move):
    assert [bake.entry for bake in baking(chained(FIRST, BAKES, other))] == [2]


def test_a_bake_can_begin_again_after_a_roll_back():
    entries = chained(FIRST, BAKES, move("rollback", "0.1.0", displaced="0.2.0"), BAKES)
    assert [bake.entry for bake in baking(entries)] == [4]


def test_the_end_of_a_bake_and_settings_move_no_version():
    notes = (move("baked", "0.2.0", displaced="0.2.0"), move("set", "", "", settings={"gate.driving.margin": ""}))
    entries = chained(FIRST, BAKES, *notes)
    assert holders(entries) == holders(entries[:2])
    assert not goes_back(entries, "production", "0.2.0")  # episodes of 0.1.0 may still end with it


def test_what_was_rolled_back_is_nothing_to_roll_back_to():
    entries = chained(FIRST, BAKES, move("rollback", "0.1.0", displaced="0.2.0"), move("promote", "0.3.0", bake=BAKE))
    assert holders(entries).before["production"] == ("0.1.0",)


def test_a_version_that_was_rolled_back_stays_one_after_its_next_promotion():
    back = move("rollback", "0.1.0", displaced="0.2.0")
    entries = chained(
        FIRST, BAKES, back, move("promote", "0.2.0", displaced="0.1.0"), move("promote", "0.3.0", displaced="0.2.0")
    )
    assert (rolled_back(entries, "production"), rolled_back(entries, "staging")) == ({"0.2.0"}, set())


def test_history_says_that_it_bakes_that_it_has_baked_and_what_was_set():
    said = [say(entry) for entry in chained(FIRST, BAKES, move("baked", "0.2.0", displaced="0.2.0"))]
    assert "promote: 0.2.0 → production (was 0.1.0), bakes for 30m" in said[1]
    assert "baked: 0.2.0 in production, no alarm" in said[2]
    [entry] = chained(move("set", "", "", settings={"gate.driving.margin": "0.02", "gate.reward.margin": ""}))
    assert "set: gate.driving.margin = 0.02, gate.reward.margin = default" in say(entry)


def test_where_it_stands_is_said_with_how_to_guard_it():
    [bake] = baking(chained(FIRST, BAKES))
    assert "0.2.0 bakes until" in bake.say("mine", 200.0, is_guarded=True)
    assert "nobody guards it: carla-registry guard mine --servers" in bake.say("mine", 200.0, is_guarded=False)
    assert "0.2.0 bakes, overdue since" in bake.say("mine", 2000.0, is_guarded=True)


def test_a_guard_is_there_while_it_says_so():
    assert is_guarded({GUARDED: "1000"}, 1000 + GUARDED_S - 1)
    assert not is_guarded({GUARDED: "1000"}, 1000 + GUARDED_S)
    assert not is_guarded({}, 0.0)
    assert not is_guarded({GUARDED: "somebody's text"}, 0.0)
