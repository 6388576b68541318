"""What is known of the shadow: two small files in the run folder, one by its process and one by the master process."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from serve.run_folder import Refused, read_file

SHADOW, REPORT, LIFE = "shadow", "report.json", "life.json"
"""The shadow's subfolder of the run folder, which is there with --shadow only, and the two files in it."""
STARTING = "starting"
DIFFERENCES = (0.0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Upper bounds of the buckets of differences; 0 counts those that are equal."""


class Distribution(msgspec.Struct):
    """Differences in one dimension: counts by DIFFERENCES, the last one without an upper bound, and their sum."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(DIFFERENCES) + 1))
    sum: float = 0.0


class Counts(msgspec.Struct):
    """What is counted of one version as a shadow, beside any champion.

    Attributes:
        rows: observations that were compared.
        disagreements: of those, the ones in which the two disagree, as `serve.shadow.disagreement` defines it.
        brake_disagreements: of those, the ones in which one brakes and the other accelerates.
        differences: by dimension.
    """

    rows: int = 0
    disagreements: int = 0
    brake_disagreements: int = 0
    differences: dict[str, Distribution] = {}


class Beside(msgspec.Struct):
    """What was found beside one champion.

    Attributes:
        version: of the champion.
        digest: of the champion.
        rows: observations that were compared.
        disagreements: of those, the ones in which the two disagree.
        figures: as `python -m serve replay --json` has them.
        run: id of the MLflow run that this is logged to; None without --shadow-log, or before it is.
    """

    version: str
    digest: str
    rows: int = 0
    disagreements: int = 0
    figures: dict[str, Any] = {}
    run: str | None = None


class ShadowReport(msgspec.Struct, kw_only=True):
    """What the shadow's process writes, every second while there is news.

    Attributes:
        start: which start of the process wrote it, as `ShadowLife.starts` counts them.
        name: of its policy; this and the next two are empty while it has none.
        version: of its policy.
        digest: of its policy.
        reason: why it compares nothing now; None when it does.
        refused: versions that it refused.
        counts: of the version that it has.
        skipped: reason → observations that could not be compared, of all versions since the server was started.
        beside: by champion, the latest last.
        unlogged: why the evidence could not be logged; None when it could, or is not to be.
    """

    start: int = 0
    name: str = ""
    version: str = ""
    digest: str = ""
    reason: str | None = STARTING
    refused: tuple[Refused, ...] = ()
    counts: Counts = msgspec.field(default_factory=Counts)
    skipped: dict[str, int] = {}
    beside: list[Beside] = []
    unlogged: str | None = None


class ShadowLife(msgspec.Struct, frozen=True):
    """What the server's master process writes.

    Attributes:
        reference: what the shadow follows, as clients may see it.
        share: of the episodes, and of the requests without one, that it sees.
        since: when it was first started, seconds since 1970.
        starts: how often it was started.
        ended: why it does not run now; None while it does.
    """

    reference: str
    share: float
    since: float
    starts: int = 0
    ended: str | None = None


class ShadowState(NamedTuple):
    """Both, as the server's other processes see them."""

    life: ShadowLife
    report: ShadowReport

    @property
    def reason(self) -> str | None:
        """Why nothing is compared now; None when something is."""
        was_written = self.report.start == self.life.starts
        return self.life.ended or (self.report.reason if was_written else STARTING)

    @property
    def is_up(self) -> bool:
        """Whether its process runs and has a policy to compare."""
        return self.reason is None


def report_file(folder: Path) -> Path:
    """Path of the process's report in a server's run folder."""
    return folder / SHADOW / REPORT


def life_file(folder: Path) -> Path:
    """Path of what the master process writes of it in the server's run folder."""
    return folder / SHADOW / LIFE


def read_shadow(folder: Path) -> ShadowState | None:
    """Reads both files in a server's run folder; None where the server has no shadow."""
    life = read_file(life_file(folder), ShadowLife)
    return None if life is None else ShadowState(life, read_file(report_file(folder), ShadowReport) or ShadowReport())
