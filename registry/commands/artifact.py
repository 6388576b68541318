"""carla-registry verify, migrate and diff: commands on an artifact itself, registered or not."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from carla_mlflow.cli import DONE, progress
from carla_mlflow.command_parser import add_command, add_policy_version
from carla_mlflow.contract.backend_names import BACKENDS
from carla_mlflow.look import say_next, show, styled
from registry.commands.options import add_html


def verify(options: argparse.Namespace) -> int:
    from carla_mlflow.preprocessing.trust_types import operators_types
    from registry.checks.verify import verify_apart

    path, pinned = located(options.source)
    digest = options.digest or pinned
    lines = []
    trusted = operators_types(options.trust_types)
    for line in verify_apart(path, digest, options.device, trusted, options.backend):
        lines.append(" ".join(line.split()))
        if not options.json:
            print(line, flush=True)
    show(options.json, f"{styled('verified', 'good')}     every check passed", {"verified": True, "found": lines})
    if pinned is None:
        say_next(f"carla-registry register {shlex.quote(options.source)}", only_to_people=True)
    return DONE


def located(source: str) -> tuple[Path, str | None]:
    """Where an artifact lies, fetched into the cache if it is a reference's, and the digest that the registry pins."""
    from carla_mlflow.artifact.naming import is_artifact_folder
    from registry.store.cache import default_cache
    from registry.store.opening import open_source

    if is_artifact_folder(source):
        return Path(source), None
    progress(f"fetching {source}")
    artifact = open_source(source, default_cache())
    return artifact.path, artifact.digest


def migrate(options: argparse.Namespace) -> int:
    """Runs the export command on an old artifact, in a process of its own, since it alone imports the training code."""
    command = [sys.executable, "-m", "training_export.export_command", str(options.old)]
    command += ["--card", str(options.observation), "--output", str(options.output)]
    command += ["--trust-pickle"] if options.trust_pickle else []
    command += ["--name", options.name] if options.name else []
    command += ["--version", options.version] if options.version else []
    command += ["--quiet"] if options.quiet and not options.json else []
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE if options.json else None, text=True)
    if options.json and done.returncode == DONE:
        show(True, "", {"migrated": str(options.output), "found": done.stdout.splitlines()})
    return done.returncode


def diff(options: argparse.Namespace) -> int:
    import msgspec

    from registry.checks.comparison import compare, format_comparison
    from registry.store.cache import default_cache
    from registry.store.opening import open_source

    cache = default_cache()
    progress("comparing")
    old, new = open_source(options.old, cache), open_source(options.new, cache)
    comparison = compare(old, new)
    text, document = format_comparison(comparison), msgspec.to_builtins(comparison)
    if options.html is not None:
        from carla_mlflow.report.page import write_page
        from registry.pages.diff import diff_page

        write_page(options.html, diff_page(comparison, old.card, new.card))
        text, document = f"{text}\nwrote {options.html}", document | {"html": str(options.html)}
    show(options.json, text, document)
    return DONE


def add_artifact_commands(commands: Any) -> None:
    """Adds `verify`, `migrate` and `diff`. Args: what `add_subparsers` gave."""
    _add_verify(commands)
    _add_migrate(commands)
    command = add_command(
        commands,
        "diff",
        "compare two policies: contract, weights, files, metrics, actions",
        [
            "carla-registry diff carla-policy@production carla-policy@0.2.0",
            "carla-registry diff old-folder new-folder --html diff.html",
        ],
    )
    command.add_argument("old", metavar="A", help="artifact folder or reference (carla-policy@production)")
    command.add_argument("new", metavar="B", help="another")
    add_html(command, "both cards side by side, and plots of how far actions differ")
    command.set_defaults(run=diff)


def _add_verify(commands: Any) -> None:
    command = add_command(
        commands,
        "verify",
        "check an artifact on this machine: bytes, graphs, preprocessor, parity",
        ["carla-registry verify examples/v0.1.0", "carla-registry verify carla-policy@production --device cuda"],
    )
    command.add_argument(
        "source", metavar="PATH|REF", help="artifact folder or reference (carla-policy@production, folder/@^1.2)"
    )
    command.add_argument(
        "--digest", metavar="sha256:…", help="the digest that it must have (default of REF: as registered)"
    )
    command.add_argument(
        "--device", default="cpu", metavar="NAME", help="where to check parity: cpu, cuda, cuda:N or auto (default cpu)"
    )
    command.add_argument(
        "--backend", default="", choices=BACKENDS, help="on what to check parity (default: each backend that it is for)"
    )
    command.add_argument(
        "--trust-types", metavar="A,B", help="types also trusted in preprocessor.skops (or POLICY_TRUST_TYPES)"
    )
    command.set_defaults(run=verify)


def _add_migrate(commands: Any) -> None:
    command = add_command(
        commands,
        "migrate",
        "convert an artifact of the original layout into a new folder",
        ["carla-registry migrate v1.2.0 --observation spec.yaml --output policies/1.2.0 --trust-pickle"],
    )
    command.add_argument("old", type=Path, metavar="vX.Y.Z", help="folder: model.pt, preprocessor.pkl, model_card.yaml")
    command.add_argument(
        "--observation",
        type=Path,
        required=True,
        metavar="spec.yaml",
        help="what the old card lacks: the observation spec",
    )
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="the new folder; must not exist")
    command.add_argument(
        "--trust-pickle", action="store_true", help="read scikit-learn's preprocessor.pkl, which may run any code"
    )
    command.add_argument("--name", metavar="NAME", help="the policy's name (default: the old card's)")
    add_policy_version(command, "the old card's or the folder's")
    command.set_defaults(run=migrate)
