"""carla-mlflow: what a driving policy is, from the bytes on disk to throttle, brake and steer.

Importing this package loads neither torch, mlflow, flask nor scikit-learn: each name below is imported when it
is first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

_SET_BEFORE_OTHERS_READ_IT = {
    # Intel's MKL, inside torch, then rounds a row alike wherever it stands in a batch. On processors with AMX it
    # otherwise does not, and each row of a TorchScript policy needs a forward of its own. Read at its first product.
    "MKL_CBWR": "AUTO,STRICT",
    # These libraries report their use to their makers unless told not to; what drives where is nobody else's business.
    "ORT_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Environment variables that other libraries read once, set where every entry comes by; a user's own value stays."""

for _name, _value in _SET_BEFORE_OTHERS_READ_IT.items():
    os.environ.setdefault(_name, _value)

if TYPE_CHECKING:
    from .artifact.artifact import Artifact, open_artifact, write_artifact
    from .backends.device import select_device
    from .client.async_client import AsyncPolicyClient
    from .client.client import PolicyClient
    from .contract.actions import Actions
    from .contract.array_spec import ArraySpec
    from .contract.card_sections import Card
    from .contract.specs import ObservationSpec
    from .inference.engine import Engine

__version__ = "0.1.0"

_HOMES = {
    "Actions": "contract.actions",
    "ArraySpec": "contract.array_spec",
    "Artifact": "artifact.artifact",
    "AsyncPolicyClient": "client.async_client",
    "Card": "contract.card_sections",
    "Engine": "inference.engine",
    "ObservationSpec": "contract.specs",
    "PolicyClient": "client.client",
    "open_artifact": "artifact.artifact",
    "select_device": "backends.device",
    "write_artifact": "artifact.artifact",
}

__all__ = [
    "Actions",
    "ArraySpec",
    "Artifact",
    "AsyncPolicyClient",
    "Card",
    "Engine",
    "ObservationSpec",
    "PolicyClient",
    "__version__",
    "open_artifact",
    "select_device",
    "write_artifact",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
