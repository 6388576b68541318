"""python -m benchmarks.canary [--moves 100 --cars 16 --workers 2 --poll-s 0.5]: one version an episode, over moves.

A real carla-serve with --canary follows a real `mlflow server` while cars drive episode after episode, each step on
another connection. Meanwhile a canary is promoted, gets a larger share, is rolled back, is promoted to production, and
production is rolled back. Prints how many episodes were answered by two versions, how many ended because a roll-back
left their version, and how long after a roll-back the version left answered last.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

from benchmarks.policies.two_policies import NAME, Questions, small_policy, write
from benchmarks.support.command_line import add_workers, parser_of
from benchmarks.support.connection import ask
from benchmarks.support.episode_load import EpisodeLoad
from benchmarks.support.mlflow_server import MlflowServer
from benchmarks.support.our_server import OurServer
from benchmarks.support.percentiles import median
from benchmarks.support.requests import get_request
from benchmarks.support.waiting import seconds_until

OLD, NEW = "1.0.0", "1.1.0"
ROUND: tuple[tuple[str, str, float | None], ...] = (
    (NEW, "canary", 20.0),
    (NEW, "canary", 60.0),
    ("rollback", "canary", None),
    (NEW, "canary", 30.0),
    (NEW, "production", None),
    ("rollback", "production", None),
)
"""The moves, again and again: version or roll-back, alias, share in percent."""
PAUSE_S = 0.005
"""Seconds between two steps of a car, so that the cars leave a small machine time for the moves."""
SETTLED_S = 0.5
"""Seconds after which what one worker has read of a small file, the others have, too."""


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--cars", type=int, default=16)
    add_workers(parser, 2)
    parser.add_argument("--poll-s", type=float, default=0.5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        registry = MlflowServer(home)
        os.environ.update(MLFLOW_TRACKING_URI=registry.uri, POLICY_CACHE_DIR=str(home / "cache"))
        try:
            measure(options, home)
        finally:
            registry.kill()


def measure(options: argparse.Namespace, home: Path) -> None:
    """Registers two versions, serves them to cars, makes the moves, and prints the figures."""
    from registry.moves.registration import register
    from registry.store.cache import default_cache
    from registry.store.store import Store

    artifacts = {version: small_policy(version, seed) for seed, version in enumerate((OLD, NEW))}
    for artifact in artifacts.values():
        register(Store(), str(write(artifact, home / "policies")), default_cache())
    make_move(OLD, "production", None)
    flags = ["--model", f"{NAME}@production", "--canary", "--workers", str(options.workers)]
    server = OurServer(*flags, "--poll-s", str(options.poll_s), folder=home, is_quiet=False)
    body = Questions(list(artifacts.values()), 1).bodies[0]
    with server, EpisodeLoad(int(server.port), body, options.cars, pause_s=PAUSE_S) as load:
        waits = []
        for number in tqdm(range(options.moves), disable=None):
            version, alias, share = ROUND[number % len(ROUND)]
            make_move(version, alias, share)
            moved = time.monotonic()
            wait_for(server, version, alias, share)
            time.sleep(SETTLED_S)
            if version == "rollback":
                settled = time.monotonic()
                wait(load.each_car_is_further(1))
                waits.append(load.record.last_of(artifacts[NEW].digest, moved) - moved)
                assert load.record.last_of(artifacts[NEW].digest, settled) == settled, "the version left answers"
            else:
                wait(load.each_car_is_further(1))
        report(options, load, waits)


def make_move(version: str, alias: str, share: float | None) -> None:
    """Makes a move as carla-registry does, without its gates, which have benchmarks of their own."""
    from registry.moves.promotion import promote, rollback
    from registry.moves.terms import GateResult, MoveOptions
    from registry.rules.reference import parse_reference
    from registry.store.cache import default_cache
    from registry.store.store import Store

    if version == "rollback":
        rollback(Store(), NAME, alias, default_cache(), MoveOptions(), lambda *_: GateResult())
    else:
        reference, options = parse_reference(f"{NAME}@{version}"), MoveOptions(share=share)
        promote(Store(), reference, alias, default_cache(), options, lambda *_: GateResult())


def wait_for(server: OurServer, version: str, alias: str, share: float | None) -> None:
    """Waits until the server answers as the registry says."""

    def is_done() -> bool:
        metadata: dict[str, Any] = msgspec.json.decode(ask(server.port, get_request("/metadata")).body)
        canary = metadata["canary"]
        if alias == "production":
            return metadata["version"] == (OLD if version == "rollback" else version) and canary is None
        shares = None if canary is None else canary["share"]
        return bool(shares == share)

    wait(is_done)


def wait(happened: Callable[[], object]) -> None:
    """Waits until it returns true; raises TimeoutError."""
    if math.isinf(seconds_until(happened, 60.0, 0.05)):
        raise TimeoutError("the server does not follow")


def report(options: argparse.Namespace, load: EpisodeLoad, waits: list[float]) -> None:
    """Prints the figures."""
    record, digests = load.record, load.record.digests()
    mixed = sum(len(by) > 1 for by in digests.values())
    print(f"{options.moves} moves, {options.cars} cars, {options.workers} workers, polling every {options.poll_s:g} s")
    print(f"requests               {len(record.answers):,}, failed {len(record.failed)}")
    print(f"episodes               {len(digests):,}, answered by two versions {mixed}")
    print(f"ended by a roll-back   {sum(record.ended.values()):,} ({', '.join(record.ended) or 'none'})")
    if waits:
        print(f"last old answer, s     median {median(waits):.2f}, longest {max(waits):.2f} after the roll-back")
    for failure in sorted(set(record.failed))[:5]:
        print(f"failed: {failure}")


if __name__ == "__main__":
    main()
