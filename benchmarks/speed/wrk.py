"""Loads a server by wrk, which sends whole requests from a file in turn."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.support.connection import Address

# wrk's errors.status counts the responses with a status above 399.
SCRIPT = """
local requests, turn = {}, 0
function init()
  local file = io.open(os.getenv("REQUESTS"), "rb")
  while true do
    local length = file:read("*l")
    if not length then break end
    requests[#requests + 1] = file:read(tonumber(length))
  end
  file:close()
end
function request()
  turn = turn % #requests + 1
  return requests[turn]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('FOUND {"requests":%d,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"failed":%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.timeout + e.status))
end
"""


@dataclass(frozen=True)
class Found:
    """What wrk measured."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


Load = Callable[[Address, Path, int, int], Found]
"""`load`, or another at its place: server, requests, connections, seconds."""


def write_requests(path: Path, requests: list[bytes]) -> Path:
    """Writes requests to a file for wrk: for each, its length on a line, then its bytes."""
    path.write_bytes(b"".join(b"%d\n" % len(request) + request for request in requests))
    return path


def load(port: Address, requests: Path, connections: int, seconds: int) -> Found:
    """Loads a server from one thread.

    Args:
        port: the server's, on 127.0.0.1.
        requests: the file that `write_requests` made.
        connections: how many; each sends its next request after a response.
        seconds: how long.

    Raises:
        RuntimeError: wrk is not installed, or printed no figures.
    """
    assert isinstance(port, int), "wrk knows no Unix sockets"
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not installed: apt-get install wrk")
    script = requests.with_name("requests.lua")
    script.write_text(SCRIPT)
    how = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "--latency", "-s", str(script)]
    done = subprocess.run(
        ["wrk", *how, f"http://127.0.0.1:{port}/"],
        env={**os.environ, "REQUESTS": str(requests)},
        capture_output=True,
        text=True,
    )
    line = re.search(r"FOUND (\{.*\})", done.stdout)
    if line is None:
        raise RuntimeError(f"wrk: {(done.stdout + done.stderr)[-300:]}")
    return msgspec.json.decode(line[1], type=Found)
