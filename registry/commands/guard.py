"""carla-registry guard and compare: what servers count of a version that bakes, and of two versions side by side."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from carla_mlflow.cli import DONE, REFUSED, warn
from carla_mlflow.client.unix_address import SCHEME
from carla_mlflow.command_parser import add_command
from carla_mlflow.errors import CarlaMlflowError, RefusedError, UnreachableError
from carla_mlflow.escaping import escaped, one_line
from carla_mlflow.look import show, table
from registry.commands.options import add_name, add_servers, duration, open_store, say_asking

if TYPE_CHECKING:
    from registry.moves.guard import Event, Guard


def guard(options: argparse.Namespace) -> int:
    """Guards until it is interrupted; with --once until the bakes that are under way have ended."""
    from registry.rules.reference import check_name

    name = check_name(options.name)
    say_asking()
    from registry.checks.scrape import servers_of
    from registry.moves.guard import Guard
    from registry.store.cache import default_cache
    from registry.store.store import Store

    servers = servers_of(options.servers, options.api_key_file)
    guard = Guard(name, servers, default_cache(), lambda: Store(deadline_s=10.0))
    told: dict[str, str] = {}
    is_rolled_back = False
    while True:
        began = time.monotonic()
        events, problems = _look(guard)
        _tell(options, told, events, problems)
        is_rolled_back |= any(event.kind == "rolled back" for event in events)
        is_over = not problems.get("registry") and all(event.kind in ("rolled back", "ended") for event in events)
        if options.once and is_over:
            return REFUSED if is_rolled_back else DONE
        time.sleep(max(options.every - (time.monotonic() - began), 0.0))


def _look(guard: Guard) -> tuple[list[Event], dict[str, str]]:
    """One look: what happened to each bake, and what could not be read, by the registry's or a server's name."""
    try:
        events = guard.look()
    except CarlaMlflowError as error:  # whatever it was, the next look may go well
        return [], {"registry": one_line(error)}
    return events, {url: one_line(error) for url, error in guard.unread.items()}


def _tell(options: argparse.Namespace, told: dict[str, str], events: list[Event], problems: dict[str, str]) -> None:
    """Prints what has changed since it was told last; `told` holds that."""
    now = {f"{event.baking.move.to} {event.baking.entry}": event for event in events}
    lines = {key: _text(event) for key, event in now.items()} | problems
    for key, text in lines.items():
        if told.get(key) != text:
            event = now.get(key)
            again = f" (asks again every {options.every:g} s)" if key == "registry" else ""
            show(options.json, escaped(text + again), _as_json(event) if event else {"unread": key, "problem": text})
    for key in told.keys() - lines.keys():
        if key == "registry" or key.startswith(("http", SCHEME)):
            show(options.json, f"{key} answers again", {"unread": key, "problem": ""})
    told.clear()
    told |= lines


def _text(event: Event) -> str:
    from registry.rules.baking import say_bake

    if event.text:
        return event.text
    return f"{event.baking.move.to}: {event.baking.move.version} {say_bake(event.baking.bake)}"


def _as_json(event: Event) -> dict[str, Any]:
    move = event.baking.move
    watches = [{**asdict(watch), "bar": watch.bar.value, "alarm": watch.bar.alarm} for watch in event.watches]
    known = {"event": event.kind, "version": move.version, "stage": move.to, "entry": event.baking.entry}
    return {**known, "ends": event.baking.ends, "text": event.text, "alarms": watches}


def compare(options: argparse.Namespace) -> int:
    from registry.rules.reference import parse_registered

    references = [parse_registered(text) for text in (options.first, options.second)]
    from registry.checks.scrape import servers_of
    from registry.rules.counted import Counted, Scrape, added
    from registry.rules.figures import figures, say_value

    store = open_store()
    versions = [store.resolve(reference).semver for reference in references]
    if versions[0] == versions[1]:
        raise RefusedError(f"{references[0]} and {references[1]} are the same version, {versions[0]}")
    found = servers_of(options.servers, options.api_key_file).scrape(half_hour=not options.since_start)
    scrapes = [each for each in found.values() if isinstance(each, Scrape)]
    for each in found.values():
        if not isinstance(each, Scrape):
            warn(f"left out: {one_line(each)}")
    if not scrapes:
        raise UnreachableError("none of the servers can be read")
    counted = [Counted(added(each.samples for each in scrapes), version) for version in versions]
    both = [figures(each) for each in counted]
    actions = [each.total("policy_actions_total") for each in counted]
    rows = [("", *(f"{ref} ({v})" for ref, v in zip((options.first, options.second), versions, strict=True)))]
    rows += [("actions", *(f"{count:,.0f}" for count in actions))]
    for name in dict.fromkeys([*both[0], *both[1]]):
        rows.append((name, *(say_value(name, each.get(name)) for each in both)))
    document = {
        reference: {"version": version, "actions": count, **figure}
        for reference, version, count, figure in zip(
            (options.first, options.second), versions, actions, both, strict=True
        )
    }
    show(options.json, table(rows), document)
    return DONE


def add_guard_commands(commands: Any) -> None:
    command = add_command(
        commands,
        "guard",
        "roll a version that bakes back when its servers' figures are wrong",
        ["carla-registry guard carla-policy --servers http://car-1:8080 http://car-2:8080"],
    )
    add_name(command)
    add_servers(command, "--servers", "every server that answers with the policy", required=True)
    command.add_argument(
        "--every",
        type=duration,
        default=10.0,
        metavar="TIME",
        help="between looks, with a unit, such as 10s (the default); above 90s the guard counts as gone",
    )
    command.add_argument(
        "--once",
        action="store_true",
        help="end once all bakes that are under way have ended; exit code 1 after a roll-back; waits while the "
        "registry does not answer or a bake is overdue",
    )
    command.set_defaults(run=guard)

    command = add_command(
        commands,
        "compare",
        "compare what servers counted of two versions in the last half hour",
        ["carla-registry compare carla-policy@production carla-policy@canary --from http://car-1:8080"],
    )
    command.add_argument("first", metavar="A", help="a version, such as carla-policy@production")
    command.add_argument("second", metavar="B", help="another, such as carla-policy@canary")
    add_servers(command, "--from", "the servers that answer with them", required=True)
    command.add_argument("--since-start", action="store_true", help="count all since the servers were started")
    command.set_defaults(run=compare)
