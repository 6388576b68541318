"""CPU time, memory and files of a server's processes: the total under Prometheus's standard names, and per worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serve.run_folder import MASTER, WorkerState, read_file, worker_file


class Figures(NamedTuple):
    """What one process uses.

    Attributes:
        cpu_s: CPU time of it and of its children that have ended, seconds.
        resident: bytes in memory, including those shared with other processes.
        files: open files and sockets.
        started: seconds since 1970.
    """

    cpu_s: float
    resident: int
    files: int
    started: float


def figures(process: psutil.Process) -> Figures | None:
    """Returns what a process uses now; None when it has ended."""
    try:
        with process.oneshot():
            used = process.cpu_times()
            cpu_s = used.user + used.system + used.children_user + used.children_system
            return Figures(cpu_s, process.memory_info().rss, process.num_fds(), process.create_time())
    except psutil.Error:
        return None


class Processes(Collector):
    """Metrics of a server's master process, its workers, its follower, and their child processes."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the server's run folder."""
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics; none where the server has no master process."""
        pid = read_file(self._folder / MASTER, int)
        if pid is None:
            return
        try:
            master = psutil.Process(pid)
            found = {each.pid: figures(each) for each in (master, *master.children(recursive=True))}
        except psutil.Error:  # the master has ended, and this worker is ending too
            return
        every = [each for each in found.values() if each is not None]
        limit = min(psutil.Process().rlimit(psutil.RLIMIT_NOFILE)[0], 2**62)
        text = "Of all processes of this server"
        yield CounterMetricFamily(
            "process_cpu_seconds", f"{text}, those that have ended included.", sum(each.cpu_s for each in every)
        )
        for name, what, value in (
            ("resident_memory_bytes", f"{text}; pages that they share count for each.", sum(e.resident for e in every)),
            ("open_fds", f"{text}.", sum(each.files for each in every)),
            ("max_fds", "Most open files that one process may have.", limit),
            ("start_time_seconds", "When this server was started.", min((e.started for e in every), default=0.0)),
        ):
            yield GaugeMetricFamily(f"process_{name}", what, value)
        yield from self._of_workers(found)

    def _of_workers(self, found: dict[int, Figures | None]) -> Iterator[Metric]:
        """Labels each worker by its place, which its replacement takes over."""
        cpu = CounterMetricFamily("policy_worker_cpu_seconds", "CPU time of one worker.", labels=["worker"])
        gauges = {
            name: GaugeMetricFamily(f"policy_worker_{name}", "Of one worker.", labels=["worker"])
            for name in ("resident_memory_bytes", "open_fds", "start_time_seconds")
        }
        for pid, each in found.items():
            state = read_file(worker_file(self._folder, pid), WorkerState)
            if state is None or each is None:
                continue
            place = [str(state.place)]
            cpu.add_metric(place, each.cpu_s)
            for name, value in zip(gauges, (each.resident, each.files, each.started), strict=True):
                gauges[name].add_metric(place, value)
        yield cpu
        yield from gauges.values()
