"""Runs `mlflow server …` in one process: python -P benchmarks/support/mlflow_in_one_process.py server --port 5000 ….

MLflow's own command starts another process, which imports all of MLflow once more: seconds of CPU time for each server.
Settings, stores and the application are what that command makes of its flags; it starts no runners of jobs.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import uvicorn  # noqa: F401  # before MLflow, which else leaves out its checks of hosts and origins

from carla_mlflow.collector import collect_less


def run_here(command: list[str], extra_env: Mapping[str, str], **_: Any) -> NoReturn:
    """Runs `python -m MODULE …` in this process instead of in a new one.

    Args:
        command: as MLflow would start it.
        extra_env: environment variables that MLflow would give it.
    """
    _python, flag, module, *flags = command
    assert flag == "-m", command
    os.environ.update(extra_env)
    sys.argv = [module, *flags]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    collect_less()
    import mlflow.server
    from mlflow.cli import cli

    assert mlflow.server.is_running_as_server
    mlflow.server._exec_cmd = run_here
    cli()
