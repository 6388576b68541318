"""Logs what the shadow finds to MLflow, one run for each champion beside which it ran, where the gate `shadow` reads it.

A run goes on for as long as its server: what it says is brought up to date every LOG_S seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from carla_mlflow.contract.card import Card
from carla_mlflow.escaping import one_line
from carla_mlflow.flavor.runs import AGAINST_TAG, SHADOW_STEP, STEP_TAG
from registry.rules.reference import shown
from serve.policy.serving import Serving
from serve.settings import Settings
from serve.shadow.tally import Pair, Tally

LOG_S, DEADLINE_S = 60.0, 20.0
"""Seconds between two updates, and the most that one may take."""
TABLE = "shadow.json"
"""The run's file with all figures, as `python -m serve replay --json` has them."""

log = logging.getLogger("serve.shadow")


@dataclass(frozen=True)
class Finding:
    """What is logged of one version beside one champion.

    Attributes:
        card: of the version that is the shadow.
        digest: of that version.
        against: digest of the champion.
        against_version: of the champion.
        parameters: under which conditions it ran.
        counts: rows, disagreements, skipped.
        figures: of the comparison.
        run: id of the run that it is logged to; None: of a new one.
    """

    card: Card
    digest: str
    against: str
    against_version: str
    parameters: Mapping[str, Any]
    counts: Mapping[str, int]
    figures: Mapping[str, Any]
    run: str | None


def log_finding(finding: Finding) -> str:
    """Logs it; returns the run's id. May raise whatever MLflow does."""
    import mlflow

    from carla_mlflow.flavor.runs import logging_run

    card = finding.card
    with logging_run(finding.run, f"shadow {card.name} {card.version}") as run:
        if finding.run is None:
            identity = {"digest": finding.digest, "semver": card.version, "policy": card.name}
            other = {AGAINST_TAG: finding.against, "against_semver": finding.against_version}
            mlflow.set_tags({STEP_TAG: SHADOW_STEP, **identity, **other})
            mlflow.log_params(dict(finding.parameters))
        metrics = {f"shadow/{name}": float(count) for name, count in finding.counts.items()}
        for dimension in finding.figures.get("dimensions", ()):
            for key in ("mean", "p50", "p90", "p99", "max"):
                metrics[f"shadow/{dimension['name']}_{key}"] = float(dimension[key])
        mlflow.log_metrics(metrics)
        mlflow.log_dict(dict(finding.figures), TABLE)
    return run


class EvidenceLog:
    """Keeps the runs of a tally up to date. MLflow is called in a thread, which is given up at a deadline.

    Attributes:
        problem: why the last update failed, in words; None when it did not.
    """

    def __init__(self, tally: Tally, settings: Settings) -> None:
        """`settings` are the server's."""
        self._tally, self.problem = tally, None
        self._parameters = {"reference": shown(settings.shadow), "share": settings.shadow_share}
        self._due = time.monotonic() + FIRST_S
