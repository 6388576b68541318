"""The picture of an evaluation: each seed's reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLOURS = ("tab:green", "tab:orange", "tab:red")


class Driven(Protocol):
    """An episode, on the racetrack or elsewhere."""

    seed: int

    @property
    def reward(self) -> float: ...


def plot_rewards(ended: Mapping[str, Sequence[Driven]], other: str, compared: Sequence[Driven]) -> Figure:
    """Each seed's reward: the policy's by how its episode ended, beside that of the driver it is compared with.

    Args:
        ended: how the policy's episodes ended → those, from the best way to the worst, at most three.
        other: the driver it is compared with.
        compared: that driver's episodes.
    """
    count = sum(map(len, ended.values()))
    figure = Figure(figsize=(max(8, count / 5), 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([e.seed for e in compared], [e.reward for e in compared], "_", color="grey", label=other)
    for (how, episodes), colour in zip(ended.items(), COLOURS, strict=False):
        seeds, rewards = [e.seed for e in episodes], [e.reward for e in episodes]
        axes.plot(seeds, rewards, "o", color=colour, label=f"{how}: {len(episodes)} of {count}")
    axes.set_xlabel("seed")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.set_ylabel("reward of the episode")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
