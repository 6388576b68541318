"""A replay: each batch of a recording goes through what drove, the same policy again, and another version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from carla_mlflow.contract.card import Card
from carla_mlflow.errors import ContractError, NotFoundError
from carla_mlflow.inference.engine import Engine
from serve.replay.compare import Comparison, check_comparable
from serve.replay.drove import Drove
from serve.replay.rerun import Rerun
from serve.replay.result import Result, Version
from serve.replay.rows import FALLBACK, POLICY, Rows, by_digest, matrix, moments_of, plain, timestamps, with_outcome
from serve.replay.timeline import Timeline
from serve.replay.verify import Verification, Verifier
from serve.replay.window import Window

SAME_VERSION = "it drove them itself"
NO_OBSERVATION = "not recorded: "
ANOTHER_CONTRACT = "of another contract"


class Again(NamedTuple):
    """A policy that drove, run again; `rerun` is None where its artifact is nowhere, `lacks` says so."""

    rerun: Rerun | None
    verifier: Verifier
    lacks: str = ""


class Session:
    """Takes a recording's batches in the order of time."""

    def __init__(
        self,
        cards: Mapping[str, Card],
        load: Callable[[str], tuple[Engine, str]],
        drove: Callable[[str], Drove],
        other: Engine | None = None,
        window: Window | None = None,
        timeline: Timeline | None = None,
    ) -> None:
        """Prepares a replay.

        Args:
            cards: digest → card, of what drove.
            load: digest → the policy, and why not the same bits are owed here (empty where they are); raises
                NotFoundError where there is no artifact.
            drove: name of a policy → what counts its versions.
            other: the version to compare.
            window: which rows count; all without.
            timeline: takes the differences, too.
        """
        self._cards, self._load, self._drove_of, self._window = cards, load, drove, window or Window()
        self._drove: dict[str, Drove] = {}
        self._again: dict[str, Again] = {}
        self._other = None if other is None else Rerun(other, from_start=True)
        self._comparison: Comparison | None = None
        self._timeline = timeline
        self._outcomes: Counter[str] = Counter()
        self._episodes: set[str] = set()
        self._first, self._last = 2**63 - 1, 0

    def add(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Replays a batch; returns the rows of it that count."""
        inside = self._window.holds(timestamps(batch))
        counted = batch if inside.all() else batch.filter(pa.array(inside))
        self._count(counted)
        for digest, rows in by_digest(with_outcome(batch, POLICY)):
            self._replay(digest, Rows.of(rows, self._cards[digest]), rows)
        for digest, rows in by_digest(with_outcome(counted, FALLBACK)):
            actions = matrix(rows, "action", len(self._cards[digest].action.control_names))
            self._run_again(digest).verifier.add_fallbacks(actions, moments_of(rows))
        return counted

    def result(self, folder: str, lost: int, asked_journal: bool) -> Result:
        """What was found; `lost` is the recording's own count."""
        other = self._other.engine if self._other else None
        return Result(
            folder,
            self._outcomes.total(),
            dict(self._outcomes),
            len(self._episodes),
            lost,
            self._first if self._last else 0,
            self._last,
            sorted((span for drove in self._drove.values() for span in drove.spans()), key=lambda span: span.first),
            asked_journal,
            [found for found in self._verifications() if found.rows or found.fallbacks or found.skipped],
            Version(other.card.name, other.card.version, other.digest) if other else None,
            self._comparison.figures() if self._comparison else None,
            self._timeline.figures() if self._timeline and self._comparison else None,
        )

    def _verifications(self) -> Iterator[Verification]:
        return (again.verifier.found() for again in self._again.values())

    def _count(self, batch: pa.RecordBatch) -> None:
        if not len(batch):
            return
        times = timestamps(batch)
        self._first, self._last = min(self._first, int(times.min())), max(self._last, int(times.max()))
        for counted in plain(batch.column("outcome")).value_counts().to_pylist():
            self._outcomes[counted["values"]] += counted["counts"]
        self._episodes.update(filter(None, batch.column("episode_id").unique().to_pylist()))
        for digest, rows in by_digest(batch):
            card = self._cards[digest]
            drove = self._drove.get(card.name) or self._drove.setdefault(card.name, self._drove_of(card.name))
            drove.add(digest, card.version, timestamps(rows))

    def _run_again(self, digest: str) -> Again:
        if digest not in self._again:
            card = self._cards[digest]
            try:
                engine, why_not_bits = self._load(digest)
                self._again[digest] = Again(Rerun(engine), Verifier(card, digest, why_not_bits))
            except NotFoundError as error:
                self._again[digest] = Again(None, Verifier(card, digest), str(error))
        return self._again[digest]

    def _replay(self, digest: str, rows: Rows, batch: pa.RecordBatch) -> None:
        again, counts = self._run_again(digest), self._window.holds(rows.moments.timestamp)
        if again.rerun is None or rows.observations is None:
            reason = again.lacks or NO_OBSERVATION + ", ".join(rows.lacks)
            again.verifier.skip(reason, int(counts.sum()))
        else:
            answers = again.rerun.act(rows)
            is_whole = bool(counts.all())
            again.verifier.add(rows if is_whole else rows.take(counts), answers if is_whole else answers.take(counts))
        if self._other is not None:
            self._compare(self._other, digest, rows, counts)

    def _compare(self, other: Rerun, digest: str, rows: Rows, counts: NDArray[np.bool_]) -> None:
        recorded, named = self._cards[digest], f"{other.engine.card.name} {other.engine.card.version}"
        if self._comparison is None:
            check_comparable(recorded.action, other.engine.card.action, named)
            self._comparison = Comparison(recorded.action)
        comparison, count = self._comparison, int(counts.sum())
        if digest == other.engine.digest and len(self._cards) > 1:
            return comparison.skip(SAME_VERSION, count)
        problem = unobserved(rows, recorded, other.engine.card)
        if problem:
            return comparison.skip(problem, count)
        try:
            check_comparable(recorded.action, comparison.action, named)
        except ContractError:
            return comparison.skip(ANOTHER_CONTRACT, count)
        answers = other.act(rows)
        chosen = counts & answers.known
        moments = rows.moments.take(chosen)
        apart = comparison.add(rows.action[chosen], answers.control[chosen], moments)
        if self._timeline is not None:
            self._timeline.add(moments.timestamp, apart)
        for reason, missing in answers.take(counts).reasons.items():
            comparison.skip(reason, missing)
        return None


def unobserved(rows: Rows, recorded: Card, other: Card) -> str:
    """Why a policy can't be run on recorded rows, by what it observes; empty where it can."""
    if rows.observations is None:
        return NO_OBSERVATION + ", ".join(rows.lacks)
    there = {spec.name: (spec.dtype, spec.shape) for spec in recorded.observation_spec}
    wanted = {spec.name: (spec.dtype, spec.shape) for spec in other.observation_spec}
    missing = [name for name, kind in wanted.items() if there.get(name) != kind]
    return NO_OBSERVATION + ", ".join(missing) if missing else ""
