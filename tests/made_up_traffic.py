"""A page of metrics such as a policy server has, whose counters grow with every look at it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass
class Growth:
    """What one version does between two looks.

    Attributes:
        actions: so many, each by a request of its own.
        saturated: so many of them with full lock.
        fallbacks: so many requests beside them got the fallback.
        slow: so many of the requests took more than 10 ms, the others less than 5 ms.
    """

    actions: int
    saturated: int = 0
    fallbacks: int = 0
    slow: int = 0


@dataclass(eq=False)
class Traffic(Collector):
    """The counters of a server, by version."""

    versions: dict[str, Growth]
    looks: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def collect(self) -> Iterator[Metric]:
        with self.lock:
            self.looks += 1
            looks = self.looks
        counters = {
            name: CounterMetricFamily(f"policy_{name}", ".", labels=labels)
            for name, labels in (
                ("actions", ["version"]),
                ("saturated", ["dimension", "version"]),
                ("fallbacks", ["reason", "version"]),
            )
        }
        latency = HistogramMetricFamily("policy_latency_seconds", ".", labels=["part", "version"])
        for version, each in self.versions.items():
            counters["actions"].add_metric([version], each.actions * looks)
            counters["saturated"].add_metric(["steer", version], each.saturated * looks)
            counters["fallbacks"].add_metric(["deadline_exceeded", version], each.fallbacks * looks)
            fast, every = (each.actions - each.slow) * looks, each.actions * looks
            for part in ("decode", "total"):
                buckets = [("0.005", fast), ("0.01", fast), ("+Inf", every)]
                latency.add_metric([part, version], buckets, sum_value=0.004 * every)
        yield from counters.values()
        yield latency


@contextlib.contextmanager
def told_by_a_server(**versions: Growth) -> Iterator[str]:
    """Serves such a page; the server's URL. Args: a version such as v0_2_0 → what it does between two looks."""
    registry = CollectorRegistry()
    registry.register(Traffic({name.removeprefix("v").replace("_", "."): each for name, each in versions.items()}))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
