"""The flags of carla-registry promote, rollback and archive."""

from __future__ import annotations

import argparse
from typing import Any

from carla_mlflow.command_parser import add_command
from registry.commands.move import archive, promote, rollback
from registry.commands.options import add_name, add_servers, duration
from registry.rules.canary import EXPECTED, parse_share


def add_move_commands(commands: Any) -> None:
    """Adds `promote`, `rollback` and `archive`. Args: what `add_subparsers` gave."""
    _add_promote(commands)
    command = add_command(
        commands,
        "rollback",
        "give a stage back to the version that held it before, or end a canary",
        [
            "carla-registry rollback carla-policy --reason 'it brakes at every bridge'",
            "carla-registry rollback carla-policy --stage canary",
        ],
    )
    add_name(command)
    command.add_argument(
        "--stage",
        default="production",
        choices=("staging", "production", "canary"),
        help="the stage to give back (default production); canary: takes the alias away",
    )
    _add_move_options(command, allow_breaking=True, expect=True)
    command.set_defaults(run=rollback, done="rolled back to")

    command = add_command(
        commands,
        "archive",
        "take a version out of use; no range matches it any more",
        ["carla-registry archive carla-policy@0.1.0 --reason 'its camera is gone'"],
    )
    command.add_argument("reference", metavar="REF", help="the version, such as carla-policy@0.1.0")
    _add_move_options(command)
    command.set_defaults(run=archive, done="archived")


def _add_promote(commands: Any) -> None:
    command = add_command(
        commands,
        "promote",
        "evaluate the gates and give a version a stage, or make it canary",
        [
            "carla-registry promote carla-policy@0.2.0 --to production --reason 'faster in curves'",
            "carla-registry promote carla-policy@0.2.0 --to canary --share 5",
            "carla-registry promote carla-policy@0.2.0 --to production --bake 30m --alarm 'fallback_rate>0.01'",
        ],
    )
    command.add_argument("reference", metavar="REF", help="the version, such as carla-policy@0.1.0")
    command.add_argument(
        "--to", required=True, choices=("staging", "production", "canary"), help="the stage that it gets"
    )
    command.add_argument(
        "--share",
        type=_share,
        metavar="PERCENT",
        help="needed for --to canary: percent of the episodes, from 0 to 100, such as 5 or 0.25; given again it "
        "changes the share",
    )
    _add_bake(command.add_argument_group("watch it, and roll it back by itself (docs/how-to/bake.md)"))
    _add_move_options(command, allow_breaking=True, expect=True)
    command.set_defaults(run=promote, done="promoted")


def _add_bake(group: Any) -> None:
    group.add_argument(
        "--bake",
        type=duration,
        metavar="TIME",
        help="watch it for so long, such as 30m, 2h or 1d; needs --alarm, and a carla-registry guard that runs",
    )
    group.add_argument(
        "--alarm",
        action="append",
        default=[],
        metavar="ALARM",
        help="roll it back when this holds: METRIC OP NUMBER, such as 'fallback_rate>0.01', or with an x, such as "
        "'saturation>2x': that many times the figure of the version that it replaces; repeat for more "
        "(docs/how-to/bake.md)",
    )
    add_servers(group, "--servers", "for alarms with x: the servers that tell that figure", required=False)


def _share(text: str) -> float:
    """An argparse type: a share in percent."""
    share = parse_share(text.removesuffix("%"))
    if share is None:
        raise argparse.ArgumentTypeError(f"{text!r}: {EXPECTED}")
    return share


def _add_move_options(command: Any, allow_breaking: bool = False, expect: bool = False) -> None:
    """Adds what the commands that move versions share: what they overrule, what they expect, and the reason."""
    group = command.add_argument_group("gates and journal")
    if expect:
        group.add_argument("--expect", metavar="VERSION", help="refuse unless VERSION (or none) holds the stage now")
    group.add_argument("--reason", default="", metavar="TEXT", help="why, in words; kept in the journal")
    if allow_breaking:
        group.add_argument("--allow-breaking", action="store_true", help="allow a contract other than the champion's")
    group.add_argument("--force", action="store_true", help="move although gates failed; needs --reason")
    group.add_argument("--dry-run", action="store_true", help="print what would be done; write nothing")
