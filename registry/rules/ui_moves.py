"""What people moved in MLflow's own UI since the journal's last entry. Pure.

An alias that differs from the journal was moved there, and so was a legacy stage. When both differ, the alias wins,
as servers follow the alias. The canary's share is a tag of the registered model, which people can edit, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from registry.rules.lifecycle import ALIASED, CANARY, CANDIDATE, LEFT, LEGACY, PRODUCTION, STAGING
from registry.rules.policy_version import PolicyVersion
from registry.rules.replay import Holders

STAGES = {legacy: stage for stage, legacy in LEGACY.items()}

SeenMove = tuple[str, str]
"""Semantic version, and the stage that it was moved to; or LEFT and the alias that it lost while it keeps the other."""


def seen_moves(
    journal: Holders, held: Mapping[str, str], versions: Sequence[PolicyVersion], share: float | None = None
) -> list[SeenMove]:
    """The moves that lead from what the journal says to what MLflow says.

    Args:
        journal: the journal, replayed.
        held: alias → the version that holds it in MLflow now.
        versions: every version, with its legacy stage.
        share: the canary's in MLflow now, in percent.
    """
    moves: list[SeenMove] = []
    for alias in ALIASED:
        before, now = journal.aliases.get(alias), held.get(alias)
        is_shared_anew = alias == CANARY and (share or 0.0) != journal.share
        if now is not None and (now != before or is_shared_anew):
            moves.append((now, alias))
        elif now is None and before is not None:
            keeps = alias == CANARY or before in held.values()
            moves.append((before, LEFT + alias if keeps else CANDIDATE))
    return moves or [move for version in versions for move in _legacy_move(journal, version)]


def seen_share(journal: Holders, holder: str, share: float | None) -> float:
    """The share of a canary that somebody set in MLflow's UI: 0 where what is there was meant for the canary before.

    Args:
        journal: the journal, replayed.
        holder: the version that holds the alias in MLflow now.
        share: what the tag says.
    """
    is_left_over = holder != journal.aliases.get(CANARY) and share == journal.share
    return 0.0 if share is None or is_left_over else share


def _legacy_move(journal: Holders, version: PolicyVersion) -> list[SeenMove]:
    before, now = journal.stage(version.semver), STAGES[version.legacy_stage]
    if now == before:
        return []
    left = [(version.semver, LEFT + PRODUCTION)] if (before, now) == (PRODUCTION, STAGING) else []
    return [(version.semver, now), *left]
