"""What an evaluation leaves in the active MLflow run, wherever it was driven: what the registry's gates read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mlflow

from carla_mlflow.flavor.runs import STEP_TAG
from training_export.evaluation.opening import Judged

Figures = Mapping[str, float | int]


def log_drives(
    policy: Judged,
    tags: Mapping[str, str],
    parameters: Mapping[str, Any],
    figures: Mapping[str, Figures],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Logs one evaluation.

    Args:
        policy: what was driven.
        tags: beside those that tell which policy it was.
        parameters: the conditions under which it was driven; None is left out.
        figures: driver → its means and rates.
        rows: an episode and driver each, all with the same keys, `driver` and `seed` among them: episodes.json.
    """
    told = {"digest": policy.digest, "semver": policy.version, "policy": policy.name}
    mlflow.set_tags({STEP_TAG: "evaluate", **told, **tags})
    mlflow.log_params({key: value for key, value in parameters.items() if value is not None})
    for driver, values in figures.items():
        mlflow.log_metrics({f"{driver}/{key}": float(value) for key, value in values.items()})
    mlflow.log_table({key: [row[key] for row in rows] for key in rows[0]}, "episodes.json")


def table(figures: Mapping[str, Figures]) -> str:
    """Figures side by side, a driver a column."""
    rows = [["", *figures]]
    for key in next(iter(figures.values())):
        rows.append([key, *(f"{values[key]:g}" for values in figures.values())])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
