"""A move on its way: checked against the registry's state and its gates, journalled, then carried out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from carla_mlflow.cli import progress
from carla_mlflow.errors import RefusedError
from registry.moves.append import whoami
from registry.moves.compare_runs import show_comparison
from registry.moves.describe import describe
from registry.moves.state import RegistryState
from registry.moves.sync import commit
from registry.moves.terms import EvaluateGates, GateResult, MoveOptions, MoveResult
from registry.rules.baking import cut_short
from registry.rules.canary import check_canary
from registry.rules.journal import ALLOWED, MAX_TEXT, OVERRULED, Kind, Move
from registry.rules.judged import judged
from registry.rules.lifecycle import (
    ARCHIVED,
    CANARY,
    LEFT,
    PRODUCTION,
    STAGING,
    check_archive,
    check_expected,
    check_promotion,
    check_protected,
)
from registry.rules.policy_version import PolicyVersion
from registry.rules.reference import Reference
from registry.store.store import Store


@dataclass(frozen=True)
class PendingMove:
    """A move before its entry is in the journal."""

    store: Store
    version: PolicyVersion
    kind: Kind
    to: str
    options: MoveOptions

    def check(self, state: RegistryState) -> None:
        """Raises RefusedError unless the registry's state allows the move; checked again just before the entry."""
        semver, stage = self.version.semver, state.stage(self.version.semver)
        if self.to == ARCHIVED:
            check_archive(semver, stage, self.options.force)
            moved = [alias for alias, holder in state.holders.aliases.items() if holder == semver]
        elif self.to.startswith(LEFT):
            if state.holder(CANARY) != semver:
                raise RefusedError(f"canary is held by {state.holder(CANARY) or 'none'}, not by {semver}")
            moved = [CANARY]
        else:
            state.version(semver)
            check_promotion(semver, stage, self.to)
            if self.to == CANARY:
                check_canary(semver, state.holder(PRODUCTION), self.options.share)
            moved = [self.to]
        tags = self.store.model_tags(self.version.name) if moved else {}
        for alias in moved:
            check_protected(tags, alias, whoami())

    def make(self, state: RegistryState, cache: Path, evaluate: EvaluateGates) -> MoveResult:
        """Evaluates the gates, then makes the move."""
        check_expected(self.options.expect, state.holder(self.to), self.to)
        self.check(state)
        self._check_bake(state)
        if state.holder(self.to) == self.version.semver:
            share = self.options.share
            is_vetted_canary = self.to == CANARY and state.holders.is_vetted  # if not, its gates are still to come
            if self.to != CANARY or (is_vetted_canary and share == state.holders.share):
                return MoveResult(self.version, self.to, self.version.semver, [], [], None, share)
            if is_vetted_canary and share is not None and share < state.holders.share:
                return self.write(state, GateResult())  # as a roll-back, it must not wait for gates
        result = evaluate(self.store, state, self.version, cache)
        loads_here = all(found.passed for found in result.findings if found.gate == "integrity")  # else it may crash
        if loads_here and self.kind == "promote" and self.to != STAGING and not self.options.dry_run:
            show_comparison(self.store, state, self.version, cache, findings=result.findings)
        if result.shortfalls and not (self.options.force or self.options.dry_run):
            self._describe(state, [self.version.semver], cache, (self.to, result))
            self._describe(state, [each for each in state.undescribed if each != self.version.semver], cache)
            what = f"{self.version.name} {self.version.semver} does not go to {self.to}"
            raise RefusedError(what, tuple(result.shortfalls))
        is_allowed = any(text.startswith(ALLOWED) for text in result.evidence)
        is_overruled = self.options.force and any(f.gate == "contract" and not f.passed for f in result.findings)
        if self.options.bake and (is_allowed or is_overruled):
            raise RefusedError(
                f"{self.version.semver} can't bake: its contract is another one, or can't be compared, and a roll-back "
                "would not fit the cars' code; promote it without --bake"
            )
        return self.write(state, result)

    def _check_bake(self, state: RegistryState) -> None:
        """Raises RefusedError when a bake is asked for that could not end by a roll-back."""
        held, semver = state.holder(self.to), self.version.semver
        if self.options.bake and held == semver:
            raise RefusedError(f"{semver} holds {self.to} already: a bake begins with the move to it")
        if self.options.bake and held is None and self.to != CANARY:  # a canary's episodes go back to production
            raise RefusedError(f"nothing holds {self.to}: {semver} can't bake without a version to roll back to")

    def write(self, state: RegistryState, result: GateResult) -> MoveResult:
        """Journals the move and carries it out; in a dry run, only says what it would be."""
        displaced = state.holder(self.to)
        findings, share, now = [str(finding) for finding in result.findings], self.options.share, time.time()
        ended = cut_short(state.entries, self.version.semver, self.to, now) if self.kind == "promote" else None
        if self.options.dry_run:
            return MoveResult(self.version, self.to, displaced, result.shortfalls, findings, None, share, ended)
        overruled = tuple(f"{OVERRULED}{shortfall}"[:MAX_TEXT] for shortfall in result.shortfalls)
        evidence = result.evidence + overruled + self.options.evidence + ((ended,) if ended else ())
        move = Move(self.kind, self.version.semver, self.to, displaced, whoami(), now, self.options.reason, evidence)
        bake, unset = self.options.bake or msgspec.UNSET, msgspec.UNSET
        move = msgspec.structs.replace(move, bake=bake, share=unset if share is None else share)
        if result.findings:
            move = msgspec.structs.replace(move, findings=judged(result.findings))
        progress(f"moving {self.to}")
        entry = commit(self.store, state, move, self.check, self.options.expect)
        self._describe(state, [self.version.semver, displaced, *state.undescribed])
        after = self.store.resolve(Reference(self.version.name, "number", self.version.number))
        return MoveResult(after, self.to, displaced, result.shortfalls, findings, entry.number, share, ended)

    def _describe(
        self,
        state: RegistryState,
        versions: Sequence[str | None],
        cache: Path | None = None,
        refused: tuple[str, GateResult] | None = None,
    ) -> None:
        describe(self.store, self.version.name, versions, state.entries, cache, refused=refused)
