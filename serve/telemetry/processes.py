"""What a server's processes take of the machine: all together under Prometheus's own names, and each worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serve.run_folder import MASTER, WorkerState, read_file, worker_file


class Figures(NamedTuple):
    """Of one process.

    Attributes:
        cpu_s: of it and of its children that have ended, seconds.
        resident: bytes in memory, those that it shares with others included.
        files: open files and sockets.
        started: seconds since 1970.
    """

    cpu_s: float
    resident: int
    files: int
    started: float


def figures(process: psutil.Process) -> Figures | None:
    """What a process takes now; None when it has ended."""
    try:
        with process.oneshot():
            used = process.cpu_times()
            cpu_s = used.user + used.system + used.children_user + used.children_system
            return Figures(cpu_s, process.memory_info().rss, process.num_fds(), process.create_time())
    except psutil.Error:
        return None


class Processes(Collector):
    """The master process of a server, its workers, its follower, and what they have started."""

    def __init__(self, folder: Path) -> None:
        """Args: the server's run folder."""
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Nothing where no process of ours is the master of the others."""
        pid = read_file(self._folder / MASTER, int)
        if pid is None:
            return
        try:
            master = psutil.Process(pid)
            found = {each.pid: figures(each) for each in (master, *master.children(recursive=True))}
        except psutil.Error:  # this worker ends as well
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
            ("max_fds", "That one process may open.", limit),
            ("start_time_seconds", "When this server was started.", min((e.started for e in every), default=0.0)),
        ):
            yield GaugeMetricFamily(f"process_{name}", what, value)
        yield from self._of_workers(found)

    def _of_workers(self, found: dict[int, Figures | None]) -> Iterator[Metric]:
        """Each by its place, which whoever replaces it gets."""
        cpu = CounterMetricFamily("policy_worker_cpu_seconds", "Of one worker.", labels=["worker"])
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
