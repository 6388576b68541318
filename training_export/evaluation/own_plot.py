"""The picture of an evaluation in an environment of the author's own."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training_export.evaluation.own_driving import Drives


def plot_rewards(drives: Drives) -> Figure:
    """Each seed's reward: the policy's by how the episode ended, beside that of the driver it is compared with.

    Args:
        drives: the policy's episodes, and those of one other driver.
    """
    policy, (other, compared) = drives["policy"], next((k, v) for k, v in drives.items() if k != "policy")
    figure = Figure(figsize=(max(8, len(policy) / 5), 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([e.seed for e in compared], [e.reward for e in compared], "_", color="grey", label=other)
    for label, colour, ended in (
        ("no fault", "tab:green", [e for e in policy if not e.failed]),
        ("no success", "tab:orange", [e for e in policy if e.failed and not e.collision]),
        ("collision", "tab:red", [e for e in policy if e.collision]),
    ):
        text = f"{label}: {len(ended)} of {len(policy)}"
        axes.plot([e.seed for e in ended], [e.reward for e in ended], "o", color=colour, label=text)
    axes.set_xlabel("seed")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.set_ylabel("reward of the episode")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
