"""Whether a stage went on to a version or back to it, as the journal tells."""

from __future__ import annotations

import pytest

from registry.rules.chain import next_link
from registry.rules.going_back import goes_back
from registry.rules.journal import Entry, Move, read_entry


def journal(*moves: tuple[str, str, str]) -> list[Entry]:
    entries: list[Entry] = []
    for kind, version, to in moves:
        link = next_link(entries, Move(kind, version, to, None, "ann@car", 1.0))
        entries.append(read_entry(len(entries) + 1, link.to_bytes().decode(), link.hash, True))
    return entries


ONE, TWO = ("promote", "1.0.0", "production"), ("promote", "1.1.0", "production")
BACK = ("rollback", "1.0.0", "production")


@pytest.mark.parametrize(
    ("moves", "version", "back"),
    [
        ([ONE, TWO], "1.1.0", False),
        ([ONE, TWO, BACK], "1.0.0", True),
        ([ONE, TWO, BACK, TWO], "1.1.0", False),  # promoted again: that is going on
        ([ONE, TWO, ("archive", "1.0.0", "archived")], "1.1.0", False),
        ([ONE, ("promote", "1.1.0", "staging")], "1.1.0", False),
        ([ONE, TWO], "1.2.0", False),  # moved in MLflow's UI, and not in the journal yet
        ([ONE, TWO], "1.0.0", True),  # likewise, to a version that held it before
        ([ONE, TWO, ("seen", "1.0.0", "production")], "1.0.0", True),
        ([ONE, ("seen", "1.1.0", "production")], "1.1.0", False),
        ([], "1.0.0", False),
    ],
)
def test_a_stage_goes_back_by_a_rollback_or_to_what_held_it_before(moves, version, back):
    assert goes_back(journal(*moves), "production", version) is back


def test_an_entry_that_can_not_be_read_says_nothing():
    entries = journal(ONE, TWO)
    assert goes_back(entries, "production", "1.0.0")
    assert not goes_back([read_entry(1, "not json", "", True), *entries[1:]], "production", "1.0.0")
