"""Which episodes belong to the canary, and what the journal says of one."""

from __future__ import annotations

import itertools
import math

import msgspec
import pytest

from carla_mlflow.errors import RefusedError
from registry.rules.canary import belongs, check_canary, parse_share, say_shares, share_text
from registry.rules.chain import next_link
from registry.rules.journal import Entry, Move, read_entry, say
from registry.rules.policy_version import PolicyVersion
from registry.rules.replay import Holders, holders
from registry.rules.ui_moves import seen_moves, seen_share

EPISODES = [f"car-{number % 40}.{number:06d}" for number in range(100_000)]
DIGESTS = [f"sha256:{letter * 64}" for letter in "ace"]
"""Digests whose share is within 0.3 points at every whole percentage. At half of the episodes one standard deviation is
0.16 points, so that one digest in seventeen is further off by chance alone."""
FURTHER_OFF = [f"sha256:{letter * 64}" for letter in "0bf"]
"""Three that are."""


def taken(digest: str, share: float) -> set[str]:
    return {episode for episode in EPISODES if belongs(episode, digest, share)}


@pytest.mark.parametrize("digest", DIGESTS)
@pytest.mark.parametrize("share", [0.25, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0])
def test_of_100_000_episodes_the_share_belongs_to_the_canary(digest: str, share: float):
    assert abs(100 * len(taken(digest, share)) / len(EPISODES) - share) <= 0.3


@pytest.mark.parametrize("digest", FURTHER_OFF)
def test_half_of_the_episodes_is_half_within_what_chance_allows(digest: str):
    assert abs(100 * len(taken(digest, 50.0)) / len(EPISODES) - 50.0) <= 4 * 50 / math.sqrt(len(EPISODES))


def test_a_larger_share_keeps_the_episodes_of_every_smaller_one():
    sets = [taken(DIGESTS[0], share) for share in (0, 0.25, 1, 5, 20, 100)]
    assert (sets[0], len(sets[-1])) == (set(), len(EPISODES))
    assert all(smaller < larger for smaller, larger in itertools.pairwise(sets))


def test_another_canary_gets_other_episodes():
    one, two = (taken(digest, 5) for digest in DIGESTS[:2])
    assert len(one & two) / len(EPISODES) == pytest.approx(0.05**2, abs=0.001)


def test_an_episode_belongs_by_this_formula_and_no_other():
    # The first 8 bytes of sha256("route-7\nsha256:aaa…") are 74.977 % of 2**64. By another formula a server that is
    # updated would move the episodes under way.
    assert not belongs("route-7", DIGESTS[0], 74.97)
    assert belongs("route-7", DIGESTS[0], 74.98)


@pytest.mark.parametrize(
    ("text", "share"),
    [("5", 5.0), ("0.25", 0.25), ("100", 100.0), ("0", 0.0), ("100.00", 100.0)]
    + [(text, None) for text in (None, "", "5%", "-1", "101", "100.01", "0.125", "nan", "1e1", " 5", "٥")],
)
def test_a_share_is_a_percentage_with_two_decimals(text: str | None, share: float | None):
    assert parse_share(text) == share
    if share is not None:
        assert parse_share(share_text(share)) == share


def test_a_share_is_shown_without_needless_zeros():
    assert [share_text(share) for share in (5.0, 0.25, 0.1, 100.0, 0.0)] == ["5", "0.25", "0.1", "100", "0"]
    assert say_shares(("canary", "staging"), 5.0) == ["canary (5 %)", "staging"]
    assert say_shares(("canary",), None) == ["canary (no share)"]


@pytest.mark.parametrize(
    ("champion", "share", "complaint"),
    [
        ("0.1.0", None, "--share PERCENT"),
        (None, 5.0, "no version is in production"),
        ("0.2.0", 5.0, "answers all episodes already"),
    ],
)
def test_a_canary_needs_a_share_and_another_version_in_production(champion, share, complaint):
    with pytest.raises(RefusedError, match=complaint):
        check_canary("0.2.0", champion, share)


def journal(*moves: tuple[str, str, str, float | None]) -> list[Entry]:
    entries: list[Entry] = []
    for kind, version, to, share in moves:
        displaced = holders(entries).aliases.get(to)
        move = Move(kind, version, to, displaced, "ann@car", 1.0)
        link = next_link(entries, move if share is None else msgspec.structs.replace(move, share=share))
        entries.append(read_entry(len(entries) + 1, link.to_bytes().decode(), link.hash, True))
    return entries


