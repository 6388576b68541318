"""carla-registry register, list, resolve and show."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carla_mlflow.cli import DONE
from carla_mlflow.command_parser import add_command
from carla_mlflow.errors import ArtifactError, RefusedError, RegistryError, UnreachableError
from carla_mlflow.look import ago, clock, say_next, show, table
from registry.commands.options import add_name, open_store, say_asking
from registry.commands.printing import line
from registry.rules.canary import say_shares
from registry.rules.lifecycle import CANARY

if TYPE_CHECKING:
    from registry.rules.policy_version import PolicyVersion
    from registry.store.store import Store


def register(options: argparse.Namespace) -> int:
    if not Path(options.source).is_dir() and not _is_registered(options.source):
        raise ArtifactError(f"{options.source}: there is no such folder")
    if Path(options.source).is_dir():
        from carla_mlflow.artifact.artifact import verify_artifact

        verify_artifact(Path(options.source))  # what is none is refused before the registry is asked
    store = open_store()
    from registry.moves.registration import register as register_policy
    from registry.store.cache import default_cache

    version, new = register_policy(store, options.source, default_cache(), options.name, options.bump)
    text = f"registered {line(version)}" if new else f"already registered: {line(version)}"
    if new and not options.json:
        with contextlib.suppress(RegistryError, UnreachableError):  # registered all the same: only the hint is lost
            text += f"\n{_how_to_evaluate(store, version)}"
    show(options.json, text, {**asdict(version), "new": new})
    return DONE


def _is_registered(source: str) -> bool:
    """Whether it has the form of MLflow's own URIs, or of a version that MLflow has."""
    from registry.rules.reference import parse_reference

    with contextlib.suppress(RefusedError):
        return ":" in source or parse_reference(source).kind in {"number", "stage"}
    return False


def _how_to_evaluate(store: Store, version: PolicyVersion) -> str:
    from carla_mlflow.artifact.artifact import open_artifact
    from registry.gates.evaluate_command import NOTE, drives_on_racetrack, evaluate_command
    from registry.gates.margins import read_margins

    with tempfile.TemporaryDirectory() as scratch:
        store.fetch(version, Path(scratch) / "policy")
        card = open_artifact(Path(scratch) / "policy", version.digest).card
    least = read_margins(store.model_tags(version.name)).episodes
    text = f"next: {evaluate_command(f'{version.name}@{version.semver}', card, least=least)}"
    return text if drives_on_racetrack(card) else f"{text}\n({NOTE})"


def show_list(options: argparse.Namespace) -> int:
    from registry.rules.listing import say_others, say_unnamed

    store = open_store()
    policies = {name: store.listed(name) for name in ([options.name] if options.name else store.names())}
    versions = [version for listed in policies.values() for version in listed.versions]
    others = {name: listed.others for name, listed in policies.items() if listed.others}
    rows = [("POLICY", "VERSION", "STAGE", "ALIASES", "MLFLOW", "REGISTERED", "DIGEST")]
    for v in versions:
        aliases = ",".join(say_shares(v.aliases, policies[v.name].share)) or "-"
        row = (
            v.name,
            v.semver,
            v.stage,
            aliases,
            v.number,
            f"{clock(v.created)}, {ago(v.created)}",
            v.digest[:19] + "…",
        )
        rows.append(row)
    lines = [table(rows) if versions else _nothing(store)]
    lines += [say_others(name, numbers) for name, numbers in others.items()]
    lines += [text for name, listed in policies.items() if (text := say_unnamed(name, listed.versions))]
    bakes = [text for name, listed in policies.items() if listed.holders for text in _bakes(store, name)]
    lines += bakes
    shares = {name: listed.share for name, listed in policies.items() if CANARY in listed.aliases}
    document = {"versions": versions, "others": others, "bakes": bakes, **({"canary_shares": shares} if shares else {})}
    show(options.json, "\n".join(lines), document)
    if versions:
        last = max(versions, key=lambda version: version.created)
        say_next(f"carla-registry show {shlex.quote(f'{last.name}@{last.semver}')}", only_to_people=True)
    else:
        say_next("carla-registry register FOLDER", only_to_people=True)
    return DONE


def _bakes(store: Store, name: str) -> list[str]:
    from registry.commands.history import say_bakes
    from registry.rules.chain import chain

    return [f"{name}: {text}" for text in say_bakes(store, name, chain(store.journal(name)))]


def _nothing(store: Store) -> str:
    """The text for an empty registry, with the way to the demo's when it lies below the current folder."""
    text = f"{store.uri}: no policy is registered yet"
    demo = Path(".demo").absolute()
    return text + (f"\nthe demo's registry: cd {shlex.quote(str(demo))}" if (demo / "mlflow.db").is_file() else "")


def _resolved(text: str) -> PolicyVersion:
    from registry.rules.reference import parse_reference

    reference = parse_reference(text)
    if not reference.is_folder:
        say_asking()
    from registry.store.opening import source_of

    return source_of(reference).resolve(reference)


def resolve(options: argparse.Namespace) -> int:
    version = _resolved(options.reference)
    show(options.json, line(version), asdict(version))
    return DONE


def show_version(options: argparse.Namespace) -> int:
    version = _resolved(options.reference)
    from registry.store.store import Store

    share = Store().canary_share(version.name) if CANARY in version.aliases else None
    aliases = ", ".join(say_shares(version.aliases, share))
    shown = asdict(version) | {"aliases": aliases, "created": f"{clock(version.created)}, {ago(version.created)}"}
    document = asdict(version) | ({"canary_share": share} if CANARY in version.aliases else {})
    show(options.json, table([(key, str(value)) for key, value in shown.items()], headed=False), document)
    say_next(f"carla-registry history {shlex.quote(version.name)}", only_to_people=True)
    return DONE


def add_register(commands: Any) -> None:
    """Adds `register`. Args: what `add_subparsers` gave."""
    command = add_command(
        commands,
        "register",
        "verify an artifact and register it under its card's version",
        [
            "carla-registry register examples/v0.1.0",
            "carla-registry register runs:/latest/policy --name carla-policy --bump auto",
        ],
    )
    command.add_argument(
        "source", metavar="SOURCE", help="artifact folder, runs:/RUN_ID/policy, or models:/NAME/NUMBER"
    )
    command.add_argument("--name", metavar="NAME", help="the policy's name (default: the card's)")
    command.add_argument(
        "--bump",
        choices=("auto", "major", "minor", "patch"),
        help="take the next version instead of the card's; auto: the smallest step that the changes require",
    )
    command.set_defaults(run=register)


def add_version_commands(commands: Any) -> None:
    """Adds `list`, `resolve` and `show`. Args: what `add_subparsers` gave."""
    command = add_command(
        commands,
        "list",
        "list policies and their versions",
        ["carla-registry list", "carla-registry list carla-policy --json"],
    )
    add_name(command, nargs="?", help="of one policy (default: all)")
    command.set_defaults(run=show_list)

    command = add_command(
        commands,
        "resolve",
        "print the one version that a reference means now",
        ["carla-registry resolve carla-policy@production", "carla-registry resolve 'carla-policy@^0.1'"],
    )
    command.add_argument("reference", metavar="REF", help="such as carla-policy@production; see carla-registry --help")
    command.set_defaults(run=resolve)

    command = add_command(
        commands,
        "show",
        "print all that the registry holds of one version",
        ["carla-registry show carla-policy@production", "carla-registry show carla-policy/7"],
    )
    command.add_argument("reference", metavar="REF", help="such as carla-policy@production; see carla-registry --help")
    command.set_defaults(run=show_version)
