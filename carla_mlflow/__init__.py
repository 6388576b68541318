"""carla-mlflow: what a driving policy is, from the bytes on disk to throttle, brake and steer.

Importing this package loads neither torch, mlflow, flask nor scikit-learn: each name below is imported when it
is first used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .lazy_names import lazy_names

_EARLY_ENVIRONMENT = {
    # With this, Intel's MKL (inside torch) rounds a row the same way at any position in a batch. Without it, MKL does
    # not on processors with AMX, and each row of a TorchScript policy would need its own forward pass. MKL reads it at
    # its first matrix product.
    "MKL_CBWR": "AUTO,STRICT",
    # By default these libraries send usage data to their makers; which policy drives where is private.
    "ORT_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Environment variables that other libraries read once. They are set here because every program of this project
imports this package first; a value that the user has set is kept."""

for _name, _value in _EARLY_ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

if TYPE_CHECKING:
    from .artifact.artifact import Artifact, open_artifact, write_artifact
    from .backends.device import select_device
    from .client.async_client import AsyncPolicyClient
    from .client.client import PolicyClient
    from .contract.actions import Actions
    from .contract.array_spec import ArraySpec
    from .contract.card import Card
    from .contract.policy import AsyncPolicy, Policy
    from .contract.running_episode import AsyncEpisode, Episode
    from .contract.specs import ObservationSpec
    from .errors import (
        ActionError,
        ArtifactError,
        CacheError,
        CardError,
        CarlaMlflowError,
        ContractError,
        CrashError,
        DeviceError,
        DrivingError,
        EpisodeError,
        ExportError,
        IntegrityError,
        NotFoundError,
        NotOursError,
        ParityError,
        RefusedError,
        RegistryError,
        ServerError,
        SpecError,
        UnreachableError,
    )
    from .inference.engine import Engine
    from .inference.result_cache import ResultCache

__version__ = "0.1.0"

_HOMES = {
    "ActionError": "errors",
    "Actions": "contract.actions",
    "ArraySpec": "contract.array_spec",
    "Artifact": "artifact.artifact",
    "ArtifactError": "errors",
    "AsyncEpisode": "contract.running_episode",
    "AsyncPolicy": "contract.policy",
    "AsyncPolicyClient": "client.async_client",
    "CacheError": "errors",
    "Card": "contract.card",
    "CardError": "errors",
    "CarlaMlflowError": "errors",
    "ContractError": "errors",
    "CrashError": "errors",
    "DeviceError": "errors",
    "DrivingError": "errors",
    "Engine": "inference.engine",
    "Episode": "contract.running_episode",
    "EpisodeError": "errors",
    "ExportError": "errors",
    "IntegrityError": "errors",
    "NotFoundError": "errors",
    "NotOursError": "errors",
    "ObservationSpec": "contract.specs",
    "ParityError": "errors",
    "Policy": "contract.policy",
    "PolicyClient": "client.client",
    "RefusedError": "errors",
    "RegistryError": "errors",
    "ResultCache": "inference.result_cache",
    "ServerError": "errors",
    "SpecError": "errors",
    "UnreachableError": "errors",
    "open_artifact": "artifact.artifact",
    "select_device": "backends.device",
    "write_artifact": "artifact.artifact",
}

__all__ = [
    "ActionError",
    "Actions",
    "ArraySpec",
    "Artifact",
    "ArtifactError",
    "AsyncEpisode",
    "AsyncPolicy",
    "AsyncPolicyClient",
    "CacheError",
    "Card",
    "CardError",
    "CarlaMlflowError",
    "ContractError",
    "CrashError",
    "DeviceError",
    "DrivingError",
    "Engine",
    "Episode",
    "EpisodeError",
    "ExportError",
    "IntegrityError",
    "NotFoundError",
    "NotOursError",
    "ObservationSpec",
    "ParityError",
    "Policy",
    "PolicyClient",
    "RefusedError",
    "RegistryError",
    "ResultCache",
    "ServerError",
    "SpecError",
    "UnreachableError",
    "__version__",
    "open_artifact",
    "select_device",
    "write_artifact",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
