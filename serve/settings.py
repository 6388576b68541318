"""The server's settings: one frozen object that can list which of its values are invalid."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from carla_mlflow.artifact.naming import is_artifact_folder, split_folder_reference
from carla_mlflow.client.unix_address import is_unix, socket_path
from carla_mlflow.contract import backend_names
from carla_mlflow.errors import RefusedError
from carla_mlflow.preprocessing.trust_types import operators_types
from registry.rules.lifecycle import PRODUCTION
from registry.rules.reference import parse_reference

MIB = 1024 * 1024
PREFIX = "POLICY_"
SWITCH_S = 0.0005
"""Seconds after which Python switches threads; its default of 5 ms is as long as fifty responses."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
RANGES = {
    "port": (0, 65535),
    "workers": (1, 256),
    "max_batch": (1, 1_000_000),
    "max_body_bytes": (1, 1024 * MIB),
    "result_cache": (0, 10_000_000),
    "max_inflight": (1, 1_000_000),
    "budget_ms": (0, 1e9),
    "busy_poll_us": (0, 10_000),
    "drain_s": (0, 600),
    "episode_hold_s": (0, 86_400),
    "record_share": (0, 1),
    "record_max_gb": (0.001, 1e6),
    "shadow_share": (0, 1),
    "shadow_memory_mb": (256, 1_000_000),
}
POSITIVE_S = ("poll_s", "fetch_timeout_s", "load_timeout_s", "forward_timeout_s", "header_timeout_s", "body_timeout_s")
"""Settings in seconds that may be any number above 0 and up to an hour."""
CHOICES = {
    "backend": backend_names.CHOICES,
    "worker_class": ("loop", "gthread"),
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("text", "json"),
    "log_requests": ("none", "refused", "all"),
    "record_images": ("keep", "hash", "none"),
}


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


def _secret(text: str) -> Any:
    """A setting that is read only from the environment, since all users of a machine can see flags."""
    return field(default="", repr=False, metadata={"help": text, "secret": True})


