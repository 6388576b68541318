"""The flags of `evaluate` that say under which latency a policy drives."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from carla_mlflow.cli import positive
from carla_mlflow.client.server_key import API_KEY
from carla_mlflow.latency.parse import MEASURED

if TYPE_CHECKING:
    from carla_mlflow.contract.card import Card
    from carla_mlflow.inference.engine import Engine
    from carla_mlflow.latency.sources import LatencySource
    from training_export.evaluation.applied_latency import AppliedLatency
    from training_export.evaluation.delayed import Delay
    from training_export.racetrack.driving import Driver


def add_latency(command: argparse.ArgumentParser) -> None:
    """Adds the flags, in a group of their own."""
    group = command.add_argument_group("latency (docs/how-to/latency.md)")
    group.add_argument(
        "--latency",
        metavar="35ms|TRACE|measured",
        help="an action applies so long after its observation: always (35ms), as a trace says (a Parquet file with the "
        "column latency_ms, or runs:/ID/latency.parquet), or as --through measures",
    )
    group.add_argument(
        "--through",
        metavar="URL",
        help=f"ask this server, which has to serve the policy, one request at a time; its key: {API_KEY}",
    )
    group.add_argument(
        "--budget-ms", type=positive(float), metavar="MS", help="a later answer is the card's fallback (default: none)"
    )
    group.add_argument("--trace", type=Path, metavar="FILE", help="write the latencies that applied, for --latency")


def latency_problem(options: argparse.Namespace) -> str | None:
    """What is wrong with the combination of these flags; None if nothing."""
    given = {"--latency": options.latency, "--through": options.through}
    others = {"--budget-ms": options.budget_ms, "--trace": options.trace}
    first = next((flag for flag, value in {**given, **others}.items() if value is not None), None)
    if first is not None and options.env:
        return f"{first} is for the racetrack, not for --env, whose steps are whole ticks"
    if options.latency == MEASURED and options.through is None:
        return "--latency measured needs --through URL, the server whose answers are measured"
    if first in others:
        return f"{first} needs a latency: --latency 35ms, or --through URL"
    return None


def check_latency(options: argparse.Namespace) -> None:
    """Refuses a --latency that names none before the policy is loaded, which takes seconds; runs:/ are read later.

    Raises:
        DrivingError: it names no latency.
    """
    from carla_mlflow.latency.parse import parse_latency

    if options.latency is not None and not options.latency.startswith("runs:/"):
        parse_latency(options.latency)


def read_delay(options: argparse.Namespace, card: Card) -> Delay | None:
    """Under which latency to drive; None for none, in the racetrack itself.

    Raises:
        DrivingError: --latency names no latency, or --trace no folder.
    """
    if options.latency is None and options.through is None:
        return None
    from carla_mlflow.contract.answer import fallback_row
    from carla_mlflow.latency.trace import check_target
    from training_export.evaluation.delayed import Delay

    if options.trace is not None:
        check_target(options.trace)
    return Delay(_source(options.latency or MEASURED), options.budget_ms, fallback_row(card.action))


def _source(text: str) -> LatencySource:
    from carla_mlflow.latency.parse import parse_latency

    if not text.startswith("runs:/"):
        return parse_latency(text)
    import mlflow

    with tempfile.TemporaryDirectory() as scratch:
        return parse_latency(mlflow.artifacts.download_artifacts(text, dst_path=scratch))


@contextmanager
def policy_driver(engine: Engine, options: argparse.Namespace, delay: Delay | None) -> Iterator[Driver]:
    """The policy as a driver: in this process or behind a server, at once or under a latency."""
    from training_export.evaluation.delayed import DelayedDriver
    from training_export.evaluation.episode_driver import EpisodeDriver
    from training_export.evaluation.served import served

    if delay is None:
        yield EpisodeDriver(engine)
    elif options.through is None:
        yield DelayedDriver(EpisodeDriver(engine), delay)
    else:
        with served(options.through, engine, os.environ.get(API_KEY, "")) as decides:
            yield DelayedDriver(decides, delay)


def applied_latency(driver: Driver, options: argparse.Namespace, delay: Delay | None) -> AppliedLatency | None:
    """What that driver has driven under, written to --trace."""
    from training_export.evaluation.applied_latency import AppliedLatency
    from training_export.evaluation.delayed import DelayedDriver
    from training_export.evaluation.served import shown

    if delay is None or not isinstance(driver, DelayedDriver):
        return None
    if options.trace is not None:
        driver.applied.write(options.trace)
    return AppliedLatency(delay, driver.applied, driver.late, options.through and shown(options.through))
