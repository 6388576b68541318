"""A quarter of an hour of a car, as a worker that has ended counted it, and the journal's moves meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from carla_mlflow import Artifact, Engine
from registry.rules.chain import next_link
from registry.rules.journal import Move, read_entry
from serve.following.last_moves import MOVES_FILE, LastMoves, shown_move
from serve.run_folder import METRICS, write_file
from serve.telemetry.metrics import SECONDS, TENTHS
from serve.telemetry.recent_counts import SLOT_S, SLOTS, RecentCounts, slot_now

A_SLOT = 20 * SLOT_S
"""Observations in a slot, at 20 Hz."""
COUNTER_FOLDER = "TEST_QUARTER_HOUR"


def fill(run_folder: Path, artifact: Artifact) -> None:
    """Writes the counts of an ended worker into a server's run folder, and the moves of a journal."""
    actions, late = _drive(artifact, SLOTS * A_SLOT), _lateness(SLOTS)
    rng = np.random.default_rng(7)
    slot = first = slot_now() - SLOTS + 1
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(COUNTER_FOLDER, str(run_folder / METRICS))
        recent = RecentCounts(COUNTER_FOLDER, lambda: slot)
        for slot in range(first, first + SLOTS - 1):
            place = slot - first
            rows = actions[place * A_SLOT : (place + 1) * A_SLOT]
            seconds = rng.lognormal(np.log(0.0006 * late[place]), 0.7, len(rows))
            recent.add("latency", "total", _buckets(seconds, SECONDS))
            fallbacks = int((seconds > 0.01).sum())
            for code, count in (("200", len(rows) - fallbacks), ("504", fallbacks), ("422", place % 41 == 0)):
                recent.add("codes", code, [int(count)])
            for column, (name, bound) in enumerate((("throttle", 1), ("brake", 1), ("steer", 1))):
                values = rows[:, column]
                recent.add("actions", name, _buckets(values, TENTHS))
                recent.add("saturated", name, (int((np.abs(values) >= bound).sum()), len(rows)))
            for field, size, share in (("speed", 1, 0.004), ("steering", 1, 0.03), ("sensors", 12, 0.08)):
                recent.add("outside", field, (int(rng.binomial(size * len(rows), share)), size * len(rows)))
        slot += 1
        recent.turn()
        own = run_folder / METRICS / f"recent-{os.getpid()}.lines"
        own.rename(own.with_name("recent-1.lines"))
    _enter_moves(run_folder)


def _drive(artifact: Artifact, rows: int) -> np.ndarray:
    """What the policy does on a road that bends, behind cars that come and go."""
    rng, seconds = np.random.default_rng(3), np.arange(rows) / 20
    beams = 0.55 + 0.4 * np.sin(seconds[:, None] / 37 + np.arange(12) / 2) + rng.normal(0, 0.08, (rows, 12))
    observations = {
        "speed": (6 + 4 * np.sin(seconds / 61) + rng.normal(0, 0.3, rows)).clip(0, 60).astype(np.float32),
        "steering": (0.5 * np.sin(seconds / 23) + rng.normal(0, 0.05, rows)).clip(-1, 1).astype(np.float32),
        "sensors": beams.clip(0, 1).astype(np.float32),
    }
    return Engine(artifact).act(observations).control


def _lateness(slots: int) -> np.ndarray:
    """How many times as long an answer takes; a neighbour on the machine is busy for two minutes."""
    late = np.ones(slots)
    late[70:94] = 6.0
    return late


def _buckets(values: np.ndarray, bounds: tuple[float, ...]) -> list[int]:
    up_to = np.sort(values).searchsorted(np.array(bounds), side="right")
    return np.diff(up_to, prepend=0, append=len(values)).tolist()


def _enter_moves(run_folder: Path) -> None:
    now, entries = time.time(), []
    for move in (
        Move("register", "0.1.0", "candidate", None, "ada@training", now - 9000),
        Move("promote", "0.1.0", "production", None, "ada@training", now - 8400, "drives the whole track"),
        Move("promote", "0.1.1", "production", "0.1.0", "grace@cars", now - 560, "brakes earlier in the second bend"),
        Move("rollback", "0.1.0", "production", "0.1.1", "grace@cars", now - 380, "oscillates behind slow cars"),
    ):
        link = next_link(entries, move)
        entries.append(read_entry(len(entries) + 1, link.to_bytes().decode(), link.hash, True))
    write_file(run_folder / MOVES_FILE, LastMoves(now, tuple(map(shown_move, reversed(entries)))))
