"""The journal's rules: a chain in which an edit, a removal and a cut show, and from which any moment can be told."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carla_mlflow.errors import RegistryError
from registry.rules.chain import chain, next_link, problems
from registry.rules.journal import Entry, Move, read_entry, say
from registry.rules.replay import at, holders


def written(*moves: Move) -> list[Entry]:
    entries: list[Entry] = []
    for move in moves:
        link = next_link(entries, move)
        number = (entries[-1].number if entries else 0) + 1
        entries.append(read_entry(number, link.to_bytes().decode(), link.hash, True))
    return entries


def promoted(version: str, displaced: str | None, when: float, to: str = "production", kind: str = "promote") -> Move:
    return Move(kind, version, to, displaced, "ann@car", when, why="it drives better")


THREE = written(promoted("1.0.0", None, 10), promoted("1.1.0", "1.0.0", 20), promoted("1.2.0", "1.1.0", 30))


def test_a_chain_that_nobody_touched_is_whole():
    assert problems(THREE) == []
    assert problems(THREE, THREE[-1].hash) == []
    assert problems([]) == []


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_edited_entry_is_found(place: int):
    entry = THREE[place]
    forged = entry.text.replace("ann@car", "eve@car")
    edited = [*THREE[:place], read_entry(entry.number, forged, entry.stored_hash, True), *THREE[place + 1 :]]
    assert any(f"entry {entry.number} was edited" in text for text in problems(edited))


@pytest.mark.parametrize("place", [0, 1])
def test_an_entry_edited_together_with_its_hash_is_found_by_the_next(place: int):
    entry = THREE[place]
    link = msgspec.json.decode(entry.text.replace("ann@car", "eve@car"), type=type(entry.link))
    forged = read_entry(entry.number, link.to_bytes().decode(), link.hash, True)
    assert problems([*THREE[:place], forged, *THREE[place + 1 :]]) == [
        f"entry {entry.number} was edited: its hash is not the one that entry {entry.number + 1} recorded"
    ]


@pytest.mark.parametrize("place", [0, 1])
def test_a_removed_entry_is_found(place: int):
    assert problems(chain([*THREE[:place], *THREE[place + 1 :]])) == [
        f"entry {place + 1}, before entry {place + 2}, was removed"
    ]


def test_a_cut_off_entry_is_found_by_a_head_that_was_kept_elsewhere():
    assert problems(THREE[:2]) == []
    assert "cut off at the end" in problems(THREE[:2], THREE[2].hash)[0]


def test_a_head_noted_long_ago_is_still_part_of_a_longer_chain():
    assert problems(THREE, THREE[0].hash) == []


def test_an_entry_that_can_not_be_read_is_told_and_not_taken_for_a_move():
    broken = [*THREE[:1], read_entry(2, "not json", THREE[1].stored_hash, True), THREE[2]]
    assert any("entry 2 was edited" in text for text in problems(broken))
    assert say(broken[1]) == "   2  can't be read: it was edited; see history --check"
    assert holders(broken) == holders([THREE[0], THREE[2]])
    with pytest.raises(RegistryError, match="journal entry 2 can't be read"):
        _ = broken[1].move


def test_of_two_entries_after_the_same_one_the_lower_number_counts():
    first = THREE[:1]
    one, other = (next_link(first, promoted(version, "1.0.0", 20)) for version in ("1.1.0", "6.6.6"))
    raced = [
        read_entry(3, other.to_bytes().decode(), other.hash, True),
        read_entry(2, one.to_bytes().decode(), one.hash, True),
    ]
    assert [entry.number for entry in chain([*first, *raced])] == [1, 2]
    after = next_link(chain([*first, *raced]), promoted("1.2.0", "1.1.0", 30))
    assert after.after == 2
    later = read_entry(4, after.to_bytes().decode(), after.hash, True)
    assert [entry.number for entry in chain([*first, *raced, later])] == [1, 2, 4]
    assert problems(chain([*first, *raced, later])) == []


def raced() -> list[Entry]:
    """Entries 2 and 3 were both written after 1, so 3 is void, and says so; 4 was written after 2."""
    first = THREE[:1]
    one, other = (next_link(first, promoted(version, "1.0.0", 20)) for version in ("1.1.0", "6.6.6"))
    two = read_entry(2, one.to_bytes().decode(), one.hash, True)
    void = read_entry(3, other.to_bytes().decode(), other.hash, False, is_void=True)
    last = next_link([*first, two], promoted("1.2.0", "1.1.0", 30))
    return [*first, two, void, read_entry(4, last.to_bytes().decode(), last.hash, True)]


@pytest.mark.parametrize("length", [3, 4])
@pytest.mark.parametrize("gone", [2, 3])
def test_what_is_removed_revives_nothing_and_is_told(length: int, gone: int):
    every = raced()[:length]
    left = [entry for entry in every if entry.number != gone]
    assert [entry.number for entry in chain(left)] == [n for n in (1, 2, 4)[: length - 1] if n != gone]
    told = problems(chain(left), numbers={entry.number for entry in left})
    if gone < length:
        assert len(told) == 1
        assert f"entry {gone}" in told[0]
        assert "removed" in told[0]
    assert problems(chain(every), numbers={entry.number for entry in every}) == []


def test_an_entry_that_calls_itself_void_and_was_not_counts_still():
    every = [said_void(entry) for entry in THREE]
    assert [entry.number for entry in chain(every)] == [1, 2, 3]


def said_void(entry: Entry) -> Entry:
    """The entry as somebody edits its description in MLflow."""
    return read_entry(entry.number, entry.text, entry.stored_hash, True, is_void=True)


def test_after_a_removal_one_chain_is_left_and_goes_on():
    left = [entry for entry in raced()[:3] if entry.number != 2]
    link = next_link(chain(left), promoted("1.3.0", "1.0.0", 40))
    two = [read_entry(number, link.to_bytes().decode(), link.hash, False) for number in (4, 5)]
    assert [entry.number for entry in chain([*left, *two])] == [1, 4]


@settings(deadline=None)
@given(st.data())
def test_however_writers_interleave_one_chain_is_left_and_it_is_whole(data: st.DataObject):
    """Writers read the chain, and later write after the entry that was last when they read."""
    stored: list[Entry] = []
    seen = [chain(stored) for _ in range(3)]
    for number in range(1, data.draw(st.integers(1, 25)) + 1):
        writer = data.draw(st.integers(0, 2))
        if data.draw(st.booleans()):
            seen[writer] = chain(stored)
        link = next_link(seen[writer], promoted(f"1.{number}.0", None, number))
        stored.append(read_entry(number, link.to_bytes().decode(), link.hash, True))
        before = chain(stored[:-1])
        won = chain(stored)[-1].number == number
        assert won == (link.after == (before[-1].number if before else 0))
    assert problems(chain(stored)) == []


def test_what_held_when_is_told_for_any_moment():
    entries = written(
        Move("register", "1.0.0", "candidate", None, "ann", 5.0),
        promoted("1.0.0", None, 10, "staging"),
        promoted("1.0.0", None, 20),
        promoted("1.1.0", "1.0.0", 30),
        promoted("1.0.0", "1.1.0", 40, kind="rollback"),
        Move("archive", "1.1.0", "archived", None, "ann", 50.0),
        Move("seen", "1.0.0", "candidate", None, "ann", 60.0),
    )
    told = {time: at(entries, time)[0].aliases for time in (0, 5, 10, 25, 35, 45, 55, 60)}
    assert told == {
        0: {},
        5: {},
        10: {"staging": "1.0.0"},
        25: {"staging": "1.0.0", "production": "1.0.0"},
        35: {"staging": "1.0.0", "production": "1.1.0"},
        45: {"staging": "1.0.0", "production": "1.0.0"},
        55: {"staging": "1.0.0", "production": "1.0.0"},
        60: {},
    }
    assert at(entries, 55)[0].archived == {"1.1.0"}
    assert at(entries, 0)[1] is None


def test_a_roll_back_goes_one_step_further_each_time():
    moves = [promoted("1.0.0", None, 1), promoted("1.1.0", "1.0.0", 2), promoted("1.2.0", "1.1.0", 3)]
    assert holders(written(*moves)).before["production"] == ("1.0.0", "1.1.0")
    moves.append(promoted("1.1.0", "1.2.0", 4, kind="rollback"))
    assert holders(written(*moves)).before["production"] == ("1.0.0",)
    moves.append(promoted("1.0.0", "1.1.0", 5, kind="rollback"))
    assert holders(written(*moves)).before["production"] == ()


def test_what_somebody_typed_forges_no_entry():
    typed = "fine”  by root\n   9  2026-01-01 00:00:00  promote: 6.6.6 → production\x1b[1A\u202e"
    move = Move("promote", typed, typed, typed, typed, 10.0, typed, (f"overruled: {typed}: no",))
    [entry] = written(move)
    assert say(entry).isprintable()
    assert (say(entry).count("“"), say(entry).count("”")) == (1, 1)


def test_an_entry_reads_as_a_line():
    line = say(THREE[1])
    for part in ("promote: 1.1.0 → production (was 1.0.0)", "by ann@car", "“it drives better”"):
        assert part in line
