"""The body of GET /metadata: the active policy, where it came from, and its measurements."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from carla_mlflow.contract.control import unstated_scales
from registry.rules.reference import canary_of, shown
from serve.policy.serving import Serving
from serve.policy.slot import Slot
from serve.run_folder import list_refused, ready_workers
from serve.settings import Settings
from serve.telemetry.shadow_report import read_shadow

UNPINNED = "unpinned: no digest was given for this folder"
UNPINNED_VERSIONS = "unpinned: the folder of artifacts has no file PINS"


def describe(serving: Serving, slot: Slot, settings: Settings) -> dict[str, Any]:
    """Returns the body as plain values for JSON, without the last minute."""
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
        "loaded_at": clock(serving.loaded_at),
        "served": [msgspec.to_builtins(served) for served in slot.served()],
        "held": [{**msgspec.to_builtins(held), "until": clock(each.ends)} for each, held in slot.held_versions()],
        "canary": describe_canary(slot),
        "refused": describe_refused(slot.folder),
        "shadow": _shadow(slot.folder),
    }


def describe_refused(folder: Path) -> list[dict[str, Any]]:
    """The versions that are refused, and why."""
    return [{**msgspec.to_builtins(each), "since": clock(each.since)} for each in list_refused(folder)]


def _shadow(folder: Path) -> dict[str, Any] | None:
    """What the server's shadow is, and what it has found; None where there is none."""
    found = read_shadow(folder)
    if found is None:
        return None
    life, report = found
    return {
        "following": life.reference,
        "share": life.share,
        "up": found.is_up,
        "reason": found.reason,
        "since": clock(life.since),
        "starts": life.starts,
        "name": report.name,
        "version": report.version,
        "digest": report.digest,
        "counts": msgspec.to_builtins(report.counts),
        "skipped": report.skipped,
        "beside": msgspec.to_builtins(report.beside),
        "refused": [{**msgspec.to_builtins(each), "since": clock(each.since)} for each in report.refused],
        "unlogged": report.unlogged,
    }


def describe_canary(slot: Slot) -> dict[str, Any] | None:
    """The canary beside the active policy, and for how many of the episodes; or why no episode begins with it.

    None without --canary, and while the registry has no canary.
    """
    found, canary = slot.followed.canary, slot.canary
    if found is None or not (found.wanted or found.reason):
        return None
    here = canary if canary is not None and canary.serving.digest == found.wanted else None
    refused = [each.reason for each in list_refused(slot.folder) if each.digest == found.wanted] if not here else []
    reason = next(iter(refused), found.reason)  # a refusal is read now, and may be newer than what was followed
    if refused or reason:
        state = "refused" if refused else "idle"
    else:
        state = "active" if here is not None and here.is_active else "loading"
    return {
        "version": found.version,
        "digest": found.wanted,
        "state": state,
        "share": slot.followed.canary_share if state == "active" else 0.0,
        "reason": reason,
        "loaded_at": None if here is None else clock(here.serving.loaded_at),
        "backend": None if here is None else here.serving.engine.backend,
    }


def _unpinned(slot: Slot) -> list[str]:
    if slot.serving is None or slot.is_pinned:
        return []
    return [UNPINNED_VERSIONS if slot.serving.engine.pinned else UNPINNED]


def warnings_of(slot: Slot) -> list[str]:
    """Lists problems that do not stop the server from answering.

    Such as: the registry does not answer, a wanted version is refused, a card does not state what raw actions mean.
    """
    canary = describe_canary(slot)
    answers = slot.followed.answers + ((slot.followed.canary,) if slot.followed.canary else ())
    beside = zip(slot.references[1:], answers[1:], strict=False)
    reasons = [f"{shown(reference or '')}: {answer.reason}" for reference, answer in beside if answer.reason]
    if canary is not None and canary["state"] == "idle":
        which = " ".join(filter(None, (canary_of(slot.references[0] or "") + ":", canary["version"])))
        reasons.append(f"{which} {canary['reason']}")
    wanted = {answer.wanted for answer in answers}
    refused = [refused for refused in list_refused(slot.folder) if refused.digest in wanted]
    found = _unpinned(slot)
    found += [answer.warning for answer in answers if answer.warning]
    found += reasons
    if slot.workers > 1 and (ready := ready_workers(slot.folder)) < slot.workers:
        found.append(f"{ready} of {slot.workers} workers are ready")
    serving = {served.digest: served for served in slot.servings if served}.values()
    found += [f"{served.version}: {text}" for served in serving for text in unstated_scales(served.card.action)]
    return found + [f"{refused.version} is refused ({refused.kind}): {refused.reason}" for refused in refused]


def clock(seconds: float) -> str:
    """A time, given as seconds since 1970."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
