"""Stages of a version and the moves between them. Pure.

    candidate ──► staging ──► production
        ▲____________│____________│        the displaced one becomes candidate again
        └──► archived                      only by archiving; never comes back

`staging` and `production` are MLflow aliases, mirrored to MLflow's legacy stages while those exist; a tag
`stage` holds all four.
"""

from __future__ import annotations

from collections.abc import Collection

from carla_mlflow.errors import RefusedError

CANDIDATE, STAGING, PRODUCTION, ARCHIVED = "candidate", "staging", "production", "archived"
ALIASED = (STAGING, PRODUCTION)
LEGACY = {CANDIDATE: "None", STAGING: "Staging", PRODUCTION: "Production", ARCHIVED: "Archived"}


def stage_of(aliases: Collection[str], tag: str | None) -> str:
    """A version's stage: the highest alias that it holds; without one, archived when the tag says so."""
    if PRODUCTION in aliases:
        return PRODUCTION
    if STAGING in aliases:
        return STAGING
    return ARCHIVED if tag == ARCHIVED else CANDIDATE


def check_promotion(stage: str, to: str) -> None:
    """Raises RefusedError unless a version at `stage` may be promoted to `to`."""
    if to not in ALIASED:
        raise RefusedError(f"can't promote to {to!r}; expected {' or '.join(ALIASED)}")
    if stage == ARCHIVED:
        raise RefusedError("an archived version does not come back; register it again under a new version")


def check_expected(expected: str | None, holder: str | None, to: str) -> None:
    """Raises RefusedError when `to` is not held by the expected version (`none`: by nobody)."""
    if expected is not None and expected != (holder or "none"):
        raise RefusedError(f"{to} is held by {holder or 'none'}, not by {expected}: someone has moved it meanwhile")
