"""The gates that a version has to pass before it drives. Pure: what is known comes in, findings in words go out.

    integrity   the artifact is what was registered, and acts on this machine as the trained policy did
    contract    observations and actions are the champion's, so that no car's code has to change
    latency     a decision takes at most a quarter of the control period: in the card, and as measured here
    evidence    a finished evaluation of exactly this artifact, of enough episodes, under the champion's conditions
    driving     no worse than the champion on the same seeds; without a champion, better than a baseline driver

Every gate is evaluated even when another has failed, so that a refusal lists every shortfall; only driving needs
evidence that passed. docs/adr/0009 gives the reasons.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from carla_mlflow.contract.card import Card
from registry.gates.driving import evaluate_driving
from registry.gates.episodes import BASELINES, POLICY, Evidence, differing
from registry.gates.evaluate_command import evaluate_command
from registry.gates.margins import DEFAULT, Margins

Gate = Literal["integrity", "contract", "latency", "evidence", "driving"]

LATENCY_SHARE = 0.25
"""The share of the control period 1/rate_hz that p99 of a decision may take. The rest is for sensors, network, queue
and actuators, and a decision that takes twice as long still comes within half of the period."""


@dataclass(frozen=True)
class Candidate:
    """What is known of the version that wants to drive.

    Attributes:
        reference: name@version, as a person types it.
        problem: why it can't be loaded or verified, or is not in parity, on this machine; None when all of it holds.
        card: None when there is a problem.
        decision_ms: p99 of a decision on this machine; None when there is a problem, or it was not measured.
        evidence: the newest; None when there is none.
        margins: the policy's margins.
    """

    reference: str
    problem: str | None
    card: Card | None
    decision_ms: float | None
    evidence: Evidence | None
    margins: Margins = DEFAULT


@dataclass(frozen=True)
class Champion:
    """What is known of the version that drives now.

    Attributes:
        reference: name@version.
        contract_changes: from its contract to the candidate's, in words; None when either can't be read.
        evidence: the newest under the candidate's conditions, else the newest; None when there is none.
    """

    reference: str
    contract_changes: Sequence[str] | None
    evidence: Evidence | None


@dataclass(frozen=True)
class Finding:
    """What a gate found: whether its bar is passed, and why, in words."""

    gate: Gate
    passed: bool
    text: str

    def __str__(self) -> str:
        return f"{self.gate}: {self.text}"


def evaluate_gates(candidate: Candidate, champion: Champion | None, allow_breaking: bool = False) -> list[Finding]:
    """The findings of every gate, including those that passed.

    Args:
        candidate: the version that wants to drive.
        champion: the version that drives now; None when there is none.
        allow_breaking: whether a different contract passes, because the cars' code is ready for it.
    """
    found = [_integrity(candidate)]
    if champion is not None:
        found += _contract(candidate, champion, allow_breaking)
    found += _latency(candidate)
    evidence = [*_evidence(candidate, champion)]
    if all(finding.passed for finding in evidence):
        evidence += _driving(candidate, champion)
    return found + evidence


def shortfalls(findings: Sequence[Finding]) -> tuple[str, ...]:
    """The findings that did not pass, in words, as `RefusedError` takes them; empty when all passed."""
    return tuple(str(finding) for finding in findings if not finding.passed)


def _integrity(candidate: Candidate) -> Finding:
    text = candidate.problem or "whole, and acts here as the trained policy did"
    return Finding("integrity", candidate.problem is None, text)


def _contract(candidate: Candidate, champion: Champion, allow_breaking: bool) -> Iterator[Finding]:
    if champion.contract_changes is None:
        if candidate.card is not None:  # otherwise the integrity gate says why
            text = f"can't be compared: the artifact of {champion.reference} can't be read"
            yield Finding("contract", False, text)
        return
    if not champion.contract_changes:
        yield Finding("contract", True, f"as of {champion.reference}")
    for change in champion.contract_changes:
        note = (
            "allowed" if allow_breaking else f"differs from {champion.reference}; --allow-breaking when cars are ready"
        )
        yield Finding("contract", allow_breaking, f"{change} ({note})")


def _latency(candidate: Candidate) -> Iterator[Finding]:
    if candidate.card is None:
        return  # the integrity gate says why
    budget = LATENCY_SHARE * 1e3 / candidate.card.action.rate_hz
    allowed = f"{budget:.4g} ms allowed ({LATENCY_SHARE:.0%} of the period at {candidate.card.action.rate_hz:g} Hz)"
    stated = card_decision_ms(candidate.card)
    if stated is None:
        yield Finding("latency", False, "the card has no metrics.latency_ms.cpu.p99; export the policy again")
    else:
        yield Finding("latency", stated <= budget, f"p99 {stated:.4g} ms as the card says, {allowed}")
    if candidate.decision_ms is not None:
        here = candidate.decision_ms
        yield Finding("latency", here <= budget, f"p99 {here:.4g} ms on this machine, {allowed}")


def card_decision_ms(card: Card) -> float | None:
    """metrics.latency_ms.cpu.p99 of the card; None when it is missing or no finite number above 0."""
    value: object = card.metrics
    for key in ("latency_ms", "cpu", "p99"):
        value = value.get(key) if isinstance(value, dict) else None
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    return float(value) if usable else None  # type: ignore[arg-type]  # a number when usable


def _evidence(candidate: Candidate, champion: Champion | None) -> Iterator[Finding]:
    mine, theirs = candidate.evidence, champion.evidence if champion else None
    yield _enough_episodes(candidate, candidate.reference, mine, theirs, needs_baseline=champion is None)
    if champion is not None:
        yield _enough_episodes(candidate, champion.reference, theirs, mine)
    if champion is not None and mine and theirs and not mine.problem and not theirs.problem:
        yield from _same_conditions(candidate, mine, champion, theirs)


def _enough_episodes(
    candidate: Candidate,
    reference: str,
    evidence: Evidence | None,
    like: Evidence | None,
    needs_baseline: bool = False,
) -> Finding:
    """Whether there is readable evidence of enough episodes, and of a baseline when one is needed."""
    least = candidate.margins.episodes
    if evidence is None:
        text = f"{reference} was not evaluated: {evaluate_command(reference, candidate.card, like, least)}"
        return Finding("evidence", False, text)
    where = f"run {evidence.run_id}"
    if evidence.problem:
        return Finding("evidence", False, f"{where} of {reference}: {evidence.problem}")
    seeds = [row.seed for row in evidence.drives.get(POLICY, ())]
    if len(seeds) < least:
        again = evaluate_command(reference, candidate.card, like or evidence, least)
        text = f"{where} of {reference} has {len(seeds)} episodes; at least {least} are needed: {again}"
        return Finding("evidence", False, text)
    baseline = evidence.baseline
    if needs_baseline and baseline is None:
        text = f"no driver beside the policy, which the first champion has to be better than: {', '.join(BASELINES)}"
        return Finding("evidence", False, f"{where} of {reference}: {text}")
    if needs_baseline and baseline and [row.seed for row in evidence.drives[baseline]] != seeds:
        return Finding("evidence", False, f"{where} of {reference}: {baseline} drove other seeds than the policy")
    newest = "" if evidence.evaluations == 1 else f", of {evidence.evaluations} evaluations"
    return Finding("evidence", True, f"{reference}: {len(seeds)} episodes in {evidence.source}{newest}")


def _same_conditions(candidate: Candidate, mine: Evidence, champion: Champion, theirs: Evidence) -> Iterator[Finding]:
    differ = [
        f"{key} {theirs.conditions.get(key)} → {mine.conditions.get(key)}"
        for key in differing(mine.conditions, theirs.conditions)
    ]
    seeds = [[row.seed for row in evidence.drives.get(POLICY, ())] for evidence in (mine, theirs)]
    if not differ and seeds[0] != seeds[1]:
        differ = ["the seeds"]
    if differ:
        least = candidate.margins.episodes
        again = evaluate_command(champion.reference, candidate.card, mine, least)
        if mine.conditions.get("env_version") != theirs.conditions.get("env_version"):
            # the environment that the candidate drove in may be gone
            again += f" && {evaluate_command(candidate.reference, candidate.card, mine, least)}"
        text = f"{champion.reference} was driven under other conditions than {candidate.reference}"
        yield Finding("evidence", False, f"{text} ({', '.join(differ)}): {again}")


def _driving(candidate: Candidate, champion: Champion | None) -> Iterator[Finding]:
    if candidate.margins.problem:
        yield Finding("driving", False, candidate.margins.problem)
        return
    assert candidate.evidence is not None  # the evidence gate passed
    theirs, who = (champion.evidence, champion.reference) if champion else (None, "")
    for passed, text in evaluate_driving(candidate.evidence, theirs, who, candidate.margins):
        yield Finding("driving", passed, text)
