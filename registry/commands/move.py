"""carla-registry promote, rollback and archive: commands that change which version drives."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from shlex import quote
from typing import TYPE_CHECKING, Any

from carla_mlflow.cli import DONE, REFUSED, warn
from carla_mlflow.errors import RefusedError
from carla_mlflow.escaping import escaped
from carla_mlflow.look import say_next, show, styled
from registry.commands.options import open_store
from registry.commands.printing import line
from registry.rules.baking import how_to_guard, is_guarded
from registry.rules.canary import check_share, share_text
from registry.rules.lifecycle import ALIASED, CANARY, LEFT, PRODUCTION

if TYPE_CHECKING:
    from registry.rules.journal import Bake
    from registry.rules.reference import Reference
    from registry.store.store import Store


def promote(options: argparse.Namespace) -> int:
    from registry.rules.reference import parse_registered

    reference = parse_registered(options.reference)
    if options.bake is None and (options.alarm or options.servers):
        raise RefusedError("--alarm and --servers belong to a bake: add --bake 30m")
    if options.to == CANARY and options.allow_breaking:
        raise RefusedError(
            "--allow-breaking: a canary answers the same cars as production, so its contract is the same"
        )
    if options.to == CANARY:
        check_share(options.share)
    if options.bake is not None:
        from registry.rules.alarms import parse_alarms

        parse_alarms(options.alarm)  # refuses a wrong one before the registry is asked
    store = open_store()
    from registry.moves.judge import promotion_gates
    from registry.moves.promotion import promote as promote_policy
    from registry.store.cache import default_cache

    gates = promotion_gates(options.to, options.allow_breaking)
    bake = _bake(options, store, reference)
    moved = promote_policy(store, reference, options.to, default_cache(), _move_options(options, bake), gates)
    return _done(options, moved, bake)


def _bake(options: argparse.Namespace, store: Store, reference: Reference) -> Bake | None:
    """The bake that is asked for; the version whose figures it rests on must still drive when the move is made."""
    if options.bake is None:
        return None
    from registry.checks.scrape import servers_of
    from registry.moves.plan_bake import check_alarms, plan_bake
    from registry.moves.state import read_state
    from registry.rules.alarms import parse_alarms
    from registry.store.cache import default_cache

    alarms, servers = parse_alarms(options.alarm), servers_of(options.servers, options.api_key_file)
    check_alarms(store, store.resolve(reference), alarms, default_cache())
    state = read_state(store, reference.name)
    options.expect = options.expect or state.holder(options.to) or "none"
    drives = state.holder(PRODUCTION if options.to == CANARY else options.to)
    return plan_bake(options.bake, alarms, drives, servers)


def rollback(options: argparse.Namespace) -> int:
    store = open_store()
    from registry.moves.judge import rollback_gates
    from registry.moves.promotion import rollback as roll_back
    from registry.store.cache import default_cache

    gates = rollback_gates(options.allow_breaking)
    return _done(options, roll_back(store, options.name, options.stage, default_cache(), _move_options(options), gates))


def archive(options: argparse.Namespace) -> int:
    from registry.rules.reference import parse_registered

    reference, store = parse_registered(options.reference), open_store()
    from registry.moves.promotion import archive as archive_policy

    return _done(options, archive_policy(store, reference, _move_options(options)))


def _move_options(options: argparse.Namespace, bake: Bake | None = None) -> Any:
    from registry.moves.terms import MoveOptions

    given, share = getattr(options, "expect", None), getattr(options, "share", None)
    return MoveOptions(given, options.reason, options.force, options.dry_run, bake=bake, share=share)


def _warn_unguarded(name: str, servers: Sequence[str]) -> None:
    from registry.store.store import Store

    if not is_guarded(Store().model_tags(name), time.time()):
        warn(f"nobody guards this bake, so nothing would roll it back: {how_to_guard(name, servers)}")


def _done(options: argparse.Namespace, moved: Any, bake: Bake | None = None) -> int:
    refused = options.dry_run and bool(moved.shortfalls) and not options.force
    text = line(moved.version)
    share = "" if moved.share is None else f" with {share_text(moved.share)} % of the episodes"
    if moved.displaced == moved.version.semver and moved.entry is None and not options.dry_run:
        unkept = "; nothing was moved, so the reason is not in the journal" if options.reason else ""
        text += f"\nholds {moved.to} already{share}{unkept}"
    else:
        done = "canary ended:" if moved.to == f"{LEFT}{CANARY}" else options.done
        would = f"would be {'refused' if refused else options.done}:"
        text = f"{would if options.dry_run else done} {text}"
        if moved.to in ALIASED:
            text += escaped(f"\n{moved.to}: {moved.displaced or 'none'} → {moved.version.semver}{share}", keep="\n")
    text += "".join(
        f"\n  {_verdict(finding, moved.shortfalls, refused)}  {escaped(finding)}" for finding in moved.findings
    )
    document = {**asdict(moved), "from": moved.displaced, "dry_run": options.dry_run}
    if bake is not None:
        from msgspec import to_builtins

        text += escaped(f"\n{_say_bake(bake)}", keep="\n")
        document["bake"] = to_builtins(bake)
    show(options.json, text, document)
    if moved.cut_short:
        warn(f"{moved.cut_short}: that bake {'would end' if options.dry_run else 'has ended'} without a verdict")
    if bake is not None and not options.dry_run:
        _warn_unguarded(moved.version.name, options.servers)
    if refused:
        return REFUSED
    say_next(_next(options, moved))
    return DONE


def _next(options: argparse.Namespace, moved: Any) -> str:
    """The command that usually follows a move."""
    name, version = quote(moved.version.name), quote(f"{moved.version.name}@{moved.version.semver}")
    if options.dry_run and options.done == "promoted":
        share = f" --share {share_text(options.share)}" if options.share is not None else ""
        return f"carla-registry promote {version} --to {options.to}{share}"
    if options.done != "promoted" or options.dry_run:
        return f"carla-registry history {name}"
    if options.bake is not None and options.servers:
        return how_to_guard(moved.version.name, options.servers)
    if options.to == PRODUCTION:
        return f"carla-serve --model {name}@production"
    if options.to == CANARY:
        return f"carla-serve --model {name}@production --canary"
    return f"carla-registry promote {version} --to production"


def _say_bake(bake: Bake) -> str:
    from registry.rules.durations import say_duration
    from registry.rules.looks import Watch

    alarms = [f"\n  {bar.alarm}: {Watch(bar).say_bar()}" for bar in bake.bars]
    return f"bakes for {say_duration(bake.duration_s)}, with the alarms{''.join(alarms)}"


def _verdict(finding: str, shortfalls: list[str], refused: bool) -> str:
    if finding not in shortfalls:
        return styled("passed   ", "good")
    return styled("refused  ", "bad") if refused else styled("overruled", "doubtful")
