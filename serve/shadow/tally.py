"""What the shadow has found: of its version, and beside each champion.

It is saved with what was read, and so kept over restarts of its process to the row.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
from numpy.typing import NDArray

from carla_mlflow.contract.card import Card, dump_card, parse_card
from carla_mlflow.differences.actions import brake_against_throttle
from serve.replay.compare import Comparison
from serve.replay.rerun import Answers
from serve.replay.rows import Rows
from serve.shadow.disagreement import disagreements
from serve.shadow.reasons import OF_RERUN
from serve.shadow.saved import SavedPair, SavedTally
from serve.telemetry.shadow_report import DIFFERENCES, Beside, Counts, Distribution

MAX_BESIDE = 4
"""Most champions that are told apart; the figures of the one that was compared with longest ago are dropped."""


class Pair:
    """What was found of one version beside one champion.

    Attributes:
        card: the champion's.
        digest: the champion's.
        comparison: as a replay makes it.
        rows: observations that were compared.
        disagreements: of those, the ones in which the two disagree.
        skipped: observations that the champion answered and that could not be compared.
        run: id of the MLflow run that it is logged to; None before there is one.
    """

    def __init__(self, card: Card, digest: str) -> None:
        """Takes the champion's card and digest."""
        self.card, self.digest, self._bytes = card, digest, dump_card(card)
        self.comparison = Comparison(card.action)
        self.rows = self.disagreements = self.skipped = 0
        self.run: str | None = None

    @classmethod
    def resumed(cls, saved: SavedPair) -> Pair:
        """Goes on from what another process of the shadow has found."""
        pair = cls(parse_card(saved.card), saved.digest)
        pair.comparison = Comparison.from_bytes(pair.card.action, saved.comparison)
        pair.rows, pair.disagreements, pair.skipped, pair.run = (
            saved.rows,
            saved.disagreements,
            saved.skipped,
            saved.run,
        )
        return pair

    def saved(self) -> SavedPair:
        """What another process goes on from."""
        counts = (self.rows, self.disagreements, self.skipped)
        return SavedPair(self._bytes, self.digest, self.comparison.to_bytes(), *counts, self.run)


class Tally:
    """Adds up what is compared.

    Attributes:
        digest: of the version that is the shadow; empty before there is one.
        counts: of that version.
        skipped: reason → observations that could not be compared, of all versions.
        pairs: digest of a champion → what was found of that version beside it; the latest last.
    """

    def __init__(self, saved: SavedTally) -> None:
        """Goes on from what another process of the shadow has found."""
        self.digest, self.counts, self.skipped = saved.digest, saved.counts, Counter(saved.skipped)
        self.pairs = {each.digest: Pair.resumed(each) for each in saved.pairs}

    def saved(self) -> SavedTally:
        """What another process goes on from."""
        pairs = [pair.saved() for pair in self.pairs.values()]
        return SavedTally(self.digest, self.counts, dict(self.skipped), pairs)

    def begin(self, digest: str) -> None:
        """Begins to count for another version."""
        self.digest, self.counts, self.pairs = digest, Counts(), {}

    def skip(self, reason: str, rows: int, pair: Pair | None = None) -> None:
        """Counts rows that can't be compared, with a champion's if that is known."""
        if rows:
            self.skipped[reason] += rows
            if pair is not None:
                pair.skipped += rows

    def pair(self, card: Card, digest: str) -> Pair:
        """What was found beside a champion."""
        pair = self.pairs.pop(digest, None) or Pair(card, digest)
        self.pairs[digest] = pair
        while len(self.pairs) > MAX_BESIDE:
            del self.pairs[next(iter(self.pairs))]
        return pair

    def add(self, pair: Pair, card: Card, rows: Rows, answers: Answers) -> None:
        """Compares what the shadow answers to rows with what the champion has answered; `card` is the champion's."""
        for text, count in answers.reasons.items():
            self.skip(OF_RERUN[text], count, pair)
            pair.comparison.skip(text, count)  # in a replay's words, as the other figures are a replay's
        known = answers.known
        if not known.any():
            return
        recorded, other = rows.action[known], answers.control[known]
        apart = pair.comparison.add(recorded, other, rows.moments.take(known))
        for name, differences in apart.items():
            _observe(self.counts.differences.setdefault(name, Distribution()), differences)
        disagree = int(disagreements(card.action, recorded, other).sum())
        self.counts.rows += len(recorded)
        self.counts.brake_disagreements += int(brake_against_throttle(card.action, recorded, other).sum())
        self.counts.disagreements += disagree
        pair.rows, pair.disagreements = pair.rows + len(recorded), pair.disagreements + disagree

    def beside(self) -> list[Beside]:
        """What was found beside each champion, for the report."""
        return [
            Beside(pair.card.version, pair.digest, pair.rows, pair.disagreements, _plain(pair.comparison), pair.run)
            for pair in self.pairs.values()
        ]


def _plain(comparison: Comparison) -> dict[str, object]:
    found: dict[str, object] = msgspec.to_builtins(comparison.figures())
    return found


def _observe(distribution: Distribution, values: NDArray[np.float64]) -> None:
    places = np.bincount(np.searchsorted(DIFFERENCES, values), minlength=len(distribution.counts))
    distribution.counts = (places + distribution.counts).tolist()
    distribution.sum += float(values.sum())
