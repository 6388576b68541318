"""Logs what the shadow finds to MLflow, where the gate `shadow` reads it: one run for each champion beside it.

A run goes on for as long as its server: what it says is brought up to date every LOG_S seconds. A new run is begun
without any rows, and gets them once its id is in the report: should the process be killed between the two, the next one
begins another run, and no row is in both.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from carla_mlflow.contract.card import Card
from carla_mlflow.escaping import one_line
from serve.policy.serving import Serving
from serve.shadow.tally import Pair, Tally

FIRST_S, LOG_S, DEADLINE_S = 5.0, 60.0, 20.0
"""Seconds until the first update, between two updates, and for which the last one is waited for."""
TABLE = "shadow.json"
"""The run's file with all figures of the comparison, as `python -m serve replay --json` has them."""
QUANTITIES = ("mean", "p50", "p90", "p99", "max")

log = logging.getLogger("serve.shadow")


@dataclass(frozen=True)
class Finding:
    """What one version has done beside one champion.

    Attributes:
        card: of the version that is the shadow.
        digest: of that version.
        against: digest of the champion.
        against_version: of the champion.
        parameters: of the run.
        counts: rows, disagreements, skipped.
        figures: of the comparison.
        run: id of the run that it is logged to; None for a new one.
    """

    card: Card
    digest: str
    against: str
    against_version: str
    parameters: Mapping[str, Any]
    counts: Mapping[str, int]
    figures: Mapping[str, Any]
    run: str | None


class Update:
    """Findings that are being logged, in a thread of their own.

    Attributes:
        logged: what was logged: whose finding, the finding, and the id of its run.
        problem: why it failed, in words; None when it did not.
    """

    def __init__(self, findings: Sequence[tuple[Pair, Finding]]) -> None:
        """Starts the thread."""
        self.logged: list[tuple[Pair, Finding, str]] = []
        self.problem: str | None = None
        self._findings = findings
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for pair, finding in self._findings:
                self.logged.append((pair, finding, log_finding(finding)))
        except Exception as error:  # the thread's boundary: whatever MLflow raises
            self.problem = one_line(error)

    def is_over(self, wait_s: float = 0.0) -> bool:
        """Whether it has ended, perhaps after some seconds."""
        self._thread.join(wait_s)
        return not self._thread.is_alive()


class EvidenceLog:
    """Keeps the runs of a tally up to date.

    An update may end when the tally counts for another version already: its runs are those of the pairs that it was
    begun with, not of what has the same champion now.

    Attributes:
        problem: why the last update failed, in words; None when it did not.
    """

    def __init__(self, tally: Tally, reference: str, share: float) -> None:
        """Takes what is logged, what the shadow follows, as all may see it, and which share of the traffic it sees."""
        self._tally = tally
        self._parameters = {"reference": reference, "share": share}
        self._update: Update | None = None
        self._logged: WeakKeyDictionary[Pair, tuple[str | None, Mapping[str, int]]] = WeakKeyDictionary()
        self._due = time.monotonic() + FIRST_S
        self.problem: str | None = None

    def update_soon(self, serving: Serving) -> None:
        """Begins an update when it is due and none is under way; to be called regularly."""
        self._collect()
        if self._update is None and time.monotonic() >= self._due:
            self._begin(serving)

    def finish(self, serving: Serving) -> None:
        """Brings the runs up to date, within DEADLINE_S."""
        ends = time.monotonic() + DEADLINE_S
        for _ in range(2):  # the first time a run may have to be begun
            if self._update is not None and not self._update.is_over(max(0.0, ends - time.monotonic())):
                return
            self._collect()
            self._begin(serving)
        if self._update is not None and self._update.is_over(max(0.0, ends - time.monotonic())):
            self._collect()

    def _collect(self) -> None:
        """Takes the outcome of an update that is over."""
        if self._update is None or not self._update.is_over():
            return
        is_begun = False
        for pair, finding, run in self._update.logged:
            is_begun |= pair.run is None
            pair.run = run
            self._logged[pair] = (finding.run, finding.counts)
        if self._update.problem and self._update.problem != self.problem:  # once per outage
            log.warning("the shadow's evidence can't be logged: %s", self._update.problem)
        self.problem = self._update.problem
        self._due = time.monotonic() + (FIRST_S if is_begun and not self.problem else LOG_S)
        self._update = None

    def _begin(self, serving: Serving) -> None:
        every = [(pair, self._finding(serving, pair)) for pair in self._tally.pairs.values() if pair.rows]
        findings = [(pair, new) for pair, new in every if self._logged.get(pair) != (new.run, new.counts)]
        if findings:
            self._update = Update(findings)

    def _finding(self, serving: Serving, pair: Pair) -> Finding:
        figures: dict[str, Any] = msgspec.to_builtins(pair.comparison.figures())
        counts = {"rows": pair.rows, "disagreements": pair.disagreements, "skipped": pair.skipped}
        if pair.run is None:
            figures, counts = {}, dict.fromkeys(counts, 0)
        versions = (serving.card, serving.digest, pair.digest, pair.card.version)
        return Finding(*versions, self._parameters, counts, figures, pair.run)


def log_finding(finding: Finding) -> str:
    """Logs to MLflow; returns the run's id. Raises whatever MLflow does."""
    import mlflow

    from carla_mlflow.flavor.runs import AGAINST_TAG, SHADOW_STEP, STEP_TAG, logging_run

    card = finding.card
    with logging_run(finding.run, f"shadow {card.name} {card.version}") as run:
        if finding.run is None:
            identity = {"digest": finding.digest, "semver": card.version, "policy": card.name}
            other = {AGAINST_TAG: finding.against, "against_semver": finding.against_version}
            mlflow.set_tags({STEP_TAG: SHADOW_STEP, **identity, **other})
            mlflow.log_params(dict(finding.parameters))
        metrics = {f"shadow/{name}": float(count) for name, count in finding.counts.items()}
        for dimension in finding.figures.get("dimensions", ()):
            metrics |= {f"{dimension['name']}/{key}": float(dimension[key]) for key in QUANTITIES}
        mlflow.log_metrics(metrics)
        if finding.figures:
            mlflow.log_dict(dict(finding.figures), TABLE)
    return run
