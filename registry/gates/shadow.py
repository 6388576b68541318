"""The shadow gate: how a version's actions differed from the champion's on what the champion really saw. Pure.

Only policies that ask for it have this gate: those with one of its two tags on the registered model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

ROWS_TAG, DISAGREEMENT_TAG = "gate.shadow.min_rows", "gate.shadow.max_disagreement"
"""Tags of the registered model that ask for the gate: the fewest rows that were compared, and the largest share of them
in which the two disagree."""
DEFAULT_ROWS = 10_000
"""The fewest rows where only the share is set: eight minutes of one car at 20 Hz."""
MAX_ROWS = 10**12


@dataclass(frozen=True)
class ShadowBar:
    """What a policy asks of a shadow.

    Attributes:
        min_rows: fewest observations on which both acted.
        max_disagreement: largest share of them in which the two disagree; None where only their number counts.
        problem: why a tag can't be read.
    """

    min_rows: int = DEFAULT_ROWS
    max_disagreement: float | None = None
    problem: str | None = None

    def __str__(self) -> str:
        share = "" if self.max_disagreement is None else f", disagreement {self.max_disagreement:g}"
        return f"shadow {self.min_rows:,} rows{share}"


@dataclass(frozen=True)
class ShadowEvidence:
    """What shadows of one version logged beside one champion, all their runs together.

    Attributes:
        rows: observations on which both acted.
        disagreements: of those, the ones in which the two disagree, as `serve.shadow.disagreement` defines it.
        skipped: observations that could not be compared.
        links: the pages of the runs, or their URIs; the newest first.
        problem: why a run can't be read as evidence, in words.
    """

    rows: int
    disagreements: int
    skipped: int
    links: tuple[str, ...]
    problem: str | None = None

    @property
    def share(self) -> float:
        """The share of rows in which the two disagree; 0 without any row."""
        return self.disagreements / self.rows if self.rows else 0.0


def read_shadow_bar(tags: Mapping[str, str]) -> ShadowBar | None:
    """What a registered model's tags ask of a shadow; None where neither is set."""
    if not {ROWS_TAG, DISAGREEMENT_TAG} & tags.keys():
        return None
    rows, share, problems = DEFAULT_ROWS, None, []
    if (text := tags.get(ROWS_TAG)) is not None:
        if text.isascii() and text.isdigit() and 0 < int(text) <= MAX_ROWS:
            rows = int(text)
        else:
            problems.append(f"the policy's tag {ROWS_TAG} is {text!a}, expected a whole number above 0")
    if (text := tags.get(DISAGREEMENT_TAG)) is not None:
        share = _share(text)
        if share is None:
            problems.append(f"the policy's tag {DISAGREEMENT_TAG} is {text!a}, expected a share from 0 to 1")
    return ShadowBar(rows, share, "; ".join(problems) or None)


def _share(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= 1 else None


def evaluate_shadow(
    bar: ShadowBar, evidence: ShadowEvidence | None, candidate: str, champion: str | None
) -> Iterator[tuple[bool, str]]:
    """Yields for each bar whether it is passed, and the figures in words.

    Args:
        bar: what the policy asks for.
        evidence: of the candidate beside this champion; None when there is none.
        candidate: the candidate's reference.
        champion: the champion's; None without one, as there is then nothing to be a shadow of.
    """
    if bar.problem:
        yield False, bar.problem
        return
    if champion is None:
        yield True, "no version is in production, beside which it could run"
        return
    if evidence is None:
        how = f"carla-serve --model … --shadow {candidate} --shadow-log"
        yield False, f"{candidate} has not run as a shadow of {champion}: {how}"
        return
    if evidence.problem:
        yield False, evidence.problem
        return
    yield _enough(bar, evidence, champion)
    if bar.max_disagreement is not None and evidence.rows:
        text = f"{evidence.share:.3%} of {evidence.rows:,} rows disagree with {champion}"
        yield evidence.share <= bar.max_disagreement, f"{text}, {bar.max_disagreement:.3%} allowed"


def _enough(bar: ShadowBar, evidence: ShadowEvidence, champion: str) -> tuple[bool, str]:
    where = evidence.links[0] + ("" if len(evidence.links) == 1 else f" and {len(evidence.links) - 1} more")
    compared = f"{evidence.rows:,} rows compared with {champion}'s in {where}"
    skipped = f", {evidence.skipped:,} could not be" if evidence.skipped else ""
    if evidence.rows >= bar.min_rows:
        return True, compared + skipped
    return False, f"{compared}{skipped}; at least {bar.min_rows:,} are needed"