@dataclass(frozen=True)
class Settings:
    """Each setting is also a flag and a variable: `max_batch` is `--max-batch` or POLICY_MAX_BATCH."""

    model: str = _setting("", "artifact folder, or a reference: carla-policy@production, folder/@^1.2")
    also: str = _setting("", "more versions of that policy to serve at /predict?version=…: NAME@1.2.0,NAME@^1.1")
    canary: bool = _setting(
        False,
        "with --model NAME@production, no --digest: also follow NAME@canary, which answers its share of the episodes",
    )
    digest: str = _setting("", "serve only the artifact with this digest (sha256:…)")
    host: str = _setting("127.0.0.1", "address to listen on, or unix:/run/policy.sock for a Unix socket")
    port: int = _setting(8080, "port to listen on; a Unix socket has none")
    socket_mode: str = _setting("0660", "permissions of the Unix socket, octal: who may write to it may connect")
    workers: int = _setting(1, "worker processes")
    device: str = _setting("auto", "auto, cpu, cuda or cuda:N")
    backend: str = _setting("card", "card (what it names), torchscript, onnx, openvino, or auto (the faster here)")
    cache_dir: str = _setting("", "where fetched artifacts are kept (default: the user's cache folder)")
    poll_s: float = _setting(5.0, "seconds between two polls of the registry or the folder")
    fetch_timeout_s: float = _setting(
        60.0, "seconds without another megabyte on disk after which a download is given up"
    )
    load_timeout_s: float = _setting(60.0, "most seconds to load, verify and warm up a policy")
    webhook_secret: str = _secret("secret of MLflow's webhook; the route /hooks/mlflow exists only with it")
    max_batch: int = _setting(1024, "most observations per request")
    max_body_bytes: int = _setting(64 * MIB, "most bytes of a request's body")
    max_inflight: int = _setting(1024, "most requests that a worker has in flight; further ones get 429")
    budget_ms: float = _setting(0.0, "milliseconds until a response is too late (504); requests may set less; 0: never")
    forward_timeout_s: float = _setting(5.0, "seconds after which a forward counts as hung, and its worker is replaced")
    header_timeout_s: float = _setting(5.0, "most seconds for a request's head to arrive")
    body_timeout_s: float = _setting(10.0, "most seconds for a request's body to arrive, and for a response to be read")
    busy_poll_us: float = _setting(
        200.0, "microseconds to poll for a request before sleeping, where that pays off; 0: never"
    )
    worker_class: str = _setting("loop", "loop (our event loop) or gthread (gunicorn's threads and Flask)")
    api_key: str = _secret("key that every request except probes must carry: Authorization: Bearer KEY")
    state_key: str = _secret(
        "key of the state tokens of policies with memory, the same on all servers that share episodes; without it "
        "tokens are safe from damage, not from forging"
    )
    episode_hold_s: float = _setting(
        300.0, "seconds for which a replaced version still answers the episodes that it began; 0: it never does"
    )
    cors_origins: str = _setting("", "origins whose pages may call the server: https://a.example,https://b.example")
    allowed_hosts: str = _setting(
        "",
        "allowed Host headers: cars.example,10.0.0.7; *: any (default: any; on a loopback address only its own names); "
        "not checked on a Unix socket",
    )
    certfile: str = _setting("", "TLS: the certificate chain, PEM")
    keyfile: str = _setting("", "TLS: the private key, PEM")
    drain_s: float = _setting(2.0, "seconds to keep accepting connections after SIGTERM")
    trust_types: str = _setting("", "more types to allow in preprocessor.skops: my_pkg.Clipper,…")
    result_cache: int = _setting(0, "most observations in the result cache; 0: no cache")
    record: str = _setting("", "folder to record to: observations, actions, times, ids; see docs/how-to/record.md")
    record_share: float = _setting(1.0, "share of the episodes, and of requests without one, that is recorded: 0 to 1")
    record_max_gb: float = _setting(10.0, "most gigabytes of this server's recordings; the oldest are deleted")
    record_images: str = _setting(
        "none", "what to record of images: keep; or hash or none, whose rows can't be replayed"
    )
    log_level: str = _setting("info", "debug, info, warning or error")
    log_format: str = _setting("text", "text, or json (one object per line)")
    log_requests: str = _setting("none", "which requests to log: none, refused or all")
    shadow: str = _setting(
        "", "a version that acts on what is asked here too, in a process of its own, and is compared: NAME@staging"
    )
    shadow_share: float = _setting(1.0, "share of the episodes, and of requests without one, that it sees: 0 to 1")
    shadow_log: bool = _setting(
        False, "log what the shadow's comparison finds to MLflow, where the gate `shadow` reads it"
    )
    shadow_memory_mb: float = _setting(
        2048.0, "most megabytes of memory that the shadow may take; with more it is ended"
    )

    @property
    def grace_s(self) -> float:
        """Seconds that a drained worker waits for requests in flight: the longest that one may take."""
        return max(self.body_timeout_s, self.forward_timeout_s) + 0.5

    @property
    def is_folder(self) -> bool:
        """Whether `model` is one artifact on disk rather than a reference that is followed."""
        return is_artifact_folder(self.model)

    @property
    def follows_folder(self) -> bool:
        """Whether the versions come from a folder of artifacts rather than from the registry."""
        return split_folder_reference(self.model) is not None

    @property
    def is_unix(self) -> bool:
        """Whether to listen on a Unix socket instead of TCP."""
        return is_unix(self.host)

    @property
    def address(self) -> str:
        """Where the server listens, for messages."""
        if self.is_unix:
            return f"unix:{socket_path(self.host)}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def trusted(self) -> tuple[str, ...]:
        """`trust_types` as a tuple of full names."""
        return operators_types(self.trust_types)

    @property
    def origins(self) -> tuple[str, ...]:
        """`cors_origins` as a tuple."""
        return tuple(origin.strip() for origin in self.cors_origins.split(",") if origin.strip())

    @property
    def hosts(self) -> frozenset[str] | None:
        """The allowed values of a request's Host, in lower case; None for any.

        By default only a server on loopback restricts them: a foreign web page can make its own host name resolve
        to loopback (DNS rebinding), and so get past every firewall. No page can reach a Unix socket.
        """
        if self.is_unix:
            return None
        if self.allowed_hosts:
            named = frozenset(host.strip().lower() for host in self.allowed_hosts.split(",") if host.strip())
            return None if "*" in named else named
        host = f"[{self.host}]" if ":" in self.host else self.host.lower()
        return LOOPBACK | {host} if host in LOOPBACK or host.startswith("127.") else None

    @property
    def references(self) -> tuple[str | None, ...]:
        """The references to follow, `model` first; a single None for a folder."""
        if self.is_folder:
            return (None,)
        # A version range may contain commas: a part without @ or / belongs to the reference before it.
        joined = re.sub(r",(?=[^,]*[@/])", "\n", self.also)
        return (self.model, *(text.strip() for text in joined.splitlines() if text.strip()))

    def _problems_of_references(self) -> list[str]:
        if self.is_folder:
            return (
                ["also: needs a --model in the registry, or such as folder/@^1.2, rather than one artifact"]
                if self.also
                else []
            )
        try:
            name = parse_reference(self.model).name
        except RefusedError as error:
            return [f"model: {error}"] if self.model else []
        try:
            others = [parse_reference(text or "").name for text in self.references[1:]]
        except RefusedError as error:
            return [f"also: {error}"]
        kind = "folder" if self.follows_folder else "policy"
        return [f"also: {other} is another {kind} than {name}" for other in others if other != name]

    def _problems_of_shadow(self) -> list[str]:
        if not self.shadow:
            return ["shadow_log: there is no --shadow whose comparison could be logged"] if self.shadow_log else []
        if is_artifact_folder(self.shadow):
            return []
        try:
            parse_reference(self.shadow)
        except RefusedError as error:
            return [f"shadow: {error}"]
        return []

    def _problems_of_canary(self) -> list[str]:
        if not self.canary:
            return []
        try:
            reference = None if self.is_folder else parse_reference(self.model)
        except RefusedError:  # told already
            return []
        if reference is None or reference.is_folder or (reference.kind, reference.value) != ("alias", PRODUCTION):
            return ["canary: answers beside a version in production, so it needs --model NAME@production"]
        return ["canary: --digest lets one artifact alone be served"] if self.digest else []

    def _problems_of_address(self) -> list[str]:
        if not self.host:
            return ["host: is empty; 0.0.0.0 listens on every address"]
        found = []
        if not re.fullmatch(r"(0o?)?[0-7]{3}", self.socket_mode):
            found.append(f"socket_mode: {self.socket_mode!r}: expected three octal digits, such as 0660")
        elif not int(self.socket_mode, 8) & 0o200:
            found.append(
                f"socket_mode: {self.socket_mode!r}: its owner could not connect either; expected such as 0660"
            )
        if self.is_unix:
            try:
                socket_path(self.host)
            except ValueError as error:
                found.append(f"host: {error}")
            if self.certfile or self.keyfile:
                found.append("certfile: a Unix socket takes no TLS; its mode and its folder say who may connect")
        return found

    def _problems_of_access(self) -> list[str]:
        found = []
        for origin in self.origins:
            if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?", origin):
                found.append(f"cors_origins: {origin!r}: expected exact origins, such as https://cars.example")
        for host in self.hosts or ():
            if not re.fullmatch(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]", host):
                found.append(
                    f"allowed_hosts: {host!r}: expected names or addresses without a port, such as cars.example"
                )
        if bool(self.certfile) != bool(self.keyfile):
            found.append("certfile: TLS needs --certfile and --keyfile")
        for name in ("certfile", "keyfile"):
            if getattr(self, name) and not Path(getattr(self, name)).is_file():
                found.append(f"{name}: {getattr(self, name)!r}: there is no such file")
        return found

    def problems(self) -> list[str]:
        """Returns a message for each invalid setting."""
        found = [] if self.model else ["model: say what to serve: --model FOLDER or --model NAME@production"]
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:
                found.append(f"{name}: {getattr(self, name)} is outside {low} to {high}")
        if self.digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", self.digest):
            found.append(f"digest: {self.digest!r}: expected sha256: and 64 hex digits")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            found.append(f"device: {self.device!r}: expected auto, cpu, cuda or cuda:N")
        for name in self.trusted:
            if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name):
                found.append(f"trust_types: {name!r}: expected full names of types, such as my_pkg.features.Clipper")
        for name in POSITIVE_S:
            if not 0 < getattr(self, name) <= 3600:
                found.append(f"{name}: {getattr(self, name)} is not above 0, or is above 3600")
        found += self._problems_of_references() + self._problems_of_canary() + self._problems_of_shadow()
        found += self._problems_of_address() + self._problems_of_access()
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                found.append(f"{name}: {getattr(self, name)!r}: expected {', '.join(allowed[:-1])} or {allowed[-1]}")
        return found

    def to_environment(self) -> dict[str, str]:
        """Returns the settings as POLICY_ variables for child processes, without secrets."""
        return {PREFIX + f.name.upper(): str(getattr(self, f.name)) for f in fields(self) if "secret" not in f.metadata}
