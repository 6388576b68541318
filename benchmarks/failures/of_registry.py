"""Faults of what a registry serves: a version without room on the disk, one that kills, one that comes slowly."""

from __future__ import annotations

import argparse
import time

from benchmarks.failures.of_server import pids
from benchmarks.failures.settings import BAD, alias
from benchmarks.support.connection import ask
from benchmarks.support.our_server import READYZ, OurServer
from benchmarks.support.requests import get_request
from benchmarks.support.waiting import seconds_until

BAD_S = 45.0
"""How long a version that kills the process loading it stays in production."""
METRICS = get_request("/metrics")


def fill_disk(server: OurServer, _: argparse.Namespace) -> str:
    """Moves production to a version that the cache has no room for."""
    alias("2")
    told = seconds_until(lambda: b"1.1.0" in ask(server.port, READYZ).body)
    time.sleep(3)
    return f"refused after {told:.1f} s: {ask(server.port, READYZ).body.decode()[:160]}"


def bad_version(server: OurServer, _: argparse.Namespace) -> str:
    """Moves production to a version whose loading kills the process, and back."""
    before, ends = pids(server), time.monotonic() + BAD_S
    alias(BAD)
    seen = set(before)
    while time.monotonic() < ends:
        seen |= pids(server)
        time.sleep(0.02)
    said = ask(server.port, READYZ).body.decode()[:200] if server.is_ready() else "not ready"
    alias("1")
    return f"{len(seen) - len(before)} workers died in {BAD_S:g} s; {said}"


def dripping(server: OurServer, options: argparse.Namespace) -> str:
    """Moves production to a version that downloads a byte at a time, then to another one, then back."""
    alias("2")
    seconds_until(lambda: options.proxy.dripped)
    alias("3")
    overtaken = seconds_until(lambda: b'version="1.2.0"' in ask(server.port, METRICS).body)
    alias("1")
    rolled_back = seconds_until(lambda: b'version="1.0.0"' in ask(server.port, METRICS).body)
    return f"another version is served after {overtaken:.1f} s, the one before again after {rolled_back:.1f} s"
