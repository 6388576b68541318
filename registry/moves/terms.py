"""What a move is asked for with, what its gates found, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from carla_mlflow.errors import RefusedError
from registry.gates.candidate import Finding, shortfalls
from registry.moves.state import RegistryState
from registry.rules.journal import MAX_TEXT, Bake
from registry.rules.policy_version import PolicyVersion
from registry.store.store import Store


@dataclass(frozen=True)
class GateResult:
    """What the gates found.

    Attributes:
        findings: those of every gate that was evaluated.
        evidence: what they rest on: MLflow runs, the margins, and contract changes that were allowed.
    """

    findings: Sequence[Finding] = ()
    evidence: tuple[str, ...] = ()

    @property
    def shortfalls(self) -> list[str]:
        """The findings that did not pass, in words; empty when all passed."""
        return list(shortfalls(self.findings))


EvaluateGates = Callable[[Store, RegistryState, PolicyVersion, Path], GateResult]
"""Store, registry state, candidate, cache folder → what the gates found."""


@dataclass(frozen=True)
class MoveOptions:
    """The options of a move.

    Attributes:
        expect: the semantic version that must hold the stage now, `none` for no version; None skips the check.
        reason: why, in words, for the journal.
        force: moves in spite of shortfalls; needs a reason.
        dry_run: evaluates the gates, and writes nothing.
        share: of the episodes, in percent; for canary alone.
        bake: the bake that begins with a promotion; None for none.
        evidence: what the move rests on beside the gates, for the journal.
    """

    expect: str | None = None
    reason: str = ""
    force: bool = False
    dry_run: bool = False
    share: float | None = None
    bake: Bake | None = None
    evidence: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.force and not self.reason:
            raise RefusedError('--force needs --reason "…": the journal keeps it')
        if len(self.reason) > MAX_TEXT:
            raise RefusedError(f"--reason: {len(self.reason):,} characters; at most {MAX_TEXT:,}")


@dataclass(frozen=True)
class MoveResult:
    """A move that was made, or would be.

    Attributes:
        version: the version after the move.
        to: the stage.
        displaced: the semantic version that held the stage before; None when there was none.
        shortfalls: the findings that were overruled, or, in a dry run, that would refuse the move.
        findings: what each gate found, in words.
        entry: the number of the journal's entry; None when nothing was written.
        share: of the episodes, in percent; None except for canary.
        cut_short: which bake it ends before its time, in words; None for none.
    """

    version: PolicyVersion
    to: str
    displaced: str | None
    shortfalls: list[str]
    findings: list[str]
    entry: int | None
    share: float | None = None
    cut_short: str | None = None
