"""The shadow's loop: reads what the workers leave in their rings, acts on it, compares, and reports.

Everything that it knows is in its report, written in one piece, so that another process goes on with it: no row is
counted twice or forgotten. After a process that was killed it goes on with what comes from then on, as the next rows
may have killed it. The episodes of a policy with memory are skipped until they begin anew.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path

import msgspec
import pyarrow as pa

from carla_mlflow.errors import RefusedError
from carla_mlflow.escaping import one_line
from carla_mlflow.flavor.environment import prepare_mlflow
from serve.flags import settings_from_environment
from serve.following.attempts import withdraw
from serve.policy.serving import Serving
from serve.record.start import rings_folder
from serve.replay.rerun import Rerun
from serve.replay.rows import Rows, with_outcome
from serve.run_folder import SERVER_PID, read_file, write_file
from serve.settings import Settings
from serve.shadow.evidence_log import EvidenceLog
from serve.shadow.feed import Feed
from serve.shadow.policy import ShadowPolicy
from serve.shadow.reasons import NO_ACTION, NO_OBSERVATION, OTHER_CONTRACT, RESTART, UNREADABLE, UNUSABLE
from serve.shadow.saved import Saved, SavedReport
from serve.shadow.shadow_process import RUN_FOLDER, START, shown_shadow
from serve.shadow.tally import Tally
from serve.telemetry.log_setup import start_logging
from serve.telemetry.shadow_report import report_file

POLL_S = 0.1
"""Seconds between two looks into the rings while nothing is in them."""
REPORT_S, BEAT_S = 1.0, 10.0
"""Seconds between two reports with news, and the most between two reports."""

log = logging.getLogger("serve.shadow")


class Shadow:
    """One process of the shadow."""

    def __init__(self, settings: Settings, run_folder: Path, server: int, start: int) -> None:
        """Goes on from what an earlier process has written.

        Args:
            settings: of the server.
            run_folder: of the server.
            server: process id of the server.
            start: number of this start.
        """
        self._settings, self._path, self._start = settings, report_file(run_folder), start
        known = read_file(self._path, SavedReport)
        before = known or SavedReport()
        self._policy = ShadowPolicy(settings, run_folder, server)
        self._tally = Tally(before.saved.tally)
        self._tally.skip(RESTART, before.saved.held)
        is_killed = known is not None and not before.saved.has_ended
        self._feed = Feed(
            rings_folder(run_folder),
            settings.shadow_share,
            before.saved.positions,
            only_new=is_killed,
            frees=not settings.record,
        )
        reference = shown_shadow(settings.shadow)
        self._log = EvidenceLog(self._tally, reference, settings.shadow_share) if settings.shadow_log else None
        self._serving: Serving | None = None
        self._rerun: Rerun | None = None
        self._written, self._written_at = msgspec.Raw(b""), 0.0

    def run(self, stop: threading.Event) -> int:
        """Runs until it is told to stop; returns the exit code."""
        while not stop.is_set() and not self._policy.has_failed:
            is_idle = not self.step()
            if self._log is not None and self._serving is not None:
                self._log.update_soon(self._serving)
            self._report()
            if is_idle:
                stop.wait(POLL_S)
        self._finish_log()
        self._report(has_ended=True)
        return 0 if stop.is_set() else 1

    def step(self) -> bool:
        """Compares what is new; returns whether there was anything.

        Without a policy the rows stay in the rings, for as long as their workers live.
        """
        self._policy.look()
        serving, some = self._policy.serving, False
        if serving is None:
            self._feed.free_ended()
        else:
            some = self._compare_new(serving)
        for reason, rows in self._feed.take_lost().items():
            self._tally.skip(reason, rows)
        return some

    def _compare_new(self, serving: Serving) -> bool:
        if self._serving is None or serving.digest != self._serving.digest:
            self._take(serving)
        assert self._rerun is not None
        some = False
        for digest, batch in self._feed.read(in_order=serving.card.memory is not None):
            some = True
            self._compare(digest, batch, self._rerun)
        return some

    def _take(self, serving: Serving) -> None:
        """Begins with another version, or with the one that an earlier process had."""
        if serving.digest != self._tally.digest:
            self._finish_log()
            self._tally.begin(serving.digest)
        self._serving, self._rerun = serving, Rerun(serving.engine, from_start=True)
        log.info("the shadow is %s %s (%s)", serving.card.name, serving.version, serving.digest)

    def _finish_log(self) -> None:
        if self._log is not None and self._serving is not None:
            self._log.finish(self._serving)

    def _compare(self, digest: str, batch: pa.RecordBatch, rerun: Rerun) -> None:
        """Compares rows of one champion; `digest` has 64 hex digits."""
        card = self._feed.card_of(digest)
        pair = self._tally.pair(card, f"sha256:{digest}")
        acted = with_outcome(batch, "policy")
        self._tally.skip(NO_ACTION, len(batch) - len(acted), pair)
        if not len(acted):
            return
        if card.contract != rerun.engine.card.contract:
            self._tally.skip(OTHER_CONTRACT, len(acted), pair)
            return
        try:
            rows = Rows.of(acted, card)
            answers = None if rows.observations is None else rerun.act(rows)
        except Exception as error:  # the boundary: whatever the policy makes a library raise, want of memory included
            log.warning("%d rows can't be compared: %s", len(acted), one_line(error))
            self._tally.skip(UNREADABLE if isinstance(error, RefusedError) else UNUSABLE, len(acted), pair)
            return
        if answers is None:
            self._tally.skip(NO_OBSERVATION, len(acted), pair)
        else:
            self._tally.add(pair, card, rows, answers)

    def _report(self, has_ended: bool = False) -> None:
        """Writes the report where there is news; and from time to time without, as a sign of life."""
        now = time.monotonic()
        if now - self._written_at < REPORT_S and not has_ended:
            return
        report = msgspec.Raw(msgspec.json.encode(self._made(has_ended)))
        if report == self._written and now - self._written_at < BEAT_S:
            return
        self._written, self._written_at = report, now
        try:
            write_file(self._path, report)
        except OSError as error:
            log.warning("the report can't be written: %s", error)

    def _made(self, has_ended: bool) -> SavedReport:
        card = None if self._serving is None else self._serving.card
        reason = self._policy.reason
        return SavedReport(
            start=self._start,
            name=card.name if card else "",
            version=card.version if card else "",
            digest=self._serving.digest if self._serving else "",
            reason=reason,
            refused=self._policy.refused,
            counts=self._tally.counts,
            skipped=dict(self._tally.skipped),
            beside=self._tally.beside(),
            unlogged=self._log.problem if self._log else None,
            saved=Saved(self._tally.saved(), self._feed.positions, self._feed.rows_held, has_ended),
        )


def run() -> int:
    """The process's main program, once it has its low priority; returns the exit code."""
    settings, stop = settings_from_environment(os.environ), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    start_logging(settings)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_of_shadow)
    prepare_mlflow()
    server, start = int(os.environ[SERVER_PID]), int(os.environ[START])
    try:
        code = Shadow(settings, Path(os.environ[RUN_FOLDER]), server, start).run(stop)
    except Exception:
        log.exception("the shadow failed")
        code = 1
    withdraw()
    logging.shutdown()
    os._exit(code)  # without waiting for threads that wait for a download or for MLflow


def _of_shadow(record: logging.LogRecord) -> bool:
    """Names the lines of this process: others would read `not ready` as if it were said of what is served."""
    name, _, rest = record.name.partition(".")
    if name == "serve" and not rest.startswith("shadow"):
        record.name = f"serve.shadow.{rest}".rstrip(".")
    return True
