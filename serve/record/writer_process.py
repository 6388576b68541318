"""The writer's process, one a node: it runs beside the workers, mostly in time that they don't want."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import time
from pathlib import Path
from types import FrameType

from carla_mlflow.own_process import end_with_parent
from serve.flags import settings_from_environment
from serve.folder_lock import remove_unused
from serve.record.spare_time import SpareTime
from serve.record.writer import Writer
from serve.run_folder import RINGS_FOLDER, SERVER_PID
from serve.telemetry.log_setup import start_logging

POLL_S = 0.1
"""Seconds between two looks at the rings."""
DRAIN_S = 5.0
"""Seconds that a stopping writer waits for workers that have not ended yet."""
NICENESS = 10

log = logging.getLogger("serve.record")


def main() -> int:
    server, rings = int(os.environ[SERVER_PID]), Path(os.environ[RINGS_FOLDER])
    stopping = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.append(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server handles Ctrl-C, and ends this process
    end_with_parent(signal.SIGTERM, server)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # WriterProcess blocked it
    os.umask(0o077)
    os.nice(NICENESS)
    settings = settings_from_environment(os.environ)
    start_logging(settings)
    with open(rings / "writer.lock", "a") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)  # waits for one that is ending
        writer = Writer(settings, rings)
        writer.step(time.time())
        with SpareTime(lambda: writer.step(time.time()), POLL_S) as spare:
            while not stopping and os.getppid() == server:
                time.sleep(POLL_S)
                spare.make_up()
                with spare.paused():  # not in spare time: a piece takes long enough for the rings to overflow there
                    writer.merge(time.time())
        ends = time.monotonic() + DRAIN_S
        while not writer.is_drained and time.monotonic() < ends:
            time.sleep(POLL_S)
            writer.step(time.time())
        writer.stop()
    remove_unused(rings)  # where the server was killed
    return 0


if __name__ == "__main__":
    try:
        main()
    except Exception:
        log.exception("the recording's writer failed")
        os._exit(1)
