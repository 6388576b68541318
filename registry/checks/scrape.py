"""Reads the counters of running policy servers from their /metrics, by prometheus_client's parser."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpcore

from carla_mlflow.client.attempt import FAILED, TimedBackend, failure
from carla_mlflow.client.unix_address import LOCAL, is_unix, socket_path
from carla_mlflow.errors import CarlaMlflowError, RefusedError, ServerError
from carla_mlflow.escaping import one_line
from registry.rules.counted import Scrape

TIMEOUT_S = 5.0
HALF_HOUR = "?last=30m"
MAX_KEY_BYTES = 4096
COUNTS = ("_total", "_bucket", "_count")
"""How the names of samples end that only grow."""


@dataclass(frozen=True)
class Servers:
    """The servers whose counters are read.

    Attributes:
        urls: of each, such as http://car-7:8080, or unix:/run/policy.sock on this machine.
        api_key: that they ask for; empty for none.
    """

    urls: tuple[str, ...]
    api_key: str = ""

    def scrape(self, half_hour: bool = False) -> dict[str, Scrape | CarlaMlflowError]:
        """Reads all of them at the same time; the error of each that can't be read.

        Args:
            half_hour: reads only what was counted in the last half hour.
        """
        with ThreadPoolExecutor(max(len(self.urls), 1)) as threads:
            found = threads.map(lambda url: self._one(url, half_hour), self.urls)
            return dict(zip(self.urls, found, strict=True))

    def _one(self, url: str, half_hour: bool) -> Scrape | CarlaMlflowError:
        try:
            return scrape(url, self.api_key, half_hour)
        except CarlaMlflowError as error:
            return error


def scrape(url: str, api_key: str = "", half_hour: bool = False) -> Scrape:
    """Reads one server's counters.

    Raises:
        UnreachableError: it did not answer in time.
        ServerError: it answered something else.
    """
    headers = [("Authorization", f"Bearer {api_key}")] if api_key else []
    try:
        socket = str(socket_path(url)) if is_unix(url) else None
    except ValueError as error:
        raise ServerError(one_line(error)) from error
    asked = f"/metrics{HALF_HOUR if half_hour else ''}"
    address = f"{LOCAL if socket else url.rstrip('/')}{asked}"
    backend = TimedBackend()
    backend.ends = time.monotonic() + TIMEOUT_S
    try:
        with httpcore.ConnectionPool(uds=socket, network_backend=backend) as pool:
            answer = pool.request("GET", address, headers=headers)
    except FAILED as error:
        raise failure(url, error, None) from error
    if answer.status == 401:
        asks = (
            "does not take the key that --api-key-file names"
            if api_key
            else "asks for its key: pass --api-key-file FILE"
        )
        raise ServerError(f"{url} {asks}")
    if answer.status != 200:
        raise ServerError(f"{url} answered {answer.status} to {asked}")
    return parse(answer.content.decode("utf-8", "replace"), url)


def parse(text: str, url: str = "") -> Scrape:
    """Parses Prometheus's text format; raises ServerError when it is something else, or of no policy server."""
    from prometheus_client.parser import text_string_to_metric_families

    samples, started = {}, 0.0
    try:
        for family in text_string_to_metric_families(text):
            if family.name == "process_start_time_seconds" and family.samples:
                started = family.samples[0].value
            if family.type in ("counter", "histogram") and family.name.startswith("policy_"):
                for sample in family.samples:
                    if sample.name.endswith(COUNTS):  # sums of values may fall
                        samples[(sample.name, frozenset(sample.labels.items()))] = float(sample.value)
    except (ValueError, KeyError, IndexError) as error:
        raise ServerError(f"{url} is no policy server: its /metrics can't be read ({one_line(error)})") from error
    if not samples or any(not math.isfinite(value) or value < 0 for value in samples.values()):
        raise ServerError(f"{url} is no policy server: its /metrics has no counters of a policy")
    return Scrape(samples, started)


def servers_of(urls: Sequence[str], api_key_file: Path | None) -> Servers:
    """The servers that a command names, with the key in a file.

    Raises:
        RefusedError: the file can't be read, or holds no key.
    """
    urls = tuple(dict.fromkeys(url.rstrip("/") for url in urls))
    if api_key_file is None:
        return Servers(urls)
    try:
        key = api_key_file.read_bytes()[: MAX_KEY_BYTES + 1].decode("ascii").strip()
    except OSError as error:
        raise RefusedError(f"{api_key_file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RefusedError(f"{api_key_file}: a key has only ASCII characters") from error
    if not key.isprintable() or not key or len(key) > MAX_KEY_BYTES:
        raise RefusedError(f"{api_key_file}: expected one line with the servers' key")
    return Servers(urls, key)
