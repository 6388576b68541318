"""Faults of the server's own processes: killed, signalled, or hanging in a forward."""

from __future__ import annotations

import argparse
import signal
import subprocess
import time

import msgspec

from benchmarks.policies.hanging_policy import HANGS_AT
from benchmarks.support.connection import ask
from benchmarks.support.our_server import OurServer
from benchmarks.support.requests import http_request
from benchmarks.support.waiting import seconds_until

EXIT_S = 30.0


def kill_workers(server: OurServer, _: argparse.Namespace) -> str:
    """Sends SIGKILL to a worker, three times."""
    back = []
    for _number in range(3):
        before = pids(server)
        server.workers()[0].kill()
        back.append(seconds_until(lambda old=before: len(pids(server) - old) == 1 and server.is_ready()))
        time.sleep(1)
    return "another process in its place after " + ", ".join(f"{seconds:.1f}" for seconds in back) + " s"


def reload_settings(server: OurServer, _: argparse.Namespace) -> str:
    """Sends SIGHUP to the master."""
    before = pids(server)
    server.signal_master(signal.SIGHUP)
    seconds = seconds_until(lambda: pids(server) and not pids(server) & before)
    return f"all workers replaced after {seconds:.1f} s"


def terminate(server: OurServer, _: argparse.Namespace) -> str:
    """Sends SIGTERM to the master, while the good load goes on until it has exited."""
    began = time.monotonic()
    server.signal_master(signal.SIGTERM)
    try:
        code = server.process.wait(EXIT_S)
    except subprocess.TimeoutExpired:
        return f"still there after {EXIT_S:g} s"
    return f"exit {code} after {time.monotonic() - began:.1f} s"


def hang(server: OurServer, _: argparse.Namespace) -> str:
    """Makes a forward hang, three times, each in another worker process."""
    body, back = msgspec.json.encode({"observations": [{"state": [HANGS_AT, *[0.5] * 15]}]}), []
    for _number in range(3):
        before = pids(server)
        began = time.monotonic()
        status = ask(server.port, http_request("/predict", body, "application/json")).status
        took = time.monotonic() - began
        replaced = seconds_until(lambda old=before: pids(server) - old)
        back.append(f"{status} after {took:.1f} s, replaced {replaced:.1f}")
        time.sleep(1)
    return "; ".join(back)


def pids(server: OurServer) -> set[int]:
    """The workers' process numbers."""
    return {worker.pid for worker in server.workers()}
