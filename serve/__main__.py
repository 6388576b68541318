"""carla-serve: reads the settings, checks that this machine can serve with them, and runs the server."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# One thread per worker: small forwards lose more to thread hand-offs than they gain. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from carla_mlflow.cli import REFUSED, requiring
from carla_mlflow.collector import collect_less
from carla_mlflow.completion import print_completion, shell_of
from carla_mlflow.errors import CacheError, RefusedError, RegistryError
from carla_mlflow.look import styled

if TYPE_CHECKING:
    from serve.settings import Settings

log = logging.getLogger("serve")


def _obstacle(settings: Settings) -> str | None:
    """Returns a message that says why this machine can't serve with the settings, or None."""
    from carla_mlflow.flavor.environment import secrets_of_files
    from serve.following.folder_at_start import folder_problem
    from serve.following.last_served import cache_folder
    from serve.record.start import check_folder
    from serve.telemetry.tracing import missing
    from serve.wire.outside import check_tls

    if settings.is_folder and not Path(settings.model).is_dir():
        return f"{settings.model}: there is no such folder"
    if (problem := check_folder(settings)) is not None:
        return problem
    try:
        if settings.certfile:
            check_tls(settings.certfile, settings.keyfile)  # raises here rather than in every worker, again and again
        if not settings.is_folder:
            cache_folder(settings)
            if settings.follows_folder:
                return folder_problem(settings) or missing()
            secrets_of_files()  # raises here rather than later in the follower, which reads them
    except (CacheError, RefusedError, RegistryError) as error:
        return str(error)
    return missing()


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["score"]:
        from serve.score.command import main as score

        return score(given[1:])
    if given[:1] == ["replay"]:
        from serve.replay.command import main as replay

        return replay(given[1:])
    return _serve(given)


def _serve(given: Sequence[str]) -> int:
    """Reads the settings and serves; what only serving needs is imported once they are known to be right."""
    with requiring("carla-serve", "serve"):  # a car has the package without the server's dependencies
        from serve.flags import build_parser, parse_settings, unknown_variables, unused_variables

    if shell := shell_of("carla-serve", given):
        return print_completion(build_parser(is_completed=True), shell)
    settings = parse_settings(given)
    collect_less()  # and so do the workers, until they serve
    with requiring("carla-serve", "serve"):
        from serve.process.server import listen, raise_file_limit, run_server
        from serve.telemetry.log_setup import start_logging

    start_logging(settings)
    raise_file_limit()
    unknown, unused = unknown_variables(os.environ), unused_variables(os.environ, settings)
    if unknown:
        log.warning("%s", unknown)
    if unused:
        log.info("%s", unused)
    listener, obstacle = None, _obstacle(settings)
    try:
        listener = None if obstacle else listen(settings)
    except RefusedError as error:
        obstacle = str(error)
    if obstacle:
        print(f"{styled('carla-serve:', 'bad', sys.stderr)} {obstacle}", file=sys.stderr)
        return REFUSED
    try:
        _warn(settings)
        return run_server(settings, listener)
    finally:
        if listener:
            listener.remove()


def _warn(settings: Settings) -> None:
    """Prints what lets others than the operator decide what drives, and a folder that may have been meant."""
    from registry.rules.reference import parse_reference
    from serve.following.folder_at_start import is_unpinned

    if settings.is_folder and not settings.digest:
        text = "unpinned: no --digest was given, so anyone who can write the folder decides what drives"
        print(f"carla-serve: {text}", file=sys.stderr)
    elif settings.follows_folder and is_unpinned(settings):
        text = "unpinned: the folder has no file PINS, so anyone who can write it decides what drives"
        print(f"carla-serve: {text}", file=sys.stderr)
    elif not settings.is_folder and not settings.follows_folder:
        reference = parse_reference(settings.model)
        if reference.kind in {"version", "range"} and Path(reference.name).is_dir():
            text = f"{reference} is in the registry; for a version in the folder here write {reference.name}/@"
            print(f"carla-serve: {text}{reference.value}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
