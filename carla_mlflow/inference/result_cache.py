"""An exact result cache: a repeated observation gets its earlier answer without a forward pass.

The key is all of a row's bytes and its sampling seed, in a cache of one loaded artifact. The engine's answer depends
on nothing else, so a cached answer has the same bits. Sampling without a seed is never cached: samples have to differ.
A policy with a memory is refused: its answer depends on its state too, which hardly ever comes again.
"""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Any

import cachetools
import numpy as np
from numpy.typing import NDArray

from ..contract.actions import Actions, Float32, check_budget, fallback_actions
from ..contract.card import Card
from ..contract.observations import as_arrays
from ..contract.running_episode import Episode, local_episode
from ..errors import ArtifactError
from .engine import Engine
from .sampling import checked_seed

SHORT_BYTES = 256
"""A row of up to this size is its own key; the key of a larger one is its blake2b hash of 32 bytes."""


class ResultCache:
    """An engine with a cache of its answers. Safe to call from several threads.

    Attributes:
        hits: rows answered from the cache.
        misses: rows computed by the engine.
    """

    def __init__(self, engine: Engine, rows: int) -> None:
        """Keeps the `rows` most recently used rows.

        Raises:
            ArtifactError: the policy has a memory.
        """
        if engine.card.memory is not None:
            raise ArtifactError(
                f"{engine.card.name} {engine.card.version} has a memory: the same observation gets another answer in "
                "another state, so its answers can't be kept; turn the result cache off (POLICY_RESULT_CACHE=0)"
            )
        self._engine = engine
        self._known: cachetools.LRUCache[Any, Float32] = cachetools.LRUCache(rows)
        self._lock = threading.Lock()
        self._names = engine.card.action.control_names
        self._widths = [len(self._names), *engine.card.action.outputs().values()]
        self.hits = self.misses = 0

    @property
    def card(self) -> Card:
        """The policy's card."""
        return self._engine.card

    @property
    def digest(self) -> str:
        """The artifact's digest."""
        return self._engine.digest

    def act(
        self,
        observations: Any,
        deterministic: bool = True,
        seed: int | None = None,
        budget_ms: float | None = None,
    ) -> Actions:
        """As `Engine.act`."""
        if not deterministic and seed is None:
            return self._engine.act(observations, deterministic, seed, budget_ms)
        began = time.perf_counter()
        check_budget(budget_ms)
        seed = None if deterministic else checked_seed(seed)
        # Copied: the caller may change its arrays meanwhile, and the key has to match what the engine reads.
        arrays = {name: array.copy() for name, array in as_arrays(self._engine.specs, observations).items()}
        rows = self._engine.specs.validate(arrays)  # before the lookup: an error has to name the caller's row
        keys = [(seed, self._key(arrays, row)) for row in range(rows)]
        with self._lock:
            answers = [self._known.get(key) for key in keys]
        missing = [row for row, known in enumerate(answers) if known is None]
        timing = (0.0, 0.0, 0.0)
        if missing:
            uncached = {name: array[missing] for name, array in arrays.items()}
            actions = self._engine.act(uncached, deterministic, seed)
            timing = (actions.check_ms, actions.inference_ms, actions.control_ms)
            packed = np.concatenate([actions.control, actions.raw, *actions.distribution.values()], axis=1)
            for row, answer in zip(missing, packed, strict=True):
                answers[row] = answer.copy()
        with self._lock:
            self.hits, self.misses = self.hits + rows - len(missing), self.misses + len(missing)
            self._known.update({keys[row]: answer for row in missing if (answer := answers[row]) is not None})
        if budget_ms is not None and (time.perf_counter() - began) * 1e3 >= budget_ms:
            return fallback_actions(self.card.action, rows)
        return self._unpack(np.stack([answer for answer in answers if answer is not None]), seed, timing)

    def start_episode(self, episode_id: str | None = None) -> Episode:
        """As `Engine.start_episode`."""
        return local_episode(self, episode_id)

    def _key(self, arrays: dict[str, NDArray[Any]], row: int) -> bytes:
        parts = [arrays[name][row].tobytes() for name in self._engine.specs.names]
        row_bytes = b"".join(parts)
        return row_bytes if len(row_bytes) <= SHORT_BYTES else hashlib.blake2b(row_bytes, digest_size=32).digest()

    def _unpack(self, packed: Float32, seed: int | None, timing: tuple[float, float, float]) -> Actions:
        control, raw, *parameters = np.split(packed, np.cumsum(self._widths)[:-1], axis=1)
        names = [name for name in self._engine.card.action.outputs() if name != "raw"]
        distribution = dict(zip(names, parameters, strict=True))
        return Actions(control, raw, distribution, seed, *timing, names=self._names)
