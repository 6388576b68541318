"""The evidence gate: a finished evaluation of enough episodes, under the champion's conditions. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from registry.gates.candidate import Candidate, Champion, Finding
from registry.gates.episodes import BASELINES, POLICY, Evidence, differing
from registry.gates.evaluate_command import evaluate_command


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
        text = f"has no baseline driver, which a first champion has to beat: one of {', '.join(BASELINES)}"
        return Finding("evidence", False, f"{where} of {reference} {text}")
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
