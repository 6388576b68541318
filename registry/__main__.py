"""carla-registry: the command that decides which version of a policy drives."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from carla_mlflow.cli import run_command
from carla_mlflow.command_parser import CommandParser, add_common, add_help
from carla_mlflow.completion import print_completion, shell_of
from registry.commands.artifact import add_artifact_commands
from registry.commands.cache import add_cache_commands
from registry.commands.describe import add_describe_command
from registry.commands.doctor import add_doctor_command
from registry.commands.gates import add_gates_command
from registry.commands.guard import add_guard_commands
from registry.commands.history import add_history_command
from registry.commands.move_flags import add_move_commands
from registry.commands.versions import add_register, add_version_commands
from registry.commands.watch import add_watch_command

NOTES = """\
references: name@production (alias), name@1.4.2, name@^1.4, name@~1.4.1, name@1.x, name/Production (legacy stage),
name/7 (MLflow's number), all with or without models:/; to look at a version in a folder of artifacts: folder/@^1.4
The registry is MLFLOW_REGISTRY_URI, else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the current folder.
Completion for a shell: carla-registry completion bash, zsh or fish (docs/reference/commands.md).
"""
EXAMPLES = (
    "carla-registry register examples/v0.1.0",
    "carla-registry promote carla-policy@0.1.0 --to production",
    "carla-registry history carla-policy",
    "carla-registry doctor",
)


def build_parser() -> CommandParser:
    parser = CommandParser(
        "carla-registry",
        EXAMPLES,
        NOTES,
        description="Decides which version of a policy drives. Versions are kept in MLflow's Model Registry.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    add_register(commands)
    add_move_commands(commands)
    add_version_commands(commands)
    add_history_command(commands)
    add_watch_command(commands)
    add_describe_command(commands)
    add_guard_commands(commands)
    add_gates_command(commands)
    add_artifact_commands(commands)
    add_cache_commands(commands)
    add_doctor_command(commands)

    for command in commands.choices.values():
        add_common(command)
    add_help(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    if shell := shell_of("carla-registry", given):
        return print_completion(build_parser(), shell)
    return run_command(build_parser(), given)


if __name__ == "__main__":
    sys.exit(main())