CHAMPION = ("promote", "0.1.0", "production", None)
CANARY = ("promote", "0.2.0", "canary", 5.0)


@pytest.mark.parametrize(
    ("moves", "holder", "canary", "share", "is_vetted"),
    [
        ([], "0.1.0", "0.2.0", 5.0, True),
        ([("promote", "0.2.0", "canary", 20.0)], "0.1.0", "0.2.0", 20.0, True),
        ([("promote", "0.2.0", "production", None)], "0.2.0", None, 0.0, False),
        ([("seen", "0.2.0", "production", None)], "0.2.0", None, 0.0, False),
        ([("promote", "0.3.0", "production", None)], "0.3.0", "0.2.0", 5.0, True),
        ([("rollback", "0.2.0", "left canary", None)], "0.1.0", None, 0.0, False),
        ([("archive", "0.2.0", "archived", None)], "0.1.0", None, 0.0, False),
        ([("seen", "0.2.0", "canary", 50.0)], "0.1.0", "0.2.0", 50.0, True),
        ([("seen", "0.3.0", "canary", 0.0)], "0.1.0", "0.3.0", 0.0, False),
        ([("seen", "0.3.0", "canary", 0.0), ("seen", "0.2.0", "canary", 5.0)], "0.1.0", "0.2.0", 5.0, False),
    ],
)
def test_the_journal_tells_the_canary_its_share_and_whether_it_passed_gates(moves, holder, canary, share, is_vetted):
    now = holders(journal(CHAMPION, CANARY, *moves))
    held = {"production": holder} | ({"canary": canary} if canary else {})
    assert (now.aliases, now.share, now.is_vetted) == (held, share, is_vetted)


def test_a_canary_keeps_the_stage_that_it_has():
    now = holders(journal(CHAMPION, ("promote", "0.2.0", "staging", None), CANARY))
    assert (now.stage("0.2.0"), now.stage("0.1.0")) == ("staging", "production")


def test_an_entry_says_the_share():
    entries = journal(CHAMPION, CANARY, ("promote", "0.2.0", "canary", 7.5), ("promote", "0.3.0", "canary", 1.0))
    said = [say(entry) for entry in entries[1:]]
    assert "promote: 0.2.0 → canary 5 %  by ann@car" in said[0]
    assert "promote: 0.2.0 → canary 7.5 %  by ann@car" in said[1]
    assert "promote: 0.3.0 → canary 1 % (was 0.2.0)  by ann@car" in said[2]


HELD = {"production": "0.1.0", "canary": "0.2.0"}
KNOWN = Holders(dict(HELD), frozenset(), {}, 5.0, True)


def version(semver: str, legacy_stage: str) -> PolicyVersion:
    return PolicyVersion("p", semver, semver, "", "", "candidate", (), "", 0.0, legacy_stage=legacy_stage)


VERSIONS = [version("0.1.0", "Production"), version("0.2.0", "None"), version("0.3.0", "None")]


@pytest.mark.parametrize(
    ("held", "share", "moves"),
    [
        (HELD, 5.0, []),
        (HELD, 50.0, [("0.2.0", "canary")]),
        (HELD, None, [("0.2.0", "canary")]),
        ({**HELD, "canary": "0.3.0"}, 5.0, [("0.3.0", "canary")]),
        ({"production": "0.1.0"}, 5.0, [("0.2.0", "left canary")]),
        ({**HELD, "production": "0.2.0"}, 5.0, [("0.2.0", "production")]),
    ],
)
def test_a_canary_or_a_share_that_differs_from_the_journal_was_moved_in_the_ui(held, share, moves):
    assert seen_moves(KNOWN, held, VERSIONS, share) == moves


def test_a_share_that_was_meant_for_the_canary_before_is_none():
    assert seen_share(KNOWN, "0.3.0", 5.0) == 0.0
    assert seen_share(KNOWN, "0.3.0", 20.0) == 20.0  # set in the UI, too
    assert seen_share(KNOWN, "0.2.0", 20.0) == 20.0
    assert seen_share(KNOWN, "0.2.0", None) == 0.0
