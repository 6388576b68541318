"""python -m benchmarks.promotions [--moves 100 --connections 16 --workers 2 --poll-s 5 --no-hook]: the cost of a move.

A real carla-serve follows an alias of a real `mlflow server` under steady load, while the alias moves back and forth
between two versions with different weights, as MLflow's UI moves it. Prints how many requests failed, how many
responses were not their version's, how long until no worker answers with the old version, and memory before and after.
"""

from __future__ import annotations

import argparse
import os
import secrets
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from benchmarks.policies.two_policies import NAME, Questions, small_policy, write
from benchmarks.support.command_line import add_workers, parser_of
from benchmarks.support.mlflow_server import MlflowServer
from benchmarks.support.our_server import OurServer
from benchmarks.support.percentiles import median, p99
from benchmarks.support.steady_load import Record, SteadyLoad

SETTLE_S = 8.0


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--connections", type=int, default=16)
    add_workers(parser, 2)
    parser.add_argument("--poll-s", type=float, default=5.0)
    parser.add_argument("--no-hook", action="store_true", help="follow by polling only, without MLflow's webhook")
    parser.add_argument("--store", help="MLflow's database, such as postgresql+psycopg2://… (default: SQLite)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        registry = MlflowServer(home, options.store)
        os.environ.update(MLFLOW_TRACKING_URI=registry.uri, POLICY_CACHE_DIR=str(home / "cache"))
        try:
            measure(options, registry, home)
        finally:
            registry.kill()


def measure(options: argparse.Namespace, registry: MlflowServer, home: Path) -> None:
    """Registers two versions, serves them under load, moves the alias, and prints the figures."""
    import mlflow

    from registry.moves.registration import register
    from registry.store.cache import default_cache
    from registry.store.store import Store

    client, secret = mlflow.MlflowClient(), secrets.token_hex(16)
    flags = ["--model", f"{NAME}@production", "--workers", str(options.workers), "--poll-s", str(options.poll_s)]
    server = OurServer(*flags, environment={"POLICY_WEBHOOK_SECRET": secret}, folder=home, is_quiet=False)
    url = f"http://127.0.0.1:{server.port}"
    if not options.no_hook:  # first, as MLflow caches for a minute that there is no webhook
        events = ["model_version_alias.created"]
        client.create_webhook(name="carla-serve", url=f"{url}/hooks/mlflow", events=events, secret=secret)
    artifacts = [small_policy("1.0.0", 1), small_policy("1.1.0", 2)]
    for artifact in artifacts:
        register(Store(), str(write(artifact, home / "policies")), default_cache())
    client.set_registered_model_alias(NAME, "production", "1")
    with server:
        time.sleep(2)  # until every worker is ready
        with SteadyLoad(url, Questions(artifacts), options.connections) as record:
            time.sleep(SETTLE_S)
            before = workers_memory(server)
            waits = [move(client, record, number, options) for number in tqdm(range(options.moves), disable=None)]
            time.sleep(SETTLE_S)
            after = workers_memory(server)
        report(options, record, waits, before, after)


def move(client, record: Record, number: int, options: argparse.Namespace) -> float:
    """Moves the alias; returns the seconds from MLflow's response to the old version's last response."""
    new, old = ("1.1.0", "1.0.0") if number % 2 == 0 else ("1.0.0", "1.1.0")
    client.set_registered_model_alias(NAME, "production", "2" if number % 2 == 0 else "1")
    moved, ends = time.monotonic(), time.monotonic() + options.poll_s + 10
    while time.monotonic() < ends:
        time.sleep(0.4)
        recent = {by for sent, _, by in record.answers[-50 * options.connections :] if sent > time.monotonic() - 0.4}
        if recent == {new}:
            break
    else:
        raise TimeoutError(f"move {number}: {old} still answers")
    return max(0.0, record.last_of(old, moved) - moved)


def report(options, record: Record, waits: list[float], before: list[int], after: list[int]) -> None:
    """Prints the figures."""
    took = [1e3 * (came - sent) for sent, came, _ in record.answers]
    how = f"polling every {options.poll_s:g} s" + ("" if options.no_hook else ", and MLflow's webhook")
    print(f"{options.moves} moves of an alias, {options.connections} connections, {options.workers} workers, {how}")
    print(f"requests               {len(record.answers) + len(record.failed):,}, failed {len(record.failed)}")
    print(f"answers that mix       {len(record.wrong)}")
    print(f"last old answer, s     median {median(waits):.2f}, p99 {p99(waits):.2f}, ", end="")
    print(f"longest {max(waits):.2f} after the move")
    print(f"answered within, ms    p50 {median(took):.1f}, p99 {p99(took):.1f}, ", end="")
    print(f"longest {max(took):.0f}")
    print(
        "workers' memory, MB    "
        + ", ".join(f"{b / 1e6:.1f} → {a / 1e6:.1f}" for b, a in zip(before, after, strict=False))
    )
    for failure in sorted(set(record.failed))[:5]:
        print(f"failed: {failure}")


def workers_memory(server: OurServer) -> list[int]:
    """Resident bytes of each worker."""
    return [worker.memory_info().rss for worker in server.workers()]


if __name__ == "__main__":
    main()
