"""An exact result cache: the same observation, asked again, gets the answer that it got.

Exact: a row is known by all of its bytes and by the seed it was sampled with, in the cache of one loaded artifact. So
a cached answer is bit for bit the one that the engine would give, which depends on nothing else. Sampling without
a seed is never cached: it has to differ.
"""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import cachetools
import numpy as np
from numpy.typing import NDArray

from ..contract.actions import Actions, Float32
from ..contract.card import Card
from ..contract.control import CONTROL_NAMES
from ..contract.observations import as_arrays
from .engine import Engine
from .sampling import checked_seed

SHORT_BYTES = 256
"""Up to here a row's own bytes are its key; beyond, their blake2b with 32 bytes."""


class ResultCache:
    """An engine that remembers. Safe to call from several threads.

    Attributes:
        hits: rows answered from memory.
        misses: rows that the engine was asked.
    """

    def __init__(self, engine: Engine, rows: int) -> None:
        """Remembers the `rows` least recently forgotten rows."""
        self._engine = engine
        self._known: cachetools.LRUCache[Any, Float32] = cachetools.LRUCache(rows)
        self._lock = threading.Lock()
        self._widths = [len(CONTROL_NAMES), *engine.card.action.outputs().values()]
        self.hits = self.misses = 0

    @property
    def card(self) -> Card:
        """Of the policy."""
        return self._engine.card

    @property
    def digest(self) -> str:
        """Of its artifact."""
        return self._engine.digest

    def act(self, observations: Any, deterministic: bool = True, seed: int | None = None) -> Actions:
        """As `Engine.act`."""
        if not deterministic and seed is None:
            return self._engine.act(observations, deterministic, seed)
        seed = None if deterministic else checked_seed(seed)
        # Copied: the caller may change its arrays while the engine looks at them, and the key has to be what it saw.
        arrays = {name: array.copy() for name, array in as_arrays(self._engine.specs, observations).items()}
        rows = self._engine.specs.validate(arrays)  # before the lookup: a refusal has to name the caller's row
        keys = [(seed, self._key(arrays, row)) for row in range(rows)]
        with self._lock:
            found = [self._known.get(key) for key in keys]
        missing = [row for row, known in enumerate(found) if known is None]
        timing = (0.0, 0.0, 0.0)
        if missing:
            asked = {name: array[missing] for name, array in arrays.items()}
            actions = self._engine.act(asked, deterministic, seed)
            timing = (actions.check_ms, actions.inference_ms, actions.control_ms)
            packed = np.concatenate([actions.control, actions.raw, *actions.distribution.values()], axis=1)
            for row, answer in zip(missing, packed, strict=True):
                found[row] = answer.copy()
        with self._lock:
            self.hits, self.misses = self.hits + rows - len(missing), self.misses + len(missing)
            self._known.update({keys[row]: answer for row in missing if (answer := found[row]) is not None})
        return self._unpack(np.stack([answer for answer in found if answer is not None]), seed, timing)

    def _key(self, arrays: dict[str, NDArray[Any]], row: int) -> bytes:
        parts = [arrays[name][row].tobytes() for name in self._engine.specs.names]
        whole = b"".join(parts)
        return whole if len(whole) <= SHORT_BYTES else hashlib.blake2b(whole, digest_size=32).digest()

    def _unpack(self, packed: Float32, seed: int | None, timing: tuple[float, float, float]) -> Actions:
        control, raw, *parameters = np.split(packed, np.cumsum(self._widths)[:-1], axis=1)
        names = [name for name in self._engine.card.action.outputs() if name != "raw"]
        return Actions(control, raw, dict(zip(names, parameters, strict=True)), seed, *timing)
