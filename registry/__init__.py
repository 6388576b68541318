"""Decides which version of a policy drives: semantic versions, stages and moves, kept in MLflow's Model Registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carla_mlflow.errors import CacheError, NotFoundError, RefusedError, RegistryError, UnreachableError
from carla_mlflow.lazy_names import lazy_names

if TYPE_CHECKING:
    from registry.checks.verify import verify
    from registry.moves.judge import promotion_gates, rollback_gates
    from registry.moves.promotion import archive, promote, rollback
    from registry.moves.registration import register
    from registry.moves.state import RegistryState, read_state
    from registry.moves.sync import sync
    from registry.moves.terms import MoveOptions, MoveResult
    from registry.rules.policy_version import PolicyVersion
    from registry.rules.reference import Reference, parse_reference
    from registry.store.cache import default_cache, fetch_to_cache
    from registry.store.store import Store

_HOMES = {
    "MoveOptions": "moves.promotion",
    "MoveResult": "moves.promotion",
    "PolicyVersion": "rules.policy_version",
    "Reference": "rules.reference",
    "RegistryState": "moves.state",
    "Store": "store.store",
    "archive": "moves.promotion",
    "default_cache": "store.cache",
    "fetch_to_cache": "store.cache",
    "parse_reference": "rules.reference",
    "promote": "moves.promotion",
    "promotion_gates": "moves.judge",
    "read_state": "moves.state",
    "register": "moves.registration",
    "rollback": "moves.promotion",
    "rollback_gates": "moves.judge",
    "sync": "moves.sync",
    "verify": "checks.verify",
}

__all__ = [
    "CacheError",
    "MoveOptions",
    "MoveResult",
    "NotFoundError",
    "PolicyVersion",
    "Reference",
    "RefusedError",
    "RegistryError",
    "RegistryState",
    "Store",
    "UnreachableError",
    "archive",
    "default_cache",
    "fetch_to_cache",
    "parse_reference",
    "promote",
    "promotion_gates",
    "read_state",
    "register",
    "rollback",
    "rollback_gates",
    "sync",
    "verify",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
