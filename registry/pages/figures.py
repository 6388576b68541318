"""The figures of evaluations and shadows, as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from registry.gates.episodes import BASELINES
from registry.store.run_figures import RunFigures

COLUMNS = {
    "episodes": ("episodes", "{:g}", "{} episodes"),
    "success_rate": ("no fault", "{:.1%}", "no fault {}"),
    "collision_rate": ("collisions", "{:.1%}", "collisions {}"),
    "off_road_rate": ("off road", "{:.1%}", "off road {}"),
    "failed_rate": ("failed", "{:.1%}", "failed {}"),
    "reward_mean": ("mean reward", "{:.4g}", "mean reward {}"),
    "speed_mps_mean": ("m/s", "{:.3g}", "{} m/s"),
    "rows": ("rows", "{:,.0f}", "{} rows"),
    "disagreements": ("disagreements", "{:,.0f}", "{} disagreements"),
}
"""Figure of a run → its heading, how it is written, and how it is said."""
DRIVERS = {"policy": "", "shadow": "as a shadow", **BASELINES}
"""Drivers whose figures are shown → in words, beside the version."""


def run_rows(runs: Sequence[RunFigures]) -> list[tuple[str, ...]]:
    """The figures of runs as a table, headings first; baselines only where one run stands alone."""
    drove = []
    for run in runs:
        for driver, words in DRIVERS.items():
            figures = run.of(driver)
            if figures and (driver not in BASELINES or len(runs) == 1):
                drove.append((f"{run.version} {words}".strip() if driver not in BASELINES else words, figures))
    keys = [key for key in COLUMNS if any(key in figures for _, figures in drove)]
    rows = [("drove", *(COLUMNS[key][0] for key in keys))]
    for who, figures in drove:
        rows.append((who, *(COLUMNS[key][1].format(figures[key]) if key in figures else "" for key in keys)))
    return rows


def say_figures(figures: Mapping[str, float]) -> str:
    """One driver's figures in a line."""
    return ", ".join(said.format(form.format(figures[k])) for k, (_, form, said) in COLUMNS.items() if k in figures)
