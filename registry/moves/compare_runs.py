"""Lays the comparison with the champion into the runs that people look at: a version's own, and its evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from carla_mlflow.artifact.artifact import Artifact
from carla_mlflow.cli import progress, warn
from carla_mlflow.escaping import one_line
from registry.checks.comparison import compare
from registry.gates.candidate import Finding
from registry.moves.state import RegistryState
from registry.pages.diff import diff_page
from registry.rules.judged import judged
from registry.rules.policy_version import PolicyVersion
from registry.store.cache import fetch_to_cache
from registry.store.run_artifacts import log_page
from registry.store.run_figures import latest_evaluation
from registry.store.store import Store

FILE = "compared_with_champion.html"


def show_comparison(
    store: Store,
    state: RegistryState,
    version: PolicyVersion,
    cache: Path,
    artifact: Artifact | None = None,
    findings: Sequence[Finding] = (),
) -> None:
    """Writes the page where there is a champion to compare with; warns if it can't.

    Args:
        store: the registry.
        state: with the champion.
        version: that is compared.
        cache: the folder that artifacts are fetched to.
        artifact: the version's, where it is at hand.
        findings: of its gates; without any, its evaluation does not get the page.
    """
    champion = state.champion
    if champion is None or champion.digest == version.digest:
        return
    progress(f"comparing with {champion.semver}, which drives")
    try:
        old, new = fetch_to_cache(store, champion, cache), artifact or fetch_to_cache(store, version, cache)
        text = diff_page(compare(old, new), old.card, new.card, judged(findings))
        evaluation = latest_evaluation(version.digest) if findings else None  # judged versions have mostly driven
        for run_id in dict.fromkeys((version.run_id, evaluation.run_id if evaluation else "")):
            if run_id:
                log_page(run_id, FILE, text)
    except Exception as error:  # a boundary: a page beside a registration or a move must not make that seem failed
        warn(f"{version.name} {version.semver} is not compared with {champion.semver} in MLflow: {one_line(error)}")
