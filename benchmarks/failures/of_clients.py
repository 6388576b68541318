"""Faults of clients: many that are idle, slow, never read, or send half a head and begin anew."""

from __future__ import annotations

import argparse
import math
import time

from benchmarks.failures.half_sent import HalfSentHeads
from benchmarks.failures.slow_clients import UNFINISHED_HEAD, ask_unread, hold, long_answer, open_connections
from benchmarks.policies.two_policies import Questions
from benchmarks.support.good_load import GoodLoad
from benchmarks.support.our_server import OurServer

SLOW, SLOW_S = 200, 15.0
HALF_SENT, NEW_CARS, NEW_CAR_S = 1500, 4, 0.01
RESTING_CARS, RESTS_S = 50, 1.0


def idle(server: OurServer, options: argparse.Namespace) -> str:
    connections = open_connections(server.port, options.idle)
    ended = hold(connections, SLOW_S)
    return f"{len(connections):,} connections, {ended:,} ended by the server"


def slow_heads(server: OurServer, _: argparse.Namespace) -> str:
    ended = hold(open_connections(server.port, SLOW), SLOW_S, UNFINISHED_HEAD)
    return f"{SLOW} connections, {ended} ended by the server"


def slow_bodies(server: OurServer, _: argparse.Namespace) -> str:
    connections = open_connections(server.port, SLOW)
    for connection in connections:
        connection.send(UNFINISHED_HEAD + b"Content-Length: 1000\r\n\r\n")
    ended = hold(connections, SLOW_S, b" " * 1000)
    return f"{SLOW} connections, {ended} ended by the server"


def never_reading(server: OurServer, options: argparse.Namespace) -> str:
    before = _megabytes(server)
    body = long_answer(Questions([options.artifact]).bodies[0], 256)
    sent, ended = ask_unread(open_connections(server.port, SLOW, receive_buffer=4096), body, SLOW_S)
    grown = f"workers {before:.0f} → {_megabytes(server):.0f} MB"
    return f"{SLOW} connections sent {sent:,} requests, {ended} ended by the server; {grown}"


def half_sent_heads(server: OurServer, options: argparse.Namespace) -> str:
    """Opens more half-sent heads than the server has files, beside cars that connect anew and cars that stay idle."""
    served = [options.artifact.path]
    new = GoodLoad(server.port, served, NEW_CARS, NEW_CAR_S, keep=False)
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
    return f"{load.count('right', 0.0):,} of {len(load.asked):,} (p99 {load.p99_ms(0.0, math.inf):.0f} ms)"


def _megabytes(server: OurServer) -> float:
    return sum(worker.memory_info().rss for worker in server.workers()) / 1e6
