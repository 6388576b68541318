"""python -m benchmarks.latency [ARTIFACT]: how a policy drives on the racetrack when its actions land later.

For each latency the share of episodes without a fault, with its 95 % interval (Wilson's), and how far the car came;
then the same with a budget, past which the card's fallback drives. With --proxied a real server is asked through a
proxy that lets each answer come that much later, in real time, and what is measured applies: the two should agree.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from scipy.stats import binomtest

from benchmarks.failures.delaying import DelayingProxy
from benchmarks.support.command_line import add_artifact, parser_of
from benchmarks.support.our_server import OurServer
from benchmarks.support.table import Column, Table
from carla_mlflow import Engine
from carla_mlflow.contract.answer import fallback_row
from carla_mlflow.latency.sources import Constant, LatencySource, Measured
from training_export.evaluation.delayed import Decides, Delay, DelayedDriver
from training_export.evaluation.episode_driver import EpisodeDriver
from training_export.evaluation.evaluate import run_episodes
from training_export.evaluation.served import served
from training_export.racetrack.conditions import Conditions
from training_export.racetrack.driving import Episode, summarise

LATENCIES_MS = (0.0, 20.0, 50.0, 100.0, 200.0, 400.0)
FIRST_SEED = 20_000
COLUMNS = (
    Column("whole %", 9, ".0f"),
    Column("interval", 12),
    Column("collision %", 13, ".0f"),
    Column("off road %", 12, ".0f"),
    Column("m", 7, ".0f"),
    Column("late %", 9, ".0f"),
)


@dataclass(frozen=True)
class Driven:
    """How a policy drove.

    Attributes:
        episodes: outcome of each.
        late: share of requests past the budget.
        longest_ms: the longest latency that applied.
    """

    episodes: list[Episode]
    late: float
    longest_ms: float

    @property
    def whole(self) -> float:
        """The share of episodes without a fault, per cent."""
        return 100 * sum(episode.succeeded for episode in self.episodes) / len(self.episodes)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of that share, per cent."""
        count = len(self.episodes)
        found = binomtest(sum(e.succeeded for e in self.episodes), count).proportion_ci(method="wilson")
        return 100 * found.low, 100 * found.high

    @property
    def metres(self) -> float:
        """How far an episode came on average."""
        return float(summarise(self.episodes)["distance_m_mean"])


def main() -> None:
    parser = parser_of(__doc__)
    add_artifact(parser)
    parser.add_argument("--episodes", type=int, default=20, help="of each row (default %(default)s)")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="default %(default)s")
    parser.add_argument("--budget-ms", type=float, default=100.0, help="default %(default)g: one tick")
    parser.add_argument("--proxied", type=float, nargs="*", default=[], metavar="MS", help="through a real server, too")
    parser.add_argument("--processes", type=int, default=1, help="that drive side by side (default %(default)s)")
    parser.add_argument("--plot", type=Path, help="write a picture here")
    options = parser.parse_args()
    conditions = Conditions(options.episodes, options.first_seed, traffic=4)
    plain = _simulated(f"no budget, {options.episodes} episodes", options, conditions, None, LATENCIES_MS)
    # Where nothing is late a budget changes nothing.
    late = [ms for ms in LATENCIES_MS if ms > options.budget_ms]
    kept = plain | _simulated(f"budget {options.budget_ms:g} ms", options, conditions, options.budget_ms, late)
    if options.proxied:
        _print_heading("a real server behind a proxy")
        for ms in options.proxied:
            _print(ms, _proxied(options.artifact, conditions, ms))
    if options.plot:
        _plot(plain, kept, options).savefig(options.plot, dpi=100)


def _simulated(
    heading: str,
    options: argparse.Namespace,
    conditions: Conditions,
    budget_ms: float | None,
    latencies: Sequence[float],
) -> dict[float, Driven]:
    """Drives at each latency, and prints each row as soon as it is known."""
    driven = {}
    _print_heading(heading)
    with ProcessPoolExecutor(options.processes) as pool:
        asked = [(ms, pool.submit(_at, options.artifact, conditions, ms, budget_ms)) for ms in latencies]
        for ms, each in asked:
            driven[ms] = each.result()
            _print(ms, driven[ms])
    return driven


def _at(artifact: Path, conditions: Conditions, ms: float, budget_ms: float | None) -> Driven:
    engine = Engine.open(artifact)
    return _drive(EpisodeDriver(engine), engine, Constant(round(ms * 1e3)), budget_ms, conditions, f"{ms:g} ms")


def _drive(
    decides: Decides, engine: Engine, source: LatencySource, budget_ms: float | None, conditions: Conditions, what: str
) -> Driven:
    driver = DelayedDriver(decides, Delay(source, budget_ms, fallback_row(engine.card.action)))
    episodes = run_episodes(driver, conditions, what)
    asked = len(driver.applied.us)
    return Driven(episodes, driver.late / asked, driver.applied.figures()["max_ms"])


def _proxied(artifact: Path, conditions: Conditions, ms: float) -> Driven:
    engine = Engine.open(artifact)
    with OurServer("--model", str(artifact)) as server:
        url = f"http://127.0.0.1:{server.port}"
        with DelayingProxy(url, ms / 1e3) as proxy, served(proxy.url, engine, "") as decides:
            return _drive(decides, engine, Measured(), None, conditions, f"{ms:g} ms, proxied")


def _print_heading(text: str) -> None:
    print()
    Table(text, 34, COLUMNS).print_heading()


def _print(ms: float, driven: Driven) -> None:
    figures, (low, high) = summarise(driven.episodes), driven.interval
    Table("", 34, COLUMNS).print_row(
        f"{ms:g} ms, longest {driven.longest_ms:.1f}",
        driven.whole,
        f"{low:.0f}–{high:.0f}",
        100 * figures["collision_rate"],
        100 * figures["off_road_rate"],
        driven.metres,
        100 * driven.late,
    )


def _plot(plain: dict[float, Driven], kept: dict[float, Driven], options: argparse.Namespace) -> Figure:
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    told = ((plain, "no budget", "tab:blue"), (kept, f"budget {options.budget_ms:g} ms", "tab:orange"))
    for rows, label, colour in told:
        wholes = [driven.whole for driven in rows.values()]
        bars = [[abs(driven.whole - driven.interval[end]) for driven in rows.values()] for end in (0, 1)]
        left.errorbar([*rows], wholes, bars, marker="o", capsize=3, label=label, color=colour, alpha=0.7)
        metres = [driven.metres for driven in rows.values()]
        right.plot([*rows], metres, marker="o", label=label, color=colour, alpha=0.7)
    left.set_title(f"{options.episodes} episodes each, 95 % intervals", fontsize="medium")
    left.set_ylabel("whole episodes, %")
    left.set_ylim(-3, 103)
    right.set_title("how far the car came", fontsize="medium")
    right.set_ylabel("metres in 30 s")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xlabel("latency, ms")
        axes.legend(loc="center left")
    return figure


if __name__ == "__main__":
    main()
