"""Stages of a version and the moves between them. Pure.

    candidate ──► staging ──► production
        ▲____________│____________│        a displaced version becomes candidate again
        └──► archived                      only by archiving; never comes back

`staging` and `production` are MLflow aliases, mirrored to MLflow's legacy stages while those exist; the tag
`stage` holds any of the four. The alias `canary` is no stage: a version that holds it stays what it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from carla_mlflow.errors import RefusedError

CANDIDATE, STAGING, PRODUCTION, ARCHIVED = "candidate", "staging", "production", "archived"
CANARY = "canary"
STAGED = (STAGING, PRODUCTION)
"""The aliases that are stages."""
ALIASED = (*STAGED, CANARY)
LEFT = "left "
"""Prefix of an alias in a move: the version lost this one, and keeps others or is a candidate still."""
LEGACY = {CANDIDATE: "None", STAGING: "Staging", PRODUCTION: "Production", ARCHIVED: "Archived"}


def stage_of(aliases: Collection[str], tag: str | None) -> str:
    """A version's stage: its highest alias; without one, archived when the tag says so, else candidate."""
    if PRODUCTION in aliases:
        return PRODUCTION
    if STAGING in aliases:
        return STAGING
    return ARCHIVED if tag == ARCHIVED else CANDIDATE


def aliases_given_up(to: str) -> tuple[str, ...]:
    """The aliases that a version loses, where it holds them, by a move."""
    if to in {ARCHIVED, CANDIDATE}:
        return ALIASED
    if to == PRODUCTION:
        return (CANARY,)
    return (to.removeprefix(LEFT),) if to.startswith(LEFT) else ()


def check_promotion(version: str, stage: str, to: str) -> None:
    """Raises RefusedError unless a version at `stage` may be promoted to `to`."""
    if to not in ALIASED:
        raise RefusedError(f"can't promote to {to!r}; expected {', '.join(ALIASED[:-1])} or {ALIASED[-1]}")
    if stage == ARCHIVED:
        raise RefusedError(f"{version} is archived and does not come back; register it again under a new version")


def check_expected(expected: str | None, holder: str | None, to: str) -> None:
    """Raises RefusedError when `to` is not held by the expected version (`none`: by no version)."""
    if expected is not None and expected != (holder or "none"):
        raise RefusedError(f"{to} is held by {holder or 'none'}, not by {expected}")


def check_archive(version: str, stage: str, force: bool) -> None:
    """Raises RefusedError unless a version at `stage` may be archived; one in production only by force."""
    if stage == ARCHIVED:
        raise RefusedError(f"{version} is archived already")
    if stage == PRODUCTION and not force:
        raise RefusedError(f'{version} is in production: promote another first, or archive with --force --reason "…"')


PROTECTED = "protected."
"""Prefix of a registered model's tag that lists who may move an alias: `protected.production` = `ann, ben`."""


def check_protected(tags: Mapping[str, str], alias: str, who: str) -> None:
    """Raises RefusedError when the policy's tags do not let `who` move this alias.

    It binds carla-registry's commands only; MLflow decides who may write to the registry at all.
    """
    listed = tags.get(PROTECTED + alias)
    users = [user.strip() for user in (listed or "").split(",") if user.strip()]
    if listed is not None and who not in users:
        raise RefusedError(f"{alias} is protected: only {listed or 'nobody'} may move it, and you are {who}")
