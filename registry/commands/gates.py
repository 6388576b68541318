"""carla-registry gates: shows and sets what a policy's gates ask for."""

from __future__ import annotations

import argparse
from typing import Any

from carla_mlflow.cli import DONE
from carla_mlflow.command_parser import add_command
from carla_mlflow.errors import RefusedError
from carla_mlflow.escaping import escaped
from carla_mlflow.look import show, table
from registry.commands.options import add_name, open_store


def gates(options: argparse.Namespace) -> int:
    from registry.gates.settings import parse_settings, shown
    from registry.rules.journal import MAX_TEXT, say
    from registry.rules.reference import check_name

    name, wanted = check_name(options.name), parse_settings(options.set or [])
    if len(options.reason) > MAX_TEXT:
        raise RefusedError(f"--reason: {len(options.reason):,} characters; at most {MAX_TEXT:,}")
    store = open_store()
    from registry.moves.set_gates import journalled_settings, set_gates
    from registry.moves.state import read_state

    entry = set_gates(store, name, wanted, options.reason) if wanted else None
    found = shown(store.model_tags(name), journalled_settings(read_state(store, name)))
    rows = [("SETTING", "VALUE", "FROM", "MEANING")]
    for each in found:
        value = each.setting.default if each.value is None else each.value
        rows.append((each.setting.tag, value, each.source, each.setting.meaning))
    done = [f"journal entry {say(entry).strip()}"] if entry else ["nothing to change"] if wanted else []
    document = {
        "settings": {each.setting.tag: {"value": each.value, "from": each.source} for each in found},
        "entry": entry.number if entry else None,
    }
    show(options.json, "\n".join([table(rows), *map(escaped, done)]), document)
    return DONE


def add_gates_command(commands: Any) -> None:
    command = add_command(
        commands,
        "gates",
        "show and set what a policy's gates ask for",
        [
            "carla-registry gates carla-policy",
            "carla-registry gates carla-policy --set gate.driving.margin=0.02 --reason 'rain is noisier'",
        ],
    )
    add_name(command)
    command.add_argument(
        "--set",
        nargs="+",
        action="extend",
        metavar="SETTING=VALUE",
        help="such as gate.driving.margin=0.02; SETTING= gives the default back; journalled",
    )
    command.add_argument("--reason", default="", metavar="TEXT", help="why, in words; kept in the journal")
    command.set_defaults(run=gates)
