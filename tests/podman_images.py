"""Podman, where there is no Docker engine and no image registry: the same Dockerfile on a base of Debian's packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpcore
import msgspec
from patience import PATIENCE_S
from tests_support import ROOT, Answer, missing

from carla_mlflow import __version__
from carla_mlflow.build import git_sha

BASE = "localhost/python:3.11-slim-bookworm"
IMAGE, BAKED = "localhost/carla-mlflow", "localhost/racetrack"
RUNTIME = shutil.which("runc") or "runc"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# What any machine should do with a server: nothing to write on, no rights, one core, one GiB.
CONFINED = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
CONFINED += ["--memory", "1g", "--cpus", "1"]
# Podman on machines that may not raise their limits.
LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]


def podman(*arguments: str, timeout: float = PATIENCE_S, check: bool = True) -> str:
    """What podman prints; fails with what it says."""
    # Elsewhere than here: where a container runs out of memory, podman leaves an empty file to say so.
    done = subprocess.run(
        ["podman", *arguments], capture_output=True, text=True, timeout=timeout, cwd=tempfile.gettempdir()
    )
    assert not check or done.returncode == 0, f"podman {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def need_podman() -> None:
    """Skips, or fails where nothing may be missing, when images can't be built here."""
    for program in ("podman", "runc", "debootstrap"):
        if shutil.which(program) is None:
            missing(program, program)
    if os.getuid() != 0:
        missing("root", "for debootstrap")


def make_base() -> None:
    """A slim Python of Debian's packages, with this machine's certificates, once."""
    if subprocess.run(["podman", "image", "exists", BASE]).returncode == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        root = f"{folder}/root"
        packages = "--include=python3,python3-venv,ca-certificates"
        subprocess.run(
            ["debootstrap", "--variant=minbase", packages, "bookworm", root],
            check=True,
            capture_output=True,
            timeout=900,
        )
        if CERTIFICATES.exists():
            shutil.copy(CERTIFICATES, root + str(CERTIFICATES))
        Path(root, "usr/bin/python").symlink_to("python3")
        archive = f"{folder}/root.tar"
        subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
        changes = [f"ENV PIP_CERT={CERTIFICATES}", f"ENV PIP_FIND_LINKS={wheels()}"]
        podman("import", *(part for change in changes for part in ("-c", change)), archive, BASE, timeout=600)


def wheels() -> str:
    """A folder in which this machine's pip finds wheels besides the index, or nothing."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    configured = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    return os.environ.get("PIP_FIND_LINKS") or configured


def build(name: str, *arguments: str, folder: Path = ROOT) -> float:
    """Builds a folder's Dockerfile, ours unless told; returns the seconds that took."""
    began = time.monotonic()
    shared = ["-v", f"{wheels()}:{wheels()}:ro"] if wheels().startswith("/") else []
    given = [
        "--build-arg",
        f"BASE_IMAGE={BASE}",
        "--build-arg",
        f"GIT_SHA={git_sha()}",
        "--build-arg",
        f"VERSION={__version__}",
        *arguments,
    ]
    command = ["build", "--isolation", "chroot", "--pull=never", "--format", "docker", "--layers", *shared]
    before = _ids_of(name)
    podman(*command, *given, "-t", name, str(folder), timeout=1500)
    for left in before - _ids_of(name):  # nobody else would, and one takes two gigabytes
        podman("rmi", left, check=False)
    return time.monotonic() - began


def _ids_of(name: str) -> set[str]:
    return set(podman("images", "--quiet", "--no-trunc", name).split())


@dataclass
class Container:
    """One that runs on the host's network."""

    name: str
    port: int
    began: float

    def ask(self, path: str, document: object = None) -> Answer:
        """GET, or POST of JSON."""
        url = f"http://127.0.0.1:{self.port}{path}"
        headers = {"Host": "localhost", "Content-Type": "application/json"}
        body = None if document is None else msgspec.json.encode(document)
        answer = httpcore.request("GET" if body is None else "POST", url, headers=headers, content=body)
        return Answer(answer.status, {k.decode().lower(): v.decode() for k, v in answer.headers}, answer.content)

    def wait_ready(self, limit_s: float = PATIENCE_S) -> float:
        """Seconds from `podman run` to the first ready answer."""
        return self.wait_for(lambda: self.ask("/readyz").status == 200, limit_s)

    def wait_for(self, condition, limit_s: float = PATIENCE_S) -> float:
        while time.monotonic() - self.began < limit_s:
            try:
                if condition():
                    return time.monotonic() - self.began
            except (httpcore.NetworkError, httpcore.ProtocolError):
                pass
            time.sleep(0.02)
        raise AssertionError(self.log())

    def state(self) -> dict:
        """As podman inspects it."""
        return json.loads(podman("inspect", self.name))[0]["State"]

    def log(self) -> str:
        done = subprocess.run(["podman", "logs", self.name], capture_output=True, text=True)
        return done.stdout + done.stderr


@contextmanager
def running(image: str, name: str, port: int, *arguments: str, flags: tuple[str, ...] = ()) -> Iterator[Container]:
    """A confined container. Args: podman's arguments, and the server's flags."""
    began = time.monotonic()
    command = ["--runtime", RUNTIME, "run", "-d", "--name", name, "--network", "host", *LIMITS, *CONFINED]
    podman(*command, "-e", f"POLICY_PORT={port}", *arguments, image, *flags)
    try:
        yield Container(name, port, began)
    finally:
        podman("rm", "-f", "-t", "1", name, check=False)
