"""The body of GET /metadata: the active policy, where it came from, and its measurements."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from carla_mlflow.contract.control import unstated_scales
from registry.rules.reference import shown
from serve.policy.serving import Serving
from serve.policy.slot import Slot
from serve.run_folder import list_refused, ready_workers
from serve.settings import Settings
from serve.telemetry import metrics


def describe(serving: Serving, slot: Slot, settings: Settings) -> dict[str, Any]:
    """Returns the body as plain values for JSON."""
    engine, cache = serving.engine, serving.cache
    return {
        "card": serving.card.to_dict(),
        "contract": serving.card.contract,
        "digest": serving.digest,
        "pin": "pinned" if slot.is_pinned else "unpinned",
        "version": serving.version,
        "device": {"name": engine.device.name, "reason": engine.device.reason},
        "backend": engine.backend,
        "backend_figures": serving.backend_figures,
        "tile_rows": engine.tile_rows,
        "parity_difference": engine.parity_difference,
        "unusable_actions": engine.unusable_actions,
        "result_cache": None if cache is None else {"hits": cache.hits, "misses": cache.misses},
        "stage": serving.stage,
        "following": None if settings.is_folder else shown(settings.model),
        "registry": None if settings.is_folder else slot.followed.registry,
        "loaded_at": _clock(serving.loaded_at),
        "last_minute": metrics.last_minute(serving.columns),
        "served": [msgspec.to_builtins(served) for served in slot.served()],
        "held": [{**msgspec.to_builtins(held), "until": _clock(each.ends)} for each, held in slot.held_versions()],
        "refused": [
            {**msgspec.to_builtins(refused), "since": _clock(refused.since)} for refused in list_refused(slot.folder)
        ],
    }


def warnings_of(slot: Slot) -> list[str]:
    """Lists problems that do not stop the server from answering.

    Such as: the registry does not answer, a wanted version is refused, a card does not state what raw actions mean.
    """
    answers = slot.followed.answers
    wanted = {answer.wanted for answer in answers}
    refused = [refused for refused in list_refused(slot.folder) if refused.digest in wanted]
    found = [answer.warning for answer in answers if answer.warning]
    beside = zip(slot.references[1:], answers[1:], strict=False)
    found += [f"{shown(reference or '')}: {answer.reason}" for reference, answer in beside if answer.reason]
    if slot.workers > 1 and (ready := ready_workers(slot.folder)) < slot.workers:
        found.append(f"{ready} of {slot.workers} workers are ready")
    serving = {served.digest: served for served in slot.servings if served}.values()
    found += [f"{served.version}: {text}" for served in serving for text in unstated_scales(served.card.action)]
    return found + [f"{refused.version} is refused ({refused.kind}): {refused.reason}" for refused in refused]


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
