"""What the gates know of the candidate and of the champion, and what each of them finds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from carla_mlflow.contract.card import Card
from registry.gates.episodes import Evidence
from registry.gates.margins import DEFAULT, Margins
from registry.gates.shadow import ShadowBar, ShadowEvidence

Gate = Literal["integrity", "contract", "latency", "evidence", "driving", "shadow"]


@dataclass(frozen=True)
class Candidate:
    """What is known of the version that is to be promoted.

    Attributes:
        reference: name@version, as a person types it.
        problem: why it can't be loaded or verified, or is not in parity, on this machine; None when all of it holds.
        card: None when there is a problem.
        decision_ms: p99 of a decision on this machine; None when there is a problem, or it was not measured.
        evidence: the newest; None when there is none.
        margins: the policy's margins.
        shadow_bar: what the policy asks of a shadow; None where it asks for none.
        shadow: what it did as a shadow of the champion; None when it was none.
    """

    reference: str
    problem: str | None
    card: Card | None
    decision_ms: float | None
    evidence: Evidence | None
    margins: Margins = DEFAULT
    shadow_bar: ShadowBar | None = None
    shadow: ShadowEvidence | None = None


@dataclass(frozen=True)
class Champion:
    """What is known of the version in production.

    Attributes:
        reference: name@version.
        contract_changes: from its contract to the candidate's, in words; None when either can't be read.
        evidence: the newest under the candidate's conditions, else the newest; None when there is none.
        digest: of its artifact.
    """

    reference: str
    contract_changes: Sequence[str] | None
    evidence: Evidence | None
    digest: str = ""


@dataclass(frozen=True)
class Finding:
    """What a gate found: whether its bar is passed, and why, in words."""

    gate: Gate
    passed: bool
    text: str

    def __str__(self) -> str:
        return f"{self.gate}: {self.text}"


def shortfalls(findings: Sequence[Finding]) -> tuple[str, ...]:
    """The findings that did not pass, in words, as `RefusedError` takes them; empty when all passed."""
    return tuple(str(finding) for finding in findings if not finding.passed)
