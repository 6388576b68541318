"""The shadow's process. Run as `python -m serve.shadow.start`, with the server's settings in the environment.

It takes the lowest priority before it imports anything that takes time, and so does all that it starts.
"""

from __future__ import annotations

import os
import signal
import sys

from serve.shadow.restrict import restrict

DEFAULT_MB = "2048"


def main() -> int:
    """Runs until the server ends it."""
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # its counters are none of the workers'
    restrict(float(os.environ.get("POLICY_SHADOW_MEMORY_MB", DEFAULT_MB)))
    from carla_mlflow.own_process import end_with_parent
    from serve.run_folder import SERVER_PID

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server handles Ctrl-C, and ends this process
    end_with_parent(signal.SIGKILL, int(os.environ[SERVER_PID]))
    from serve.shadow.shadow import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
