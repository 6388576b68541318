"""The inference server: serves a policy over HTTP with gunicorn and Flask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carla_mlflow.lazy_names import lazy_names

if TYPE_CHECKING:
    from serve.errors import ApiError
    from serve.following.startup import start_filling
    from serve.policy.slot import Slot
    from serve.settings import Settings
    from serve.web.app import create_app

_HOMES = {
    "ApiError": "errors",
    "Settings": "settings",
    "Slot": "policy.slot",
    "create_app": "web.app",
    "start_filling": "following.startup",
}

__all__ = [
    "ApiError",
    "Settings",
    "Slot",
    "create_app",
    "start_filling",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
