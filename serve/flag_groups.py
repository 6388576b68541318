"""How the help of carla-serve orders its flags, and what it calls their values."""

from __future__ import annotations

from serve.settings import CHOICES

GROUPS: dict[str, tuple[str, ...]] = {
    "what is served": ("model", "also", "canary", "digest", "device", "backend", "trust_types"),
    "where": ("host", "port", "socket_mode", "workers", "worker_class", "certfile", "keyfile"),
    "who may call": ("cors_origins", "allowed_hosts"),
    "following the registry": ("cache_dir", "poll_s", "fetch_timeout_s", "load_timeout_s", "episode_hold_s"),
    "limits and times": (
        "max_batch",
        "max_body_bytes",
        "max_inflight",
        "budget_ms",
        "forward_timeout_s",
        "header_timeout_s",
        "body_timeout_s",
        "drain_s",
        "busy_poll_us",
        "result_cache",
    ),
    "recording (docs/how-to/record.md)": ("record", "record_share", "record_max_gb", "record_images"),
    "shadow (docs/how-to/shadow.md)": ("shadow", "shadow_share", "shadow_log", "shadow_memory_mb"),
    "logs": ("log_level", "log_format", "log_requests"),
}
"""Title → its settings; together all that have a flag, each once."""

_METAVARS = {
    "model": "FOLDER|REF",
    "also": "REF,…",
    "digest": "sha256:…",
    "host": "ADDRESS",
    "socket_mode": "MODE",
    "device": "NAME",
    "cache_dir": "DIR",
    "cors_origins": "ORIGIN,…",
    "allowed_hosts": "HOST,…",
    "certfile": "FILE",
    "keyfile": "FILE",
    "trust_types": "A,B",
    "record": "DIR",
    "shadow": "FOLDER|REF",
}
_UNITS = {"_s": "SECONDS", "_ms": "MS", "_us": "US", "_bytes": "BYTES", "_gb": "GB", "_mb": "MB", "_share": "SHARE"}


def metavar_of(setting: str) -> str:
    """What the help calls the value of a setting's flag: its choices, its unit, or what it names."""
    if setting in CHOICES:
        return f"{{{','.join(CHOICES[setting])}}}"
    unit = next((unit for ending, unit in _UNITS.items() if setting.endswith(ending)), "N")
    return _METAVARS.get(setting, unit)
