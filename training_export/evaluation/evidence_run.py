"""Logs an evaluation, driven here or elsewhere, to the active MLflow run, where the registry's gates read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mlflow

from carla_mlflow.flavor.opening import PolicyIdentity
from carla_mlflow.flavor.runs import STEP_TAG
from carla_mlflow.look import table

Figures = Mapping[str, float | int]


def log_drives(
    policy: PolicyIdentity,
    tags: Mapping[str, str],
    parameters: Mapping[str, Any],
    figures: Mapping[str, Figures],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Logs one evaluation.

    Args:
        policy: the policy that drove.
        tags: in addition to those that identify the policy.
        parameters: the conditions under which it drove; None is left out.
        figures: driver → its means and rates.
        rows: of episodes.json, one per episode and driver, all with the same keys, among them `driver` and `seed`.
    """
    identity = {"digest": policy.digest, "semver": policy.version, "policy": policy.name}
    mlflow.set_tags({STEP_TAG: "evaluate", **identity, **tags})
    mlflow.log_params({key: value for key, value in parameters.items() if value is not None})
    for driver, values in figures.items():
        mlflow.log_metrics({f"{driver}/{key}": float(value) for key, value in values.items()})
    mlflow.log_table({key: [row[key] for row in rows] for key in rows[0]}, "episodes.json")


def figures_table(figures: Mapping[str, Figures]) -> str:
    """The figures as a text table, one column per driver."""
    rows = [["", *figures]]
    for key in next(iter(figures.values())):
        rows.append([key, *(f"{values[key]:g}" for values in figures.values())])
    return table(rows, right=True)
