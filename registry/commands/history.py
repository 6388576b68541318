"""carla-registry history: which version drove when, and who moved it."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from carla_mlflow.cli import DONE, REFUSED, warn
from carla_mlflow.command_parser import add_command
from carla_mlflow.errors import NotFoundError
from carla_mlflow.escaping import escaped
from carla_mlflow.look import ago, show, styled
from registry.commands.options import add_html, add_name, open_store

if TYPE_CHECKING:
    from registry.rules.journal import Entry
    from registry.store.store import Store


def _timestamp(text: str) -> float:
    """An argparse type: ISO 8601, local time unless it has an offset → seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


_timestamp.__name__ = "time (expected such as 2026-11-20T14:02, local unless it ends in +00:00)"


def history(options: argparse.Namespace) -> int:
    from registry.rules.chain import problems
    from registry.rules.journal import say

    if options.html is not None and (options.check or options.head is not None or options.at is not None):
        return int(options.usage("--html shows the whole history: leave --at, --check and --head away"))
    store = open_store()
    if options.check or options.head is not None:
        return _check(options, store.journal(options.name))
    entries = _entries(store, options.name)
    broken = problems(entries, None, {entry.number for entry in store.journal(options.name)})
    if broken:
        warn(f"the journal is not intact: {'; '.join(broken)}")
    if options.at is not None:
        return _held_at(options, entries, broken)
    head = entries[-1].hash if entries else "none"
    lines = [line for entry in entries for line in [_with_age(say(entry), entry), *_waivers(entry)]]
    bakes = say_bakes(store, options.name, entries)
    text = "\n".join([*lines, *bakes, f"head {head}"])
    document = {
        "entries": [entry_as_json(entry) for entry in entries],
        "head": head,
        "problems": broken,
        "bakes": bakes,
    }
    if options.html is not None:
        from registry.commands.pages import write_history

        write_history(options.html, options.name, entries, broken, bakes)
        text, document = f"{text}\nwrote {options.html}", document | {"html": str(options.html)}
    show(options.json, text, document)
    return DONE


def _held_at(options: argparse.Namespace, entries: list[Entry], broken: list[str]) -> int:
    """Prints which version held what at a time."""
    from registry.rules.canary import say_shares
    from registry.rules.journal import say
    from registry.rules.lifecycle import CANARY
    from registry.rules.replay import at

    holders, last = at(entries, options.at)
    held = sorted(holders.aliases)
    said = zip(say_shares(held, holders.share), held, strict=True)
    lines = [escaped(f"{text}: {holders.aliases[alias]}") for text, alias in said]
    lines = lines or ["no version held staging or production then"]
    since = [f"since entry {say(last).strip()}"] if last else []
    document = {"at": options.at, "holders": holders.aliases, "entry": entry_as_json(last), "problems": broken}
    document |= {"canary_share": holders.share} if CANARY in holders.aliases else {}
    show(options.json, "\n".join(lines + since), document)
    return DONE


def _with_age(text: str, entry: Entry) -> str:
    """A line of the journal with how long ago that was, for people at a terminal."""
    if entry.link is None or not sys.stdout.isatty():
        return text
    return f"{text}  {styled(ago(entry.link.move.when), 'faint')}"


def _waivers(entry: Entry) -> list[str]:
    from registry.rules.journal import WATCHED, waived

    if not entry.link:
        return []
    watched = [text for text in entry.link.move.evidence if text.startswith(WATCHED)]
    return [f"      {escaped(text)}" for text in [*waived(entry.link.move), *watched]]


def say_bakes(store: Store, name: str, entries: list[Entry]) -> list[str]:
    """The bakes that have not ended, in words: until when, or since when overdue, and whether nobody guards them."""
    from registry.rules.baking import baking, is_guarded

    bakes, now = baking(entries), time.time()
    if not bakes:
        return []
    guarded = is_guarded(store.model_tags(name), now)
    return [escaped(each.say(name, now, guarded)) for each in bakes]


def _entries(store: Store, name: str) -> list[Entry]:
    """The journal after entering what was moved in MLflow's UI; as it stands when the policy itself was deleted."""
    from registry.moves.sync import sync
    from registry.rules.chain import chain

    try:
        return sync(store, name).entries
    except NotFoundError:
        left = chain(store.journal(name))
        if not left:
            raise
        warn(f"{name} is no longer in the registry; this is what its journal says")
        return left


def _check(options: argparse.Namespace, every: list[Entry]) -> int:
    from registry.rules.chain import chain, problems

    entries = chain(every)
    broken = problems(entries, options.head, {entry.number for entry in every})
    text = "\n".join(broken) or f"intact: {len(entries)} entries, head {entries[-1].hash if entries else 'none'}"
    if not broken and options.head is None:
        text += (
            "\nkeep this head elsewhere and pass it as --head: without it, entries cut off at the end are not noticed"
        )
    show(options.json, text, {"problems": broken, "entries": len(entries)})
    return REFUSED if broken else DONE


def entry_as_json(entry: Entry | None) -> dict[str, Any] | None:
    import msgspec

    from registry.rules.journal import say

    if entry is None:
        return None
    move = msgspec.to_builtins(entry.link.move) if entry.link else {"problem": say(entry).split(maxsplit=1)[1]}
    return {"number": entry.number, "hash": entry.hash, **move}


def add_history_command(commands: Any) -> None:
    command = add_command(
        commands,
        "history",
        "list every move: who, when, from, to, why",
        [
            "carla-registry history carla-policy",
            "carla-registry history carla-policy --at 2026-11-20T14:02",
            "carla-registry history carla-policy --html history.html",
        ],
        description="Lists every move: who, when (in the zone of this machine), from, to, why.",
    )
    add_name(command)
    command.add_argument(
        "--at",
        type=_timestamp,
        metavar="TIME",
        help="which version held which stage at a time, such as 2026-11-20T14:02 (local) or 2026-11-20T14:02+00:00",
    )
    command.add_argument("--check", action="store_true", help="verify the chain of hashes; exit code 1 if broken")
    command.add_argument("--head", metavar="HASH", help="--check, and that the chain holds this hash, noted earlier")
    add_html(command, "the history, with the figures of its evidence")
    command.set_defaults(run=history)
