"""The gates that a version has to pass before it drives. Pure: what is known comes in, findings in words go out.

    integrity   the artifact is what was registered, and acts on this machine as the trained policy did
    contract    observations and actions are the champion's, so that no car's code has to change
    latency     a decision takes at most a quarter of the control period: in the card, and as measured here
    evidence    a finished evaluation of exactly this artifact, of enough episodes, under the champion's conditions
    driving     no worse than the champion on the same seeds; without a champion, better than a baseline driver
    shadow      where the policy asks for it: acted on enough of what the champion saw, and agreed with it

Every gate is evaluated even when another has failed, so that a refusal lists every shortfall; only driving needs
evidence that passed. docs/adr/0009 gives the reasons.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from carla_mlflow.contract.card import Card
from registry.gates.candidate import Candidate, Champion, Finding
from registry.gates.driving import evaluate_driving
from registry.gates.evidence_gate import evidence_findings
from registry.gates.shadow import evaluate_shadow

LATENCY_SHARE = 0.25
"""The share of the control period 1/rate_hz that p99 of a decision may take. The rest is for sensors, network, queue
and actuators, and a decision that takes twice as long still comes within half of the period."""


def evaluate_gates(candidate: Candidate, champion: Champion | None, allow_breaking: bool = False) -> list[Finding]:
    """The findings of every gate, including those that passed.

    Args:
        candidate: the version that is to be promoted.
        champion: the version in production; None when there is none.
        allow_breaking: whether a different contract passes, because the cars' code is ready for it.
    """
    findings = [_integrity(candidate)]
    if champion is not None:
        findings += _contract(candidate, champion, allow_breaking)
    findings += _latency(candidate)
    evidence = [*evidence_findings(candidate, champion)]
    if all(finding.passed for finding in evidence):
        evidence += _driving(candidate, champion)
    return [*findings, *evidence, *_shadow(candidate, champion)]


def _integrity(candidate: Candidate) -> Finding:
    text = candidate.problem or "unchanged, and acts here as the trained policy did"
    return Finding("integrity", candidate.problem is None, text)


def _contract(candidate: Candidate, champion: Champion, allow_breaking: bool) -> Iterator[Finding]:
    if champion.contract_changes is None:
        if candidate.card is not None:  # otherwise the integrity gate says why
            text = f"can't be compared: the artifact of {champion.reference} can't be read"
            yield Finding("contract", False, text)
        return
    if not champion.contract_changes:
        yield Finding("contract", True, f"the same as that of {champion.reference}")
    for change in champion.contract_changes:
        note = (
            "allowed"
            if allow_breaking
            else f"differs from {champion.reference}; --allow-breaking once the cars' code is ready"
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


def _driving(candidate: Candidate, champion: Champion | None) -> Iterator[Finding]:
    if candidate.margins.problem:
        yield Finding("driving", False, candidate.margins.problem)
        return
    assert candidate.evidence is not None  # the evidence gate passed
    theirs, reference = (champion.evidence, champion.reference) if champion else (None, "")
    for passed, text in evaluate_driving(candidate.evidence, theirs, reference, candidate.margins):
        yield Finding("driving", passed, text)


def _shadow(candidate: Candidate, champion: Champion | None) -> Iterator[Finding]:
    if candidate.shadow_bar is None:
        return
    name = champion.reference if champion else None
    for passed, text in evaluate_shadow(candidate.shadow_bar, candidate.shadow, candidate.reference, name):
        yield Finding("shadow", passed, text)
