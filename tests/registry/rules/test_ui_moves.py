"""What people moved in MLflow's UI is told from aliases and legacy stages."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from registry.rules.lifecycle import LEGACY, stage_of
from registry.rules.policy_version import PolicyVersion
from registry.rules.replay import Holders
from registry.rules.ui_moves import seen_moves

HELD = {"production": "1.0.0", "staging": "1.1.0"}
JOURNAL = Holders(dict(HELD), frozenset({"0.9.0"}), {})


def versions(**legacy: str) -> list[PolicyVersion]:
    """Four versions as the mirror leaves them, but for legacy stages changed by hand: v1_1_0="Production"."""
    found = []
    for number, semver in enumerate(("0.9.0", "1.0.0", "1.1.0", "1.2.0"), 1):
        aliases = tuple(alias for alias, holder in HELD.items() if holder == semver)
        stage = stage_of(aliases, "archived" if semver == "0.9.0" else None)
        shown = legacy.get("v" + semver.replace(".", "_"), LEGACY[stage])
        found.append(PolicyVersion("p", str(number), semver, "", "", stage, aliases, "", 0.0, legacy_stage=shown))
    return found


def test_where_journal_and_mlflow_agree_nothing_was_moved():
    assert seen_moves(JOURNAL, HELD, versions()) == []


@pytest.mark.parametrize(
    ("held", "moves"),
    [
        ({**HELD, "production": "1.2.0"}, [("1.2.0", "production")]),
        ({"staging": "1.1.0"}, [("1.0.0", "candidate")]),
        ({"production": "1.0.0"}, [("1.1.0", "candidate")]),
        ({"production": "1.1.0", "staging": "1.2.0"}, [("1.2.0", "staging"), ("1.1.0", "production")]),
        ({**HELD, "production": "MLflow version 9"}, [("MLflow version 9", "production")]),
        ({**HELD, "production": "0.9.0"}, [("0.9.0", "production")]),
    ],
)
def test_an_alias_that_differs_from_the_journal_was_moved(held: Mapping[str, str], moves: list[tuple[str, str]]):
    assert seen_moves(JOURNAL, held, versions()) == moves


@pytest.mark.parametrize(
    ("legacy", "moves"),
    [
        ({"v1_2_0": "Production"}, [("1.2.0", "production")]),
        ({"v1_2_0": "Staging"}, [("1.2.0", "staging")]),
        ({"v1_0_0": "None"}, [("1.0.0", "candidate")]),
        ({"v1_2_0": "Archived"}, [("1.2.0", "archived")]),
        ({"v0_9_0": "None"}, [("0.9.0", "candidate")]),
    ],
)
def test_a_legacy_stage_that_differs_from_the_mirror_was_changed(legacy: dict[str, str], moves: list[tuple[str, str]]):
    assert seen_moves(JOURNAL, HELD, versions(**legacy)) == moves


def test_when_both_were_moved_the_alias_wins():
    held = {**HELD, "production": "1.2.0"}
    assert seen_moves(JOURNAL, held, versions(v1_1_0="Production")) == [("1.2.0", "production")]
