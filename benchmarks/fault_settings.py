"""The servers that faults happen to, each with its policy: as it is, as PID 1, with one that hangs, with a registry."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.hanging_policy import hanging_policy
from benchmarks.mlflow_server import MlflowServer
from benchmarks.our_server import OurServer
from benchmarks.two_policies import NAME, small_policy, write

PID_ONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
OWN_DISK = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size="$0" tmpfs "$1" && shift && exec "$@"')
"""Then the disk's size, the folder that it is mounted on, and the command."""


FEW_FILES = ("sh", "-c", 'ulimit -n 1024 && exec "$@"', "sh")


class LeftOut(Exception):  # noqa: N818
    """This machine or this user can not do it; the text says why."""


Setting = Iterator[tuple[OurServer, Path]]


@contextlib.contextmanager
def plain(options: argparse.Namespace, scratch: Path) -> Setting:
    """A small policy, from a folder."""
    folder = write(small_policy("1.0.0", 1), scratch)
    with OurServer("--model", str(folder), "--workers", str(options.workers)) as server:
        yield server, folder


@contextlib.contextmanager
def as_pid_one(options: argparse.Namespace, scratch: Path) -> Setting:
    """The same, as in a container."""
    check(PID_ONE, "make a PID namespace")
    folder = write(small_policy("1.0.0", 1), scratch)
    with OurServer("--model", str(folder), "--workers", str(options.workers), through=PID_ONE) as server:
        yield server, folder


@contextlib.contextmanager
def with_few_files(options: argparse.Namespace, scratch: Path) -> Setting:
    """One worker that may open 1,024 files, as many as is usual, and no more."""
    folder = write(small_policy("1.0.0", 1), scratch)
    with OurServer("--model", str(folder), "--workers", "1", through=FEW_FILES) as server:
        yield server, folder


@contextlib.contextmanager
def hanging(options: argparse.Namespace, scratch: Path) -> Setting:
    """A policy that hangs at one input."""
    folder = hanging_policy(scratch)
    flags = ["--workers", str(options.workers), "--forward-timeout-s", "1"]
    with OurServer("--model", str(folder), *flags) as server:
        yield server, folder


@contextlib.contextmanager
def with_small_disk(options: argparse.Namespace, scratch: Path) -> Setting:
    """A registry with two versions, and a cache on a disk that holds one; the first drives."""
    from registry.registration import register
    from registry.store import Store

    check(("unshare", "--mount"), "mount a disk")
    registry = MlflowServer(scratch)
    os.environ.update(MLFLOW_TRACKING_URI=registry.uri, POLICY_CACHE_DIR=str(scratch / "cache"))
    (scratch / "cache").mkdir(mode=0o700)
    try:
        folders = [write(small_policy(version, seed), scratch) for version, seed in (("1.0.0", 1), ("1.1.0", 2))]
        for folder in folders:
            register(Store(), str(folder), scratch / "other-cache")
        alias("1")
        room = 1.5 * sum(4096 * (1 + file.stat().st_size // 4096) for file in folders[0].iterdir())
        through = (*OWN_DISK, str(int(room)), str(scratch / "cache"))
        flags = ["--workers", str(options.workers), "--poll-s", "1"]
        with OurServer("--model", f"{NAME}@production", *flags, through=through) as server:
            yield server, folders[0]
    finally:
        registry.kill()


def alias(version: str) -> None:
    """Moves production, as MLflow's UI does."""
    import mlflow

    mlflow.MlflowClient().set_registered_model_alias(NAME, "production", version)


def check(command: tuple[str, ...], what: str) -> None:
    """Raises LeftOut when this user may not."""
    if shutil.which(command[0]) is None:
        raise LeftOut(f"{command[0]} is not installed")
    if subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode != os.EX_OK:
        raise LeftOut(f"this user may not {what}")
