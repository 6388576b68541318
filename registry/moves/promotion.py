"""Moves of a registered version: promote, roll back, archive. Each is checked, journalled, then carried out."""

from __future__ import annotations

from pathlib import Path

from carla_mlflow.errors import RefusedError
from registry.moves.pending_move import PendingMove
from registry.moves.state import RegistryState, read_state
from registry.moves.sync import sync
from registry.moves.terms import EvaluateGates, GateResult, MoveOptions, MoveResult
from registry.rules.going_back import rolled_back
from registry.rules.lifecycle import ARCHIVED, CANARY, LEFT, check_expected
from registry.rules.listing import UNKNOWN
from registry.rules.reference import Reference
from registry.store.store import Store


def promote(
    store: Store, reference: Reference, to: str, cache: Path, options: MoveOptions, evaluate: EvaluateGates
) -> MoveResult:
    """Gives `staging`, `production` or `canary` to a version; `canary` again changes its share.

    Raises:
        RefusedError: the move is not allowed, `expect` does not hold, or a gate failed; lists every shortfall.
    """
    if to != CANARY and options.share is not None:
        raise RefusedError("--share is for --to canary: a stage has all episodes or none")
    state = _state(store, reference.name, options)
    return PendingMove(store, store.resolve(reference), "promote", to, options).make(state, cache, evaluate)


def rollback(
    store: Store,
    name: str,
    stage: str,
    cache: Path,
    options: MoveOptions,
    evaluate: EvaluateGates,
    *,
    to_rolled_back: bool = True,
) -> MoveResult:
    """Gives a stage back to the version that held it before; repeated, to the one before that. Ends a canary.

    Args:
        store: of the registry.
        name: the policy's.
        stage: staging, production or canary.
        cache: the folder for fetched artifacts.
        options: of the move.
        evaluate: the gates.
        to_rolled_back: whether a version that was itself rolled back, and promoted again, may take the stage.

    Raises:
        RefusedError: no version can take it back, `expect` does not hold, or a gate failed; lists every shortfall.
    """
    state = _state(store, name, options)
    if stage == CANARY:
        return _end_canary(store, state, options)
    check_expected(options.expect, state.holder(stage), stage)
    eligible = {version.semver for version in state.versions} - state.holders.archived - {state.holder(stage)}
    if not to_rolled_back:
        eligible -= rolled_back(state.entries, stage)
    earlier = [version for version in state.holders.before.get(stage, ()) if version in eligible]
    if not earlier:
        raise RefusedError(f"{name}: no earlier version can take {stage} again")
    pending = PendingMove(store, state.version(earlier[-1]), "rollback", stage, options)
    return pending.make(state, cache, evaluate)


def _end_canary(store: Store, state: RegistryState, options: MoveOptions) -> MoveResult:
    """Takes the alias away: no gates, as the version in production gets all episodes again."""
    holder = state.holder(CANARY)
    check_expected(options.expect, holder, CANARY)
    if holder is None:
        raise RefusedError(f"{state.name}: there is no canary")
    if holder.startswith(UNKNOWN):
        raise RefusedError(f"canary is held by {holder}, which is no version of ours: take the alias away in MLflow")
    pending = PendingMove(store, state.version(holder), "rollback", f"{LEFT}{CANARY}", options)
    pending.check(state)
    return pending.write(state, GateResult())


def archive(store: Store, reference: Reference, options: MoveOptions) -> MoveResult:
    """Takes a version out of use: no range matches it any more.

    Raises:
        RefusedError: it is archived already, or in production without `force`.
    """
    state = _state(store, reference.name, options)
    pending = PendingMove(store, store.resolve(reference), "archive", ARCHIVED, options)
    pending.check(state)
    return pending.write(state, GateResult())


def _state(store: Store, name: str, options: MoveOptions) -> RegistryState:
    return read_state(store, name) if options.dry_run else sync(store, name, describes=False)
