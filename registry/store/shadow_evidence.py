"""Reads from MLflow what shadows logged: the only reader of the runs that `carla-serve --shadow-log` writes."""

from __future__ import annotations

import math
import re

import mlflow
from mlflow.entities import Run

from carla_mlflow.flavor.database import without_password
from carla_mlflow.flavor.runs import AGAINST_TAG, SHADOW_STEP, STEP_TAG
from registry.gates.shadow import ShadowEvidence
from registry.store.calls import call_with_deadline
from registry.store.evidence import link_of

MAX_RUNS = 1000
"""The most runs of one version beside one champion that are added up, newest first: one for each server and start."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def find_shadow_evidence(digest: str, against: str, deadline_s: float = 30.0) -> ShadowEvidence | None:
    """What shadows of an artifact logged beside a champion, in any experiment; None when none did.

    A run counts as far as it has come, whatever its status: a shadow ends with its server, perhaps weeks later, and one
    that is killed ends no run.

    Args:
        digest: of the shadow's artifact.
        against: of the champion's.
        deadline_s: for the whole search.

    Raises:
        UnreachableError: MLflow does not answer in time.
        RegistryError: MLflow refused the call.
    """
    if not (_DIGEST.fullmatch(digest) and _DIGEST.fullmatch(against)):
        return None
    return call_with_deadline(without_password(mlflow.get_tracking_uri()), deadline_s, _find, digest, against)


def _find(digest: str, against: str) -> ShadowEvidence | None:
    ours = f"tags.`{STEP_TAG}` = '{SHADOW_STEP}' AND tags.digest = '{digest}' AND tags.`{AGAINST_TAG}` = '{against}'"
    runs = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=ours,
        order_by=["attributes.start_time DESC"],
        max_results=MAX_RUNS,
        output_format="list",
    )
    if not runs:
        return None
    rows = disagreements = skipped = 0
    for run in runs:
        assert isinstance(run, Run)
        counts = [_count(run, name) for name in ("rows", "disagreements", "skipped")]
        if min(counts) < 0 or counts[1] > counts[0]:
            text = f"run {run.info.run_id} has no usable metrics shadow/rows, shadow/disagreements and shadow/skipped"
            return ShadowEvidence(0, 0, 0, (link_of(run),), f"{text}; delete it, or let the shadow run again")
        rows, disagreements, skipped = rows + counts[0], disagreements + counts[1], skipped + counts[2]
    return ShadowEvidence(rows, disagreements, skipped, tuple(link_of(run) for run in runs))


def _count(run: Run, name: str) -> int:
    """A metric that counts; -1 where it is missing, or counts nothing."""
    value = float(run.data.metrics.get(f"shadow/{name}", -1.0))
    return int(value) if math.isfinite(value) and value == int(value) else -1
