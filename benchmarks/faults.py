"""python -m benchmarks.faults [--workers 2 --connections 8 --idle 10000 --only NAME]: good load beside faults.

For each fault a server of its own, and steady good requests whose answers are held bit for bit against the engine's:
first a quiet while, then the fault, then a while to settle. Prints how many good requests were answered right, wrong,
failed (another status), dropped (taken, and the connection ended), late (no answer within 5 s), refused (no connection,
which is right once a server has stopped); and the good load's p99 before and during.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from benchmarks.command_line import parser_of
from benchmarks.good_load import OUTCOMES, GoodLoad
from benchmarks.our_server import OurServer
from benchmarks.slow_clients import ask_unread, hold, long_answer, open_connections
from benchmarks.two_policies import Questions, small_policy, write
from carla_mlflow import open_artifact

QUIET_S, SETTLE_S, WAIT_S = 3.0, 2.0, 30.0
PAUSE_S = 0.01
SLOW, SLOW_S = 200, 15.0
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
PID_ONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def kill_workers(server: OurServer, _: argparse.Namespace) -> str:
    """SIGKILL of a worker, three times."""
    back = []
    for _number in range(3):
        before = {worker.pid for worker in server.workers()}
        server.workers()[0].kill()
        back.append(_seconds_until(lambda old=before: len(_pids(server) - old) == 1 and server.is_ready()))
        time.sleep(1)
    return "another process in its place after " + ", ".join(f"{seconds:.1f}" for seconds in back) + " s"


def reload_settings(server: OurServer, _: argparse.Namespace) -> str:
    """SIGHUP."""
    before = {worker.pid for worker in server.workers()}
    server.signal(signal.SIGHUP)
    seconds = _seconds_until(lambda: _pids(server) and not _pids(server) & before)
    return f"all workers replaced after {seconds:.1f} s"


def terminate(server: OurServer, _: argparse.Namespace) -> str:
    """SIGTERM, and asking on until it is gone."""
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


FAULTS: dict[str, Callable[[OurServer, argparse.Namespace], str]] = {
    "kill -9 of a worker, 3×": kill_workers,
    "SIGHUP": reload_settings,
    "SIGTERM": terminate,
    "SIGTERM as PID 1": terminate,
    "idle connections": idle,
    "slow headers": slow_heads,
    "slow bodies": slow_bodies,
    "clients that never read": never_reading,
}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--workers", type=int, default=2, help="processes of carla-serve (default 2)")
    parser.add_argument("--connections", type=int, default=8, help="of the good load (default 8)")
    parser.add_argument("--idle", type=int, default=10_000, help="connections that say nothing (default 10000)")
    parser.add_argument("--only", help="a part of a fault's name")
    options = parser.parse_args()
    chosen = [name for name in FAULTS if not options.only or options.only.lower() in name.lower()]
    with tempfile.TemporaryDirectory() as scratch:
        folder = write(small_policy("1.0.0", 1), Path(scratch))
        options.artifact = open_artifact(folder)
        print(f"{options.workers} workers; {options.connections} connections that wait {PAUSE_S * 1e3:g} ms each time")
        counts = "".join(f"{name:>9}" for name in OUTCOMES)
        print(f"{'since the fault':26}{counts}{'p99 ms before':>15}{'during':>9}", flush=True)
        for name in tqdm(chosen, leave=False, disable=None):
            print(measure(name, folder, options), flush=True)


def measure(name: str, folder: Path, options: argparse.Namespace) -> str:
    """One fault: its line of the table."""
    as_pid_one = name.endswith("PID 1")
    if as_pid_one and not _may_unshare():
        return f"{name:26}left out: this user may not make a PID namespace"
    through = PID_ONE if as_pid_one else ()
    with OurServer("--model", str(folder), "--workers", str(options.workers), through=through) as server:
        time.sleep(2)  # until every worker has loaded it
        with GoodLoad(server.port, folder, options.connections, PAUSE_S) as load:
            quiet = time.monotonic() + 0.5
            time.sleep(QUIET_S)
            began = time.monotonic()
            what = FAULTS[name](server, options)
            ended = time.monotonic()
            time.sleep(SETTLE_S)
    counts = "".join(f"{load.count(outcome, began):>9,}" for outcome in OUTCOMES)
    line = f"{name:26}{counts}{load.p99_ms(quiet, began):>15.1f}{load.p99_ms(began, ended):>9.1f}   {what}"
    texts = {each.text for each in load.asked if each.outcome in {"failed", "dropped", "wrong"} and each.text}
    return "\n".join([line, *(f"    {text}" for text in sorted(texts)[:4])])


def _may_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*PID_ONE, "true"], stderr=subprocess.DEVNULL).returncode == os.EX_OK


def _pids(server: OurServer) -> set[int]:
    return {worker.pid for worker in server.workers()}


def _megabytes(server: OurServer) -> float:
    return sum(worker.memory_info().rss for worker in server.workers()) / 1e6


def _seconds_until(condition: Callable[[], object]) -> float:
    """How long until it holds; infinity when that takes too long."""
    began = time.monotonic()
    while time.monotonic() - began < WAIT_S:
        if condition():
            return time.monotonic() - began
        time.sleep(0.02)
    return float("inf")


if __name__ == "__main__":
    main()
