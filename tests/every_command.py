"""The parser of every command that users type, with its subcommands' parsers."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator

from carla_mlflow.command_parser import CommandParser

MODULES = {
    "registry.__main__": "registry.__main__",
    "serve.flags": "serve.__main__",
    "serve.score.command": "serve.score.command",
    "serve.replay.command": "serve.replay.command",
    "training_export.__main__": "training_export.__main__",
    "training_export.export_command": "training_export.export_command",
    "carla_agent.__main__": "carla_agent.__main__",
    "carla_mlflow.testing.__main__": "carla_mlflow.testing.__main__",
}
"""The module with a command's `build_parser` → the one with its `main`."""


def subcommands(parser: argparse.ArgumentParser) -> dict[str, CommandParser]:
    return {
        name: each
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, each in action.choices.items()
    }


def parsers() -> Iterator[CommandParser]:
    """Each program's own, and that of each of its subcommands."""
    for module in MODULES:
        parser = importlib.import_module(module).build_parser()
        yield parser
        yield from subcommands(parser).values()


def parser_of(program: str) -> CommandParser:
    """The parser that is called so, such as `carla-registry promote`."""
    return next(parser for parser in parsers() if parser.prog == program)


def commands() -> list[CommandParser]:
    """Those that do something, and don't only choose among others."""
    return [parser for parser in parsers() if not subcommands(parser)]
