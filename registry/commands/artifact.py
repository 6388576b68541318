"""carla-registry verify, migrate and diff: commands on an artifact itself, registered or not."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from carla_mlflow.artifact.naming import is_artifact_folder
from carla_mlflow.cli import DONE
from carla_mlflow.contract.card_sections import BACKENDS


def verify(options: argparse.Namespace) -> int:
    from carla_mlflow.preprocessing.skops_file import operators_types
    from registry.checks.verify import verify_apart

    path, digest = Path(options.source), options.digest
    if not is_artifact_folder(options.source):
        path, pinned = _fetched(options.source)
        digest = digest or pinned
    lines = []
    trusted = operators_types(options.trust_types)
    for line in verify_apart(path, digest, options.device, trusted, options.backend):
        lines.append(" ".join(line.split()))
        if not options.json:
            print(line, flush=True)
    print(json.dumps({"verified": True, "found": lines}) if options.json else "verified     every check passed")
    return DONE


def _fetched(reference: str) -> tuple[Path, str]:
    """Fetches what a reference means now → its folder in the cache, and the digest that the registry pins."""
    from registry.store.cache import default_cache
    from registry.store.opening import open_source

    artifact = open_source(reference, default_cache())
    return artifact.path, artifact.digest


def migrate(options: argparse.Namespace) -> int:
    """Runs the export command on an old artifact, in a process of its own, since it alone imports the training code."""
    command = [sys.executable, "-m", "training_export.export_command", str(options.old)]
    command += ["--card", str(options.observation), "--output", str(options.output)]
    command += ["--trust-pickle"] if options.trust_pickle else []
    command += ["--name", options.name] if options.name else []
    command += ["--version", options.version] if options.version else []
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE if options.json else None, text=True)
    if options.json and done.returncode == DONE:
        print(json.dumps({"migrated": str(options.output), "found": done.stdout.splitlines()}))
    return done.returncode


def diff(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from registry.checks.comparison import compare, format_comparison
    from registry.commands.printing import show
    from registry.store.cache import default_cache
    from registry.store.opening import open_source

    cache = default_cache()
    comparison = compare(open_source(options.old, cache), open_source(options.new, cache))
    show(options, format_comparison(comparison), asdict(comparison))
    return DONE


def add_artifact_commands(commands: Any) -> None:
    """Adds `verify`, `migrate` and `diff`. Args: what `add_subparsers` gave."""
    command = commands.add_parser(
        "verify", help="check an artifact on this machine: bytes, graphs, preprocessor, parity"
    )
    command.add_argument(
        "source", metavar="PATH|REF", help="artifact folder or reference (carla-policy@production, folder/@^1.2)"
    )
    command.add_argument(
        "--digest", metavar="sha256:…", help="the digest that it must have (default of REF: as registered)"
    )
    command.add_argument("--device", default="cpu", help="where to check parity: cpu, cuda, cuda:N or auto")
    command.add_argument(
        "--backend", default="", choices=BACKENDS, help="on what to check parity (default: each backend that it is for)"
    )
    command.add_argument(
        "--trust-types", metavar="A,B", help="types also trusted in preprocessor.skops (or POLICY_TRUST_TYPES)"
    )
    command.set_defaults(run=verify)

    command = commands.add_parser("migrate", help="convert an artifact of the original layout into a new folder")
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
    command.add_argument("--name", help="the policy's name (default: the old card's)")
    command.add_argument("--version", help="semantic version (default: the old card's or the folder's)")
    command.set_defaults(run=migrate)

    command = commands.add_parser("diff", help="compare two policies: contract, weights, files, metrics, actions")
    command.add_argument("old", metavar="A", help="artifact folder or reference (carla-policy@production)")
    command.add_argument("new", metavar="B")
    command.set_defaults(run=diff)
