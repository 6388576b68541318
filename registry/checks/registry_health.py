"""What commonly goes wrong between this machine and its registry: address, versions, clocks, permissions."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import mlflow
import requests

from carla_mlflow.errors import CarlaMlflowError, UnreachableError
from carla_mlflow.escaping import one_line
from carla_mlflow.flavor.database import sqlite_file
from registry.checks.finding import Finding
from registry.store.calls import registry_uri
from registry.store.store import Store

DEADLINE_S = 10.0
"""For one question to the registry, seconds."""
CLOCK_S = 10.0
"""Most seconds that two clocks may differ: the journal's dates and the guard's sign of life compare them."""
SET_IT = "let MLFLOW_TRACKING_URI name a registry that answers, or start it"


@dataclass(frozen=True)
class Server:
    """What an MLflow server says of itself.

    Attributes:
        version: of its MLflow; empty where it does not say.
        ahead_s: how far its clock is ahead of this machine's, seconds; None where it does not say.
    """

    version: str
    ahead_s: float | None


def registry_findings() -> Iterator[Finding]:
    """Looks at the registry that the other commands would use; nothing is written, and no database is made."""
    uri = registry_uri()
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        yield Finding("registry", True, f"{uri}: none yet in this folder; the first carla-registry register makes it")
        return
    began = time.monotonic()
    try:
        names = Store(deadline_s=DEADLINE_S).names()
    except CarlaMlflowError as error:
        yield _not_read(uri, error)
        return
    took = (time.monotonic() - began) * 1e3
    yield Finding("registry", True, f"{uri}: {len(names)} {_plural('policy', len(names))}, read in {took:.0f} ms")
    if uri.startswith("http"):
        yield from server_findings(ask_server(mlflow.get_registry_uri()), time.time())
        yield Finding("permissions", True, "the policies can be listed; writing was not tried, as it would write")
    elif file is not None:
        yield _file_permissions(file)


def _not_read(uri: str, error: CarlaMlflowError) -> Finding:
    text = one_line(error)
    if isinstance(error, UnreachableError):
        return Finding("registry", False, text, SET_IT, no_answer=True)
    todo = "check the user, the password or token, and what they may do: MLFLOW_TRACKING_USERNAME, …_PASSWORD, …_TOKEN"
    return Finding("permissions", False, f"{uri}: {text}", todo)


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word.removesuffix('y')}ies"


def _file_permissions(file: Path) -> Finding:
    for path in (file, file.parent):  # SQLite writes a journal beside its file
        if not os.access(path, os.W_OK):
            return Finding("permissions", False, f"{path} can't be written", "let its owner give you the right to")
    return Finding("permissions", True, f"{file} can be read and written")


def ask_server(uri: str) -> Server | None:
    """Asks an MLflow server for its version and its time; None where it does not tell."""
    try:
        response = requests.get(f"{uri.rstrip('/')}/version", timeout=DEADLINE_S, verify=_is_verified())
    except requests.RequestException:
        return None
    date, ahead = response.headers.get("Date"), None
    if date is not None:
        ahead = parsedate_to_datetime(date).timestamp() - time.time()
    text = response.text.strip()
    return Server(text if response.ok and len(text) < 32 and text[:1].isdigit() else "", ahead)


def _is_verified() -> bool | str:
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() == "true":
        return False
    return os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True


def server_findings(server: Server | None, now: float) -> Iterator[Finding]:
    """Compares what a server says of itself with this machine.

    Args:
        server: what it said; None where it does not say.
        now: this machine's time, seconds since 1970.
    """
    here = mlflow.__version__
    if server is None or not server.version:
        yield Finding("versions", True, f"MLflow {here} here; the server does not say which it has")
    elif server.version.split(".")[:2] == here.split(".")[:2]:
        yield Finding("versions", True, f"MLflow {here} here, {server.version} on the server")
    else:
        todo = "install the same minor version on both"
        yield Finding("versions", False, f"MLflow {here} here, {server.version} on the server", todo)
    if server is None or server.ahead_s is None:
        yield Finding("clock", True, "the server does not say its time")
    elif abs(server.ahead_s) <= CLOCK_S:
        yield Finding("clock", True, f"this machine's and the server's agree within {abs(server.ahead_s) + 1:.0f} s")
    else:
        said = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now + server.ahead_s))
        todo = "set both by NTP: the journal's dates come from them"
        yield Finding("clock", False, f"the server's is {server.ahead_s:+.0f} s from this machine's ({said})", todo)
