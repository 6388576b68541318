"""carla-registry watch: journals what people moved in MLflow's UI, as it is seen."""

from __future__ import annotations

import argparse
import time
from typing import Any

from carla_mlflow.cli import DONE, REFUSED, positive
from carla_mlflow.command_parser import add_command
from carla_mlflow.errors import RegistryError, UnreachableError
from carla_mlflow.escaping import one_line
from carla_mlflow.look import show
from registry.commands.history import entry_as_json
from registry.commands.options import add_name, say_asking, url


def watch(options: argparse.Namespace) -> int:
    """Syncs until it is interrupted; an outage of the registry is printed, and does not end it."""
    say_asking()
    from registry.moves.refused_tags import tag_refused
    from registry.moves.sync import sync
    from registry.rules.journal import say
    from registry.store.store import Store

    reported = ""
    while True:
        try:
            store = Store(deadline_s=10.0)
            state = sync(store, options.name, notify=lambda e: show(options.json, say(e).strip(), entry_as_json(e)))
            tag_refused(store, state, options.server)
            problem = ""
        except (RegistryError, UnreachableError) as error:
            problem = one_line(error)
        if problem != reported:
            again = "" if options.once else f" (asks again every {options.every:g} s)"
            text = f"{problem}{again}" if problem else "the registry answers again"
            show(options.json, text, {"registry": problem or "ok"})
            reported = problem
        if options.once:
            return REFUSED if problem else DONE
        time.sleep(options.every)


def add_watch_command(commands: Any) -> None:
    """Adds `watch`. Args: what `add_subparsers` gave."""
    command = add_command(
        commands,
        "watch",
        "journal what is moved in MLflow's UI, and mirror aliases to stages",
        ["carla-registry watch carla-policy", "carla-registry watch carla-policy --once"],
    )
    add_name(command)
    command.add_argument(
        "--every",
        type=positive(float),
        default=5.0,
        metavar="SECONDS",
        help="between syncs, without a unit (default 5)",
    )
    command.add_argument("--once", action="store_true", help="sync once, and end")
    command.add_argument(
        "--server",
        type=url,
        action="append",
        default=[],
        metavar="URL",
        help="tag versions that this carla-serve refused; repeat for more",
    )
    command.set_defaults(run=watch)
