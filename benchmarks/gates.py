"""python -m benchmarks.gates: how often the driving gate lets a policy through, by how it drives and how many episodes.

Beside it, how often a gate would that refuses only what is proven worse. Failures are drawn for both policies
independently, which is the hardest case: on the same seeds good policies mostly fail together, and what is equal on a
seed costs nothing.
"""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from benchmarks.command_line import parser_of
from registry.episodes import EpisodeRow
from registry.not_worse import COLLISIONS, FAILURES, REWARD, compare, reward_bar

TRIALS = 100
EPISODES = (20, 100, 400)
WHOLE_REWARD = 280.0
SCENARIOS = {  # off-road rate of the champion and of the candidate, and the candidate's reward as a share
    "the same policy": (None, None, 1.0),
    "as good: 2 % fail": (0.02, 0.02, 1.0),
    "as good: 10 % fail": (0.10, 0.10, 1.0),
    "better: 2 % for 10 %": (0.10, 0.02, 1.0),
    "worse by the margin: 7 % for 2 %": (0.02, 0.07, 1.0),
    "worse by twice the margin: 20 % for 10 %": (0.10, 0.20, 1.0),
    "10 % less reward": (0.02, 0.02, 0.9),
}


def main() -> None:
    parser_of(__doc__).parse_args()
    print(f"{f'let through of {TRIALS} / by the other':42}" + "".join(f"{f'{n} episodes':>14}" for n in EPISODES))
    for label, (champion, candidate, reward) in SCENARIOS.items():
        counts = [_let_through(champion, candidate, reward, episodes, label) for episodes in EPISODES]
        print(f"{label:42}" + "".join(f"{f'{ours} / {other}':>14}" for ours, other in counts), flush=True)


def _let_through(
    champion: float | None, candidate: float | None, reward: float, episodes: int, label: str
) -> tuple[int, int]:
    rng, ours, unproven = np.random.default_rng(episodes), 0, 0
    for _ in tqdm(range(TRIALS), label, leave=False, disable=None):
        other = _drive(rng, 0.1 if champion is None else champion, episodes, 1.0)
        mine = other if candidate is None else _drive(rng, candidate, episodes, reward)
        *safe, reward_of = compare(mine, other, (COLLISIONS, FAILURES, REWARD))
        held = [*safe, reward_bar(safe, reward_of)]
        ours += all(found.is_not_worse for found in held)
        unproven += all(found.best <= 0 for found in held)
    return ours, unproven


def _drive(rng: np.random.Generator, failing: float, episodes: int, share: float) -> list[EpisodeRow]:
    failed, length = rng.random(episodes) < failing, rng.random(episodes)
    rewards = WHOLE_REWARD * share * np.where(failed, length, 1.0) + rng.normal(0, 2, episodes)
    return [
        EpisodeRow("policy", seed, float(earned), False, bool(off))
        for seed, (earned, off) in enumerate(zip(rewards, failed, strict=True))
    ]


if __name__ == "__main__":
    main()
