"""The evidence gate: a finished evaluation of enough episodes, under the champion's conditions. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from registry.gates.candidate import Candidate, Champion, Finding
from registry.gates.episodes import BASELINES, POLICY, Evidence, differing
from registry.gates.evaluate_command import evaluate_command
from registry.gates.judged_seeds import seeds_problem
from registry.gates.latency_condition import LATENCY, say_latency


def evidence_findings(candidate: Candidate, champion: Champion | None) -> Iterator[Finding]:
    """Whether candidate and champion have evidence of enough episodes, under the same conditions."""
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
    """Whether there is readable evidence of enough episodes that may judge, and of a baseline when one is needed."""
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
    # Of the champion's card nothing is known here; in an environment of the author's own `evaluate` has looked at it.
    if problem := seeds_problem(evidence, candidate.card if reference == candidate.reference else None):
        again = evaluate_command(reference, candidate.card, evidence, least)
        text = f"{where} of {reference} can't judge a promotion: {problem}: {again}"
        return Finding("evidence", False, text)
    baseline = evidence.baseline
    if needs_baseline and baseline is None:
        text = f"has no baseline driver, which a first champion has to beat: one of {', '.join(BASELINES)}"
        return Finding("evidence", False, f"{where} of {reference} {text}")
    if needs_baseline and baseline and [row.seed for row in evidence.drives[baseline]] != seeds:
        return Finding("evidence", False, f"{where} of {reference}: {baseline} drove other seeds than the policy")
    newest = "" if evidence.evaluations == 1 else f", of {evidence.evaluations} evaluations"
    under = say_latency(evidence.conditions, evidence.latency)
    return Finding("evidence", True, f"{reference}: {len(seeds)} episodes in {evidence.source}{newest}{under}")


def _same_conditions(candidate: Candidate, mine: Evidence, champion: Champion, theirs: Evidence) -> Iterator[Finding]:
    differ = [
        f"{key} {theirs.conditions.get(key, 'none')} → {mine.conditions.get(key, 'none')}"
        for key in differing(mine.conditions, theirs.conditions)
    ]
    seeds = [[row.seed for row in evidence.drives.get(POLICY, ())] for evidence in (mine, theirs)]
    if not differ and seeds[0] != seeds[1]:
        differ = ["the seeds"]
    if differ:
        least = candidate.margins.episodes
        again = evaluate_command(champion.reference, candidate.card, mine, least)
        is_delayed = [LATENCY in evidence.conditions for evidence in (mine, theirs)]
        if mine.conditions.get("env_version") != theirs.conditions.get("env_version") and len({*is_delayed}) == 1:
            # the environment that the candidate drove in may be gone (that of a latency is another one, and is there)
            again += f" && {evaluate_command(candidate.reference, candidate.card, mine, least)}"
        text = f"{champion.reference} was driven under other conditions than {candidate.reference}"
        yield Finding("evidence", False, f"{text} ({', '.join(differ)}): {again}")
