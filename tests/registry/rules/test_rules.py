"""The pure rules: versions, references, stages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carla_mlflow.errors import RefusedError
from registry.rules.lifecycle import check_archive, check_expected, check_promotion, check_protected
from registry.rules.reference import Reference, check_name, parse_reference
from registry.rules.versions import Step, highest_matching, is_step_enough, next_version, ordered, steps_of

VERSIONS = ["0.9.0", "1.0.0", "1.4.1", "1.4.9", "1.10.0", "2.0.0-rc.1", "2.0.0"]


@pytest.mark.parametrize(
    ("wanted", "highest"),
    [
        ("^1.4", "1.10.0"),
        ("~1.4.1", "1.4.9"),
        ("1.x", "1.10.0"),
        ("1", "1.10.0"),
        (">=1.2,<2", "1.10.0"),
        (">=1.2 <1.10.0", "1.4.9"),
        ("^2.0.0-rc.1", "2.0.0"),
        ("<1", "0.9.0"),
    ],
)
def test_a_range_means_its_highest_version(wanted: str, highest: str):
    assert highest_matching(wanted, VERSIONS) == highest


def test_a_range_leaves_pre_releases_out():
    assert highest_matching("^2", ["2.0.0-rc.1"]) is None


def test_a_range_that_is_none_is_refused():
    with pytest.raises(RefusedError, match="neither a version nor a range"):
        highest_matching("1.y", VERSIONS)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("a-policy@production", "alias", "production"),
        ("models:/a-policy@production", "alias", "production"),
        ("a-policy@1.4.2", "version", "1.4.2"),
        ("a-policy@1.4.2-rc.1", "version", "1.4.2-rc.1"),
        ("a-policy@^1.4", "range", "^1.4"),
        ("a-policy@1.x", "range", "1.x"),
        ("a-policy@>=1.2,<2", "range", ">=1.2,<2"),
        ("a-policy/Production", "stage", "Production"),
        ("models:/a-policy/staging", "stage", "Staging"),
        ("a-policy/7", "number", "7"),
    ],
)
def test_a_reference_is_read_as_people_write_it(text: str, kind: str, value: str):
    assert parse_reference(text) == Reference("a-policy", kind, value)


@pytest.mark.parametrize(
    "text", ["", "a", "a@", "@production", "a b@production", "a@b c", "../a@1.0.0", "a/b/7", "a/x"]
)
def test_what_is_no_reference_is_refused(text: str):
    with pytest.raises(RefusedError):
        parse_reference(text)


@pytest.mark.parametrize("name", ["", "../up", "a/b", "a b", "ä", "x" * 129, "-a"])
def test_what_is_no_name_is_refused(name: str):
    with pytest.raises(RefusedError, match="is not a policy's name"):
        check_name(name)


def test_only_a_live_version_is_promoted_and_only_to_an_alias():
    for stage in ("candidate", "staging", "production"):
        check_promotion("1.0.0", stage, "production")
        check_promotion("1.0.0", stage, "staging")
    with pytest.raises(RefusedError, match="archived"):
        check_promotion("1.0.0", "archived", "production")
    with pytest.raises(RefusedError, match="expected staging, production or canary"):
        check_promotion("1.0.0", "candidate", "archived")


def test_a_move_is_refused_when_the_alias_is_held_by_another_than_expected():
    check_expected(None, "1.0.0", "production")
    check_expected("1.0.0", "1.0.0", "production")
    check_expected("none", None, "production")
    for expected, holder in (("1.0.0", "1.1.0"), ("1.0.0", None), ("none", "1.0.0")):
        with pytest.raises(RefusedError, match="is held by"):
            check_expected(expected, holder, "production")


@pytest.mark.parametrize(
    ("version", "major", "minor", "patch"),
    [
        ("1.4.2", "2.0.0", "1.5.0", "1.4.3"),
        ("0.1.0", "1.0.0", "0.2.0", "0.1.1"),
        ("2.0.0-rc.1", "2.0.0", "2.0.0", "2.0.0"),
        ("1.9.9", "2.0.0", "1.10.0", "1.9.10"),
    ],
)
def test_the_next_version_is_one_step_further(version: str, major: str, minor: str, patch: str):
    assert [next_version(version, step) for step in ("major", "minor", "patch")] == [major, minor, patch]


@pytest.mark.parametrize(
    ("old", "new", "enough"),
    [
        ("1.4.2", "1.4.3", "patch"),
        ("1.4.2", "1.9.0", "patch minor"),
        ("1.4.2", "2.0.0", "patch minor major"),
        ("1.4.2", "3.0.0-rc.1", "patch minor major"),
        ("2.0.0-rc.1", "2.0.1", "patch"),
    ],
)
def test_a_step_is_enough_for_itself_and_every_smaller_one(old: str, new: str, enough: str):
    steps = ("patch", "minor", "major")
    assert [step for step in steps if is_step_enough(old, new, step)] == enough.split()


def test_versions_are_ordered_as_versions_and_not_as_text():
    assert ordered(["1.10.0", "1.9.0", "1.10.0-rc.1"]) == ["1.9.0", "1.10.0-rc.1", "1.10.0"]


@pytest.mark.parametrize(
    ("version", "steps"),
    [
        ("1.10.1", [("1.10.0", "1.10.1"), ("1.10.1", "2.0.0")]),
        ("2.0.0", [("1.10.0", "2.0.0")]),
        ("2.0.0-rc.2", [("1.10.0", "2.0.0-rc.2")]),
        ("2.0.1", [("2.0.0", "2.0.1")]),
        ("0.1.0", [("0.1.0", "0.9.0")]),
    ],
)
def test_a_version_is_held_against_the_last_of_the_numbers_before_and_after_it(
    version: str, steps: list[tuple[str, str]]
):
    assert steps_of(version, VERSIONS) == steps


WORDS = st.sampled_from(["", "-rc.1", "-rc.2"])
NUMBERS = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))
HISTORY = st.lists(st.tuples(NUMBERS, WORDS, st.integers(0, 2), st.integers(0, 2)), max_size=12)


def demanded(one: tuple[int, int], two: tuple[int, int]) -> Step:
    """By (contract, weights)."""
    if one[0] != two[0]:
        return "major"
    return "minor" if one[1] != two[1] else "patch"


@settings(deadline=None)
@given(HISTORY)
def test_in_whatever_order_versions_come_their_numbers_tell_the_truth(history):
    """Between any two releases the step is at least what changed; of what is not released, the last announcement."""
    known: dict[str, tuple[int, int]] = {}
    for numbers, words, *policy in history:
        version = ".".join(map(str, numbers)) + words
        changes = {version: tuple(policy)} | known
        steps = steps_of(version, known)
        if all(is_step_enough(old, new, demanded(changes[old], changes[new])) for old, new in steps):
            known.setdefault(version, tuple(policy))
    last = {version.partition("-")[0]: version for version in ordered(known)}
    releases = ordered(last.values())
    for place, old in enumerate(releases):
        for new in releases[place + 1 :]:
            assert is_step_enough(old, new, demanded(known[old], known[new])), (old, new)


def test_what_drives_is_archived_by_force_only():
    check_archive("1.0.0", "candidate", False)
    check_archive("1.0.0", "production", True)
    with pytest.raises(RefusedError, match="in production: promote another first"):
        check_archive("1.0.0", "production", False)
    with pytest.raises(RefusedError, match="archived already"):
        check_archive("1.0.0", "archived", True)


def test_a_protected_alias_is_moved_by_those_it_names():
    tags = {"protected.production": "ann, ben@car", "owner": "x"}
    check_protected(tags, "production", "ann")
    check_protected(tags, "production", "ben@car")
    check_protected(tags, "staging", "eve")
    with pytest.raises(RefusedError, match="only ann, ben@car may move it, and you are eve"):
        check_protected(tags, "production", "eve")
    with pytest.raises(RefusedError, match="protected"):
        check_protected({"protected.production": ""}, "production", "")
