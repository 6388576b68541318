"""Tags each version that a server refused with the reason, so that people see it on the version's page."""

from __future__ import annotations

from collections.abc import Sequence

import httpcore
import msgspec

from carla_mlflow.escaping import escaped
from registry.moves.state import RegistryState
from registry.store.store import Store

TAG = "refused"
TIMEOUT_S = 5.0


class Refused(msgspec.Struct):
    """One item of `refused` in a server's /metadata."""

    version: str
    reason: str


class Metadata(msgspec.Struct):
    """The part of a server's /metadata that is read."""

    refused: list[Refused] = []


def tag_refused(store: Store, state: RegistryState, servers: Sequence[str]) -> None:
    """Tags the versions that each server refused with its reason; a server that does not answer is skipped."""
    for url in servers:
        for refused in _refused(url):
            for version in state.versions:
                if version.semver == refused.version:
                    store.tag(version, TAG, escaped(refused.reason))


def _refused(url: str) -> list[Refused]:
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_S)
    try:
        answer = httpcore.request("GET", f"{url.rstrip('/')}/metadata", extensions={"timeout": timeouts})
        return msgspec.json.decode(answer.content, type=Metadata).refused
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, msgspec.DecodeError):
        return []
