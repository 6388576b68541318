"""carla-registry describe: writes what MLflow's pages of a policy's versions say."""

from __future__ import annotations

import argparse
from typing import Any

from carla_mlflow.cli import DONE, REFUSED, warn
from carla_mlflow.command_parser import add_command
from carla_mlflow.look import show
from registry.commands.options import open_store

SAID = {
    "written": "written",
    "current": "is current",
    "kept": "kept: a person wrote it; empty it in MLflow to get ours",
}


def describe(options: argparse.Namespace) -> int:
    store = open_store()
    from carla_mlflow.errors import CarlaMlflowError, RefusedError
    from registry.moves.describe import write_description
    from registry.rules.chain import chain
    from registry.rules.reference import is_name, parse_registered

    if is_name(options.reference):
        name, versions = options.reference, [version.semver for version in store.versions(options.reference)]
    else:
        reference = parse_registered(options.reference)
        name, versions = reference.name, [store.resolve(reference).semver]
    if not versions:
        raise RefusedError(f"{name} has no version with a semantic version")
    entries = chain(store.journal(name))
    done: dict[str, str] = {}
    failed: list[str] = []
    for version in versions:
        try:
            outcome = write_description(store, name, version, entries)
        except CarlaMlflowError as error:  # such as an artifact that is gone: the other versions get theirs
            failed.append(f"{name} {version}: {error}")
            continue
        if outcome in SAID:  # else it was deleted meanwhile
            done[version] = outcome
    if failed and not done:
        raise RefusedError(f"no description of {name} could be written", tuple(failed))
    for text in failed:
        warn(text)
    text = "\n".join(f"{name} {version}: {SAID[outcome]}" for version, outcome in done.items())
    show(options.json, text, {"name": name, "descriptions": done})
    return REFUSED if failed else DONE


def add_describe_command(commands: Any) -> None:
    """Adds `describe`. Args: what `add_subparsers` gave."""
    command = add_command(
        commands,
        "describe",
        "write what MLflow's pages say of a policy's versions, but for what people wrote",
        ["carla-registry describe carla-policy", "carla-registry describe carla-policy@production"],
        description="Writes the descriptions of versions in MLflow anew: contract, figures, gates' findings. Each move "
        "does so for the versions that it moves. A text that a person wrote or changed is kept.",
    )
    command.add_argument("reference", metavar="NAME|REF", help="the policy, or one of its versions")
    command.set_defaults(run=describe)
