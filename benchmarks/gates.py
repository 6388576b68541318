"""python -m benchmarks.gates: how often the gates are wrong, by how a policy drives and by the number of episodes.

Gates that depend only on counts are computed by enumerating every outcome with its probability; rewards are drawn.
Champion and candidate fail independently unless a row says otherwise. That is the hardest case: on the same seeds good
policies mostly fail together, and equal outcomes on a seed cost nothing.
"""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from benchmarks.correctness.chances import at_most, chance, chance_of, independent, not_worse, safer, unproven
from benchmarks.correctness.drawn_rewards import REWARDS, WHOLE_REWARD, Array, Draw, independently
from benchmarks.support.command_line import parser_of
from benchmarks.support.table import Column, Table
from registry.gates.intervals import mean_bound
from registry.gates.margins import MIN_EPISODES, RATE_MARGIN, REWARD_MARGIN, SAFER_MARGIN

EPISODES = (20, 60, 100, 200, 400)
FAILING = (0.0, 0.01, 0.02, 0.05, 0.1)
DIFFERENCES = (
    ("no difference", 0.0),
    ("worse by the margin", 0.05),
    ("worse by twice the margin", 0.1),
    ("better", -0.1),
)
TRIALS, AT_ONCE = 1000, 250
COLUMNS = tuple(Column(str(episodes), 7, ".1f") for episodes in EPISODES)


def main() -> None:
    parser_of(__doc__).parse_args()
    print(f"A policy passes in so many cases of 100; fewer than {MIN_EPISODES} episodes are refused as evidence.\n")
    _heading("COLLISIONS, FAILURES: enumerated")
    for said, more in DIFFERENCES[:3]:
        for failing in FAILING:
            label = f"{said}: {failing:.0%} → {failing + more:.0%}"
            _row(label, [chance_of(n, *independent(failing, failing + more)) for n in EPISODES])
    _row("the margin, all that the champion fails in in common", [chance_of(n, RATE_MARGIN, 0.0) for n in EPISODES])
    for failing in FAILING[1:]:
        worst = [max(chance_of(n, a + RATE_MARGIN, a) for a in np.linspace(0, failing, 21)) for n in EPISODES]
        _row(f"the margin, {failing:.0%} → {failing + 0.05:.0%}, as many in common as is hardest", worst)
    _row("a gate that refuses what is proven worse: 10 → 20 %", [chance(unproven(n), 0.18, 0.08) for n in EPISODES])
    _heading("SAFER BEYOND DOUBT, also of the first champion: enumerated")
    for champion, candidate in ((0.02, 0.02), (0.1, 0.1), (0.1, 0.02), (0.5, 0.1), (1.0, 1.0), (1.0, 0.5), (1.0, 0.1)):
        label = f"{'no difference' if champion == candidate else 'better'}: {champion:.0%} → {candidate:.0%}"
        _row(label, [chance(safer(n), *independent(champion, candidate)) for n in EPISODES])
    _heading(f"REWARD: {TRIALS:,} draws of each")
    for label, draw in REWARDS.items():
        _row(label, [_passing_rewards(draw, n, label) for n in EPISODES])
    label = "more beyond doubt (first champion), no difference"
    _row(label, [_passing_rewards(independently(0.1), n, label, 0.0) for n in EPISODES])
    _heading(f"ALL BARS OF DRIVING AT ONCE: {TRIALS:,} draws of each")
    for said, more in DIFFERENCES:
        for failing in FAILING if more >= 0 else FAILING[-1:]:
            label = f"{said}: {failing:.0%} → {failing + more:.0%}"
            _row(label, [_passing_all(failing, failing + more, n, label) for n in EPISODES])
    _heading("LATENCY: p99 of 500 decisions, enumerated", ())
    for share in (0.005, 0.01, 0.02, 0.04):
        _row(f"{share:.1%} of decisions over the bar", [at_most(5, 500, share)])


def _heading(text: str, columns: tuple[Column, ...] = COLUMNS) -> None:
    print()
    Table(text, 60, columns).print_heading()


def _row(label: str, chances: list[float]) -> None:
    Table("", 60, COLUMNS).print_row(label, *(100 * chance for chance in chances))


def _passing_rewards(draw: Draw, episodes: int, label: str, margin: float = REWARD_MARGIN) -> float:
    rng, passed = np.random.default_rng(episodes), 0
    for _ in tqdm(range(TRIALS // AT_ONCE), label, leave=False, disable=None):
        champion, candidate = draw(rng, (AT_ONCE, episodes))
        passed += int((_worst_reward(champion, candidate) <= margin * champion.mean(axis=1)).sum())
    return passed / TRIALS


def _worst_reward(champion: Array, candidate: Array) -> Array:
    return mean_bound(champion - candidate, champion.mean(axis=1))


def _passing_all(champion: float, candidate: float, episodes: int, label: str) -> float:
    """The share of draws that pass all driving bars, when every failure is leaving the road and nobody collides."""
    rng, passed = np.random.default_rng(episodes), 0
    for _ in tqdm(range(TRIALS // AT_ONCE), label, leave=False, disable=None):
        shape = (AT_ONCE, episodes)
        failed = [rng.random(shape) < failing for failing in (champion, candidate)]
        theirs, mine = (
            WHOLE_REWARD * np.where(off, rng.random(shape), 1.0) + rng.normal(0, 2, shape) for off in failed
        )
        outcome = (failed[1] & ~failed[0]).sum(axis=1), (failed[0] & ~failed[1]).sum(axis=1)
        margin = np.where(safer(episodes)[outcome], SAFER_MARGIN, REWARD_MARGIN)
        earned = _worst_reward(theirs, mine) <= margin * theirs.mean(axis=1)
        passed += int((not_worse(episodes)[outcome] & earned).sum())
    return passed / TRIALS


if __name__ == "__main__":
    main()
