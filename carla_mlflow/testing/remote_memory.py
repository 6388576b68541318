"""What the smoke test of a deployment asks a server whose policy has a memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from ..client.client import PolicyClient
from ..contract.actions import Actions
from ..contract.running_episode import Episode
from .subject import Batch, expect

Post = Callable[[str, bytes], tuple[int, Any]]
"""Path and body of a request → the answer's status and JSON."""

LARGE_ROWS = 4
"""Rows of a batch with images, which take much space in JSON."""


def deciding_episode(client: PolicyClient) -> Episode:
    """An episode that asks the server at every call: it takes whole stacks rather than frames, and no action holds."""
    card = client.card
    fields = {
        name: msgspec.structs.replace(field, history=UNSET, history_start=UNSET)
        for name, field in card.observation.items()
    }
    action = msgspec.structs.replace(card.action, repeat=UNSET)
    return Episode(msgspec.structs.replace(card, observation=fields, action=action), client.step)


def acting_in_episodes(client: PolicyClient) -> Callable[..., Actions]:
    """As `Engine.act` for `run_freely`: each row is an episode of its own, which begins where `reset` is 1."""
    episodes: dict[int, Episode] = {}

    def act(observations: Batch, state: Mapping[str, Any] | None, reset: NDArray[np.float32]) -> Actions:
        found = []
        for row, begins in enumerate(reset):
            if begins:
                episodes[row] = deciding_episode(client)
            episode = episodes[row]
            found.append(episode.act({name: array[row] for name, array in observations.items()}))
            expect(not found[-1].fallback, "the server gave the card's fallback: its own budget was over")
            expect(not episode.restarts, f"the server did not go on with an episode: {', '.join(episode.restarts)}")
        distribution = {
            name: np.concatenate([one.distribution[name] for one in found]) for name in found[0].distribution
        }
        control, raw = (np.concatenate([getattr(one, name) for one in found]) for name in ("control", "raw"))
        return Actions(control, raw, distribution, names=found[0].names)

    return act


def rows_have_the_same_bits_at_two_steps(batch: Batch, post: Post) -> None:
    """Compares rows alone with the same rows in a batch, their next states too: where episodes begin, and after it."""
    count = len(next(iter(batch.values())))
    if any(array.dtype == np.uint8 and array.ndim > 3 for array in batch.values()):
        count = min(LARGE_ROWS, count)
    rows = [{name: array[row].tolist() for name, array in batch.items()} for row in range(count)]
    for step in ("beginning an episode", "going on with one"):
        together = _predicted(post, rows)
        for index, row in enumerate(rows):
            same = _predicted(post, [row]) == [together[index]]
            expect(same, f"row {index} alone, {step}, gives other bits, or another state")
        rows = [row | {"state": action["state"]} for row, action in zip(rows, together, strict=True)]


def _predicted(post: Post, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The actions of /predict, each with its `state`."""
    status, answer = post("/predict", msgspec.json.encode({"observations": rows}))
    actions = answer.get("actions") if isinstance(answer, dict) else None
    shaped = status == 200 and isinstance(actions, list) and len(actions) == len(rows)
    expect(shaped and all("state" in action for action in actions or []), f"a step got status {status}: {answer}")
    assert actions is not None
    return list(actions)
