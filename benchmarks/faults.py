"""python -m benchmarks.faults [--workers 2 --connections 8 --idle 10000 --only NAME]: good load during faults.

Each fault gets its own server, and steady good requests whose responses are compared bit for bit with the engine's:
first without the fault, then during it, then until the server has settled. Prints how many good requests were right,
wrong, failed (another status), dropped (accepted, then the connection ended), late (no response within 5 s) or refused
(no connection, as expected once a server has stopped), and the good load's p99 before and during the fault.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

from benchmarks.command_line import parser_of
from benchmarks.fault_settings import (
    BAD,
    LeftOut,
    alias,
    as_pid_one,
    hanging,
    plain,
    with_crashing,
    with_dripping,
    with_few_files,
    with_little_memory,
    with_small_disk,
)
from benchmarks.good_load import OUTCOMES, GoodLoad
from benchmarks.half_sent import HalfSentHeads
from benchmarks.hanging_policy import HANGS_AT
from benchmarks.our_server import READYZ, OurServer
from benchmarks.slow_clients import ask_unread, hold, long_answer, open_connections
from benchmarks.two_policies import Questions
from benchmarks.wrk import ask, http_request
from carla_mlflow import open_artifact

QUIET_S, SETTLE_S, WAIT_S = 3.0, 2.0, 30.0
PAUSE_S = 0.01
BAD_S = 45.0
"""How long a version that kills the process loading it stays in production."""
SLOW, SLOW_S = 200, 15.0
HALF_SENT, NEW_CARS = 1500, 4
RESTING_CARS, RESTS_S = 50, 1.0
METRICS = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def kill_workers(server: OurServer, _: argparse.Namespace) -> str:
    """Sends SIGKILL to a worker, three times."""
    back = []
    for _number in range(3):
        before = {worker.pid for worker in server.workers()}
        server.workers()[0].kill()
        back.append(_seconds_until(lambda old=before: len(_pids(server) - old) == 1 and server.is_ready()))
        time.sleep(1)
    return "another process in its place after " + ", ".join(f"{seconds:.1f}" for seconds in back) + " s"


def reload_settings(server: OurServer, _: argparse.Namespace) -> str:
    """Sends SIGHUP to the master."""
    before = {worker.pid for worker in server.workers()}
    server.signal(signal.SIGHUP)
    seconds = _seconds_until(lambda: _pids(server) and not _pids(server) & before)
    return f"all workers replaced after {seconds:.1f} s"


def terminate(server: OurServer, _: argparse.Namespace) -> str:
    """Sends SIGTERM to the master, while the good load goes on until it has exited."""
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    try:
        code = server.process.wait(WAIT_S)
    except subprocess.TimeoutExpired:
        return f"still there after {WAIT_S:g} s"
    return f"exit {code} after {time.monotonic() - began:.1f} s"


def idle(server: OurServer, options: argparse.Namespace) -> str:
    connections = open_connections(server.port, options.idle)
    ended = hold(connections, SLOW_S)
    return f"{len(connections):,} connections, {ended:,} ended by the server"


def slow_heads(server: OurServer, _: argparse.Namespace) -> str:
    ended = hold(open_connections(server.port, SLOW), SLOW_S, HEAD)
    return f"{SLOW} connections, {ended} ended by the server"


def slow_bodies(server: OurServer, _: argparse.Namespace) -> str:
    connections = open_connections(server.port, SLOW)
    for connection in connections:
        connection.send(HEAD + b"Content-Length: 1000\r\n\r\n")
    ended = hold(connections, SLOW_S, b" " * 1000)
    return f"{SLOW} connections, {ended} ended by the server"


def never_reading(server: OurServer, options: argparse.Namespace) -> str:
    before = _megabytes(server)
    body = long_answer(Questions([options.artifact]).bodies[0], 256)
    sent, ended = ask_unread(open_connections(server.port, SLOW, receive_buffer=4096), body, SLOW_S)
    grown = f"workers {before:.0f} → {_megabytes(server):.0f} MB"
    return f"{SLOW} connections sent {sent:,} requests, {ended} ended by the server; {grown}"


def hang(server: OurServer, _: argparse.Namespace) -> str:
    """Makes a forward hang, three times, each in another worker process."""
    body, back = msgspec.json.encode({"observations": [{"state": [HANGS_AT, *[0.5] * 15]}]}), []
    for _number in range(3):
        before = _pids(server)
        began = time.monotonic()
        status, _, _ = ask(server.port, http_request("/predict", body, "application/json"))
        took = time.monotonic() - began
        back.append(
            f"{status} after {took:.1f} s, replaced {_seconds_until(lambda old=before: _pids(server) - old):.1f}"
        )
        time.sleep(1)
    return "; ".join(back)


def fill_disk(server: OurServer, _: argparse.Namespace) -> str:
    """Moves production to a version that the cache has no room for."""
    alias("2")
    told = _seconds_until(lambda: b"1.1.0" in ask(server.port, READYZ)[2])
    time.sleep(3)
    return f"refused after {told:.1f} s: {ask(server.port, READYZ)[2].decode()[:160]}"


def half_sent_heads(server: OurServer, options: argparse.Namespace) -> str:
    """Opens more half-sent heads than the server has files, beside cars that connect anew and cars that stay idle."""
    served = [options.artifact.path]
    new = GoodLoad(server.port, served, NEW_CARS, PAUSE_S, keep=False)
    resting = GoodLoad(server.port, served, RESTING_CARS, RESTS_S)
    with resting, new:
        with HalfSentHeads(server.port, HALF_SENT) as attack:
            time.sleep(SLOW_S)
        began_anew = attack.ended
    ended = sum(each.anew for each in resting.asked) + resting.count("dropped", 0.0)
    return (
        f"{HALF_SENT:,} half-sent heads in {SLOW_S:g} s, begun anew {began_anew:,} times; answered right of cars that "
        f"connect each time: {_right(new)}; of {RESTING_CARS} that ask once a second: {_right(resting)}, {ended} ended"
    )


def _right(load: GoodLoad) -> str:
    return f"{load.count('right', 0.0):,} of {len(load.asked):,} (p99 {load.p99_ms(0.0, float('inf')):.0f} ms)"


def bad_version(server: OurServer, _: argparse.Namespace) -> str:
    """Moves production to a version whose loading kills the process, and back."""
    before, ends = _pids(server), time.monotonic() + BAD_S
    alias(BAD)
    seen = set(before)
    while time.monotonic() < ends:
        seen |= _pids(server)
        time.sleep(0.02)
    said = ask(server.port, READYZ)[2].decode()[:200] if server.is_ready() else "not ready"
    alias("1")
    return f"{len(seen) - len(before)} workers died in {BAD_S:g} s; {said}"


def dripping(server: OurServer, options: argparse.Namespace) -> str:
    """Moves production to a version that downloads a byte at a time, then to another one, then back."""
    alias("2")
    _seconds_until(lambda: options.proxy.dripped)
    alias("3")
    overtaken = _seconds_until(lambda: b'version="1.2.0"' in ask(server.port, METRICS)[2])
    alias("1")
    rolled_back = _seconds_until(lambda: b'version="1.0.0"' in ask(server.port, METRICS)[2])
    return f"another version is served after {overtaken:.1f} s, the one before again after {rolled_back:.1f} s"


FAULTS: dict[str, tuple[Callable[[OurServer, argparse.Namespace], str], Callable[..., Any]]] = {
    "kill -9 of a worker, 3×": (kill_workers, plain),
    "a forward hangs, 3×": (hang, hanging),
    "full disk": (fill_disk, with_small_disk),
    "crash on load": (bad_version, with_crashing),
    "out of memory on load": (bad_version, with_little_memory),
    "dripping download": (dripping, with_dripping),
    "SIGHUP": (reload_settings, plain),
    "SIGTERM": (terminate, plain),
    "SIGTERM as PID 1": (terminate, as_pid_one),
    "idle connections": (idle, plain),
    "slow headers": (slow_heads, plain),
    "half-sent heads": (half_sent_heads, with_few_files),
    "slow bodies": (slow_bodies, plain),
    "clients that never read": (never_reading, plain),
}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--workers", type=int, default=2, help="processes of carla-serve (default 2)")
    parser.add_argument("--connections", type=int, default=8, help="connections of the good load (default 8)")
    parser.add_argument("--idle", type=int, default=10_000, help="idle connections (default 10000)")
    parser.add_argument("--only", help="run only faults with this in their name")
    options = parser.parse_args()
    chosen = [name for name in FAULTS if not options.only or options.only.lower() in name.lower()]
    print(f"{options.workers} workers; {options.connections} connections that wait {PAUSE_S * 1e3:g} ms each time")
    counts = "".join(f"{name:>9}" for name in OUTCOMES)
    print(f"{'since the fault':26}{counts}{'p99 ms before':>15}{'during':>9}", flush=True)
    for name in tqdm(chosen, leave=False, disable=None):
        print(measure(name, options), flush=True)


def measure(name: str, options: argparse.Namespace) -> str:
    """Runs one fault; returns its line of the table."""
    fault, setting = FAULTS[name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        try:
            with setting(options, Path(scratch)) as (server, folder):
                return beside(name, fault, server, folder, options)
        except LeftOut as why:
            return f"{name:26}left out: {why}"


def beside(name: str, fault: Callable[..., str], server: OurServer, folder: Path, options: argparse.Namespace) -> str:
    """Runs the fault beside good load; returns its line of the table, and the texts of some bad responses."""
    time.sleep(2)  # until every worker has loaded the policy
    options.artifact = open_artifact(folder)
    versions = sorted(card.parent for card in folder.parent.glob("[0-9]*/model_card.yaml"))
    with GoodLoad(server.port, versions, options.connections, PAUSE_S) as load:
        quiet = time.monotonic() + 0.5
        time.sleep(QUIET_S)
        began = time.monotonic()
        what = fault(server, options)
        ended = time.monotonic()
        time.sleep(SETTLE_S)
    counts = "".join(f"{load.count(outcome, began):>9,}" for outcome in OUTCOMES)
    line = f"{name:26}{counts}{load.p99_ms(quiet, began):>15.1f}{load.p99_ms(began, ended):>9.1f}   {what}"
    texts = {each.text for each in load.asked if each.outcome in {"failed", "dropped", "wrong"} and each.text}
    return "\n".join([line, *(f"    {text}" for text in sorted(texts)[:4])])


def _pids(server: OurServer) -> set[int]:
    return {worker.pid for worker in server.workers()}


def _megabytes(server: OurServer) -> float:
    return sum(worker.memory_info().rss for worker in server.workers()) / 1e6


def _seconds_until(condition: Callable[[], object]) -> float:
    """Seconds until the condition holds; infinity when it does not within WAIT_S."""
    began = time.monotonic()
    while time.monotonic() - began < WAIT_S:
        if condition():
            return time.monotonic() - began
        time.sleep(0.02)
    return float("inf")


if __name__ == "__main__":
    main()
