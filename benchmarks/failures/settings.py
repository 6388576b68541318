"""The server settings for `benchmarks.faults`: each starts a server with a policy, and what its faults need."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow

from benchmarks.failures.dripping import DrippingRegistry
from benchmarks.policies.bad_policies import crashing, publish, too_large
from benchmarks.policies.hanging_policy import hanging_policy
from benchmarks.policies.two_policies import NAME, small_policy, write
from benchmarks.support.mlflow_server import MlflowServer
from benchmarks.support.our_server import OurServer
from carla_mlflow import open_artifact

PID_ONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
OWN_DISK = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size="$0" tmpfs "$1" && shift && exec "$@"')
"""To be followed by the disk's size, the folder to mount it on, and the command."""
BAD = "4"
"""MLflow's number of the version that can't be loaded."""
MAX_BYTES = 800 << 20
"""The memory limit of a server with a policy that is too large for it."""
FEW_FILES = ("sh", "-c", 'ulimit -n 1024 && exec "$@"', "sh")


class LeftOut(Exception):  # noqa: N818
    """This machine or this user can't run the setting; the text says why."""


Served = Iterator[tuple[OurServer, Path]]
"""A server, and the folder of the policy that it serves."""
Setting = Callable[[argparse.Namespace, Path], contextlib.AbstractContextManager[tuple[OurServer, Path]]]
"""A benchmark's options and an empty folder → a context manager: the server runs while it is entered."""


@contextlib.contextmanager
def plain(options: argparse.Namespace, scratch: Path) -> Served:
    """A small policy, served from a folder."""
    folder = write(small_policy("1.0.0", 1), scratch)
    with OurServer("--model", str(folder), "--workers", str(options.workers)) as server:
        yield server, folder


@contextlib.contextmanager
def as_pid_one(options: argparse.Namespace, scratch: Path) -> Served:
    """A small policy, served from a folder by a server that is PID 1, as in a container."""
    check(PID_ONE, "make a PID namespace")
    folder = write(small_policy("1.0.0", 1), scratch)
    with OurServer("--model", str(folder), "--workers", str(options.workers), through=PID_ONE) as server:
        yield server, folder


@contextlib.contextmanager
def with_few_files(options: argparse.Namespace, scratch: Path) -> Served:
    """One worker that may open at most 1,024 files, the usual limit."""
    folder = write(small_policy("1.0.0", 1), scratch)
    with OurServer("--model", str(folder), "--workers", "1", through=FEW_FILES) as server:
        yield server, folder


@contextlib.contextmanager
def hanging(options: argparse.Namespace, scratch: Path) -> Served:
    """A policy that hangs on one input."""
    folder = hanging_policy(scratch)
    flags = ["--workers", str(options.workers), "--forward-timeout-s", "1"]
    with OurServer("--model", str(folder), *flags) as server:
        yield server, folder


@contextlib.contextmanager
def with_small_disk(options: argparse.Namespace, scratch: Path) -> Served:
    """A registry whose first version is served, and a cache on a disk with room for only one version."""
    check(("unshare", "--mount"), "mount a disk")
    with _registry(scratch) as (folders, _):
        room = 1.5 * sum(4096 * (1 + file.stat().st_size // 4096) for file in folders[0].iterdir())
        with _follower(options, (*OWN_DISK, str(int(room)), str(scratch / "cache"))) as server:
            yield server, folders[0]


@contextlib.contextmanager
def with_crashing(options: argparse.Namespace, scratch: Path) -> Served:
    """A registry whose version BAD kills the process that loads it."""
    with _registry(scratch) as (folders, registry):
        publish(crashing(open_artifact(folders[0]), "2.0.0"), registry.home)
        with _follower(options) as server:
            yield server, folders[0]


@contextlib.contextmanager
def with_little_memory(options: argparse.Namespace, scratch: Path) -> Served:
    """A registry whose version BAD takes more memory than the server may."""
    with _registry(scratch) as (folders, registry), _control_group() as group:
        publish(too_large(open_artifact(folders[0]), "2.0.0"), registry.home)
        with _follower(options, ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")) as server:
            yield server, folders[0]


@contextlib.contextmanager
def with_dripping(options: argparse.Namespace, scratch: Path) -> Served:
    """A registry whose second version downloads a byte at a time."""
    with _registry(scratch) as (folders, registry), DrippingRegistry(registry.uri) as proxy:
        os.environ["MLFLOW_TRACKING_URI"] = proxy.url
        proxy.drips = mlflow.MlflowClient().get_model_version(NAME, "2").source.rpartition("/")[2]
        with _follower(options) as server:
            options.proxy = proxy
            yield server, folders[0]


@contextlib.contextmanager
def _registry(scratch: Path) -> Iterator[tuple[list[Path], MlflowServer]]:
    """A registry with MLflow's versions 1, 2 and 3, the first in production, and a cache of its own."""
    from registry.moves.registration import register
    from registry.store.store import Store

    registry = MlflowServer(scratch)
    os.environ.update(MLFLOW_TRACKING_URI=registry.uri, POLICY_CACHE_DIR=str(scratch / "cache"))
    (scratch / "cache").mkdir(mode=0o700)
    try:
        folders = [write(small_policy(f"1.{seed}.0", seed), scratch) for seed in range(3)]
        for folder in folders:
            register(Store(), str(folder), scratch / "other-cache")
        alias("1")
        yield folders, registry
    finally:
        registry.kill()


def _follower(options: argparse.Namespace, through: tuple[str, ...] = ()) -> OurServer:
    flags = ["--workers", str(options.workers), "--poll-s", "1"]
    return OurServer("--model", f"{NAME}@production", *flags, through=through)


@contextlib.contextmanager
def _control_group() -> Iterator[Path]:
    """A control group whose processes may together take MAX_BYTES."""
    old = Path("/sys/fs/cgroup/memory")
    root, limit = (old, "memory.limit_in_bytes") if old.is_dir() else (Path("/sys/fs/cgroup"), "memory.max")
    group = root / f"carla-faults-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(MAX_BYTES))
    except OSError as error:
        raise LeftOut(f"this user may not limit memory: {error.strerror}") from error
    try:
        yield group
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()


def alias(version: str) -> None:
    """Moves the alias production to a version, as MLflow's UI does."""
    mlflow.MlflowClient().set_registered_model_alias(NAME, "production", version)


def check(command: tuple[str, ...], what: str) -> None:
    """Raises LeftOut when this user may not run the command."""
    if shutil.which(command[0]) is None:
        raise LeftOut(f"{command[0]} is not installed")
    if subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode != os.EX_OK:
        raise LeftOut(f"this user may not {what}")
