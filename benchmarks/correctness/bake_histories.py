"""Made-up histories of a baking version, resampled from scrapes of a real run, and how the guard's rules judge them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from registry.moves.plan_bake import bar_of
from registry.rules.alarms import Alarm, Bar, parse_alarm
from registry.rules.counted import Counted, Key, added
from registry.rules.figures import Share, measure
from registry.rules.looks import Watch, look

LOOKS = 180
"""Of half an hour's bake, one every ten seconds."""
TWICE = 2.0


@dataclass(frozen=True)
class Recording:
    """What a server counted of one version in each second of a run.

    Attributes:
        version: the version.
        seconds: how much each counter grew, second by second.
        together: so many seconds in a row make one look; they stay together, as what comes in runs does.
    """

    version: str
    seconds: list[Mapping[Key, float]]
    together: int = 10

    @cached_property
    def stretches(self) -> list[dict[Key, float]]:
        """What was counted in every stretch of so many seconds in a row."""
        places = range(len(self.seconds) - self.together + 1)
        return [added(self.seconds[place : place + self.together]) for place in places]

    @cached_property
    def looks(self) -> list[Counted]:
        """The same, by metric."""
        return [Counted(stretch, self.version) for stretch in self.stretches]

    @cached_property
    def table(self) -> NDArray[np.float64]:
        """The same, a row a stretch and a column a counter."""
        return np.array([list(stretch.values()) for stretch in self.stretches])

    def half_hour(self, rng: np.random.Generator) -> Counted:
        """As many stretches as a half hour has, drawn with replacement."""
        drawn = rng.integers(0, len(self.stretches), LOOKS)
        return Counted(dict(zip(self.stretches[0], self.table[drawn].sum(axis=0).tolist(), strict=True)), self.version)


def read_recording(path: Path) -> Recording:
    """Reads what `python -m benchmarks.bake record` wrote."""
    document = json.loads(path.read_text())
    keys = [(name, frozenset((label, value) for label, value in labels)) for name, labels in document["keys"]]
    rows = [dict(zip(keys, row, strict=True)) for row in document["seconds"]]
    return Recording(document["version"], rows)


def write_recording(path: Path, recording: Recording) -> None:
    """Writes a recording: the samples' names once, then a row of numbers a second."""
    keys = sorted({key for second in recording.seconds for key in second}, key=lambda key: (key[0], sorted(key[1])))
    rows = [[second.get(key, 0.0) for key in keys] for second in recording.seconds]
    named = [[name, sorted(labels)] for name, labels in keys]
    lines = ",\n".join(json.dumps([round(value, 6) for value in row], separators=(",", ":")) for row in rows)
    head = f'"version": {json.dumps(recording.version)},\n"keys": {json.dumps(named)}'
    path.write_text(f'{{{head},\n"seconds": [\n{lines}\n]}}\n')


@dataclass(frozen=True)
class Outcome:
    """How the rules judged made-up histories.

    Attributes:
        false: of how many whose figures stayed as they were an alarm at twice those fired.
        found: of how many whose figures were twice the bar an alarm fired within five looks that said something.
        histories: of each kind.
        seconds: median of the time that the latter took.
    """

    false: int
    found: int
    histories: int
    seconds: float


def judge(recording: Recording, metric: str, histories: int, seed: int) -> Outcome:
    """Judges histories by one metric: of a version like the one before, and of one at twice the bar."""
    rng, looks = np.random.default_rng(seed), recording.looks
    alarm, false, found, took = parse_alarm(f"{metric}>2x"), 0, 0, list[int]()
    for _ in range(histories):
        before = recording.half_hour(rng)
        false += _until_it_fires(bar_of(alarm, before, recording.version), looks, rng, LOOKS)[0]
        fires, verdicts, scrapes = _until_it_fires(_half(alarm, before), looks, rng, 10 * LOOKS)
        found += fires and verdicts <= 5
        took.append(scrapes)
    return Outcome(false, found, histories, float(np.median(took)) * recording.together)


def _half(alarm: Alarm, counted: Counted) -> Bar:
    """A bar of which what was counted is twice as much."""
    figure = measure(alarm.metric, alarm.of, counted)
    value = figure.value if isinstance(figure, Share) else figure
    assert value is not None
    return Bar(f"{alarm.name}>{value / TWICE:.6f}", value / TWICE)


def _until_it_fires(bar: Bar, looks: list[Counted], rng: np.random.Generator, most: int) -> tuple[bool, int, int]:
    """Whether an alarm fires, and after how many looks that said something, and how many scrapes."""
    watch, verdicts = Watch(bar), 0
    for scrapes, place in enumerate(rng.integers(0, len(looks), most), 1):
        watch = look(watch, looks[place])
        verdicts += watch.verdict != "none"
        if watch.fires:
            return True, verdicts, scrapes
    return False, verdicts, most
