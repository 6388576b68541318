"""carla-registry: the command that decides which version of a policy drives."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from carla_mlflow.cli import add_debug, run_command
from registry.commands.artifact import add_artifact_commands
from registry.commands.cache import add_cache_commands
from registry.commands.gates import add_gates_command
from registry.commands.guard import add_guard_commands
from registry.commands.history import add_history_commands
from registry.commands.move import add_move_commands
from registry.commands.versions import add_register, add_version_commands

EPILOG = """\
references: name@production (alias), name@1.4.2, name@^1.4, name@~1.4.1, name@1.x, name/Production (legacy stage),
name/7 (MLflow's number), all with or without models:/; to look at a version in a folder of artifacts: folder/@^1.4
The registry is MLFLOW_REGISTRY_URI, else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the current folder.
exit codes: 0 done, 1 refused, 2 usage, 3 the registry, or for compare every server, unreachable
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "carla-registry",
        description="Decides which version of a policy drives. Versions are kept in MLflow's Model Registry.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add_register(commands)
    add_move_commands(commands)
    add_version_commands(commands)
    add_history_commands(commands)
    add_guard_commands(commands)
    add_gates_command(commands)
    add_artifact_commands(commands)
    add_cache_commands(commands)

    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print one JSON object")
        add_debug(command)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
