"""python -m carla_mlflow.testing FOLDER | URL: runs the conformance checks on a policy or a server.

A folder is a policy artifact: every check runs on each backend that it
is for, or on the one that is named. A URL, or unix:/run/policy.sock, is a running
server: it gets requests as a car would send them (--policy FOLDER compares the policy it serves with that artifact).
Exits with 0 when all checks pass, with 1 when one fails, with 3 when no server answers.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from ..cli import DONE, REFUSED, positive, progress, run_command, warn
from ..client.server_key import API_KEY
from ..command_parser import CommandParser, add_common
from ..contract.backend_names import BACKENDS
from ..errors import CarlaMlflowError, UnreachableError
from ..escaping import one_line
from ..look import say_next, show, styled

EXAMPLES = (
    "python -m carla_mlflow.testing my-policy/1.0.0",
    "python -m carla_mlflow.testing my-policy/1.0.0 --device cuda --backend torchscript",
    "python -m carla_mlflow.testing http://car-7:8080 --policy my-policy/1.0.0 --p99-ms 5",
)


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), arguments, "torch")


def build_parser() -> CommandParser:
    text = (__doc__ or "").partition("\n\n")[2]
    parser = CommandParser("python -m carla_mlflow.testing", EXAMPLES, description=text)
    parser.add_argument("policy_or_server", metavar="FOLDER|URL", help="the artifact or the server that is checked")
    served = parser.add_argument_group("for a server")
    served.add_argument("--policy", metavar="FOLDER", help="the artifact that it should serve")
    served.add_argument("--p99-ms", type=positive(float), metavar="MS", help="limit of the 99th percentile, ms")
    served.add_argument(
        "--api-key",
        default=os.environ.get(API_KEY, ""),
        metavar="KEY",
        help=f"the server's key; default: {API_KEY} of the environment",
    )
    folder = parser.add_argument_group("for a folder")
    folder.add_argument("--device", default="cpu", metavar="NAME", help="auto, cpu, cuda or cuda:N (default cpu)")
    folder.add_argument("--backend", choices=BACKENDS, help="check this one (default: each it is for)")
    folder.add_argument("--trust", action="append", default=[], metavar="TYPE", help="a type its preprocessor may hold")
    add_common(parser)
    parser.set_defaults(run=_run)
    return parser


def _run(options: argparse.Namespace) -> int:
    is_server = options.policy_or_server.startswith(("http://", "https://", "unix:"))
    if not is_server:
        progress(f"opening {options.policy_or_server}")
    results: list[dict[str, Any]] = []
    figures: dict[str, Any] = {}
    for check, on, call in _of_a_server(options, figures) if is_server else _of_a_folder(options):
        began = time.perf_counter()
        try:
            call()
            problem = None
        except UnreachableError:
            raise
        except (AssertionError, CarlaMlflowError) as error:
            problem = one_line(error)
        results.append({"check": check, "on": on, "problem": problem, "s": round(time.perf_counter() - began, 2)})
        if not options.json:
            word = styled("ok    ", "good") if problem is None else styled("FAILED", "bad")
            print(f"{word}  {check}{f' ({on})' if on else ''}", flush=True)
            if problem is not None:
                print(f"        {problem}")
    failed = sum(result["problem"] is not None for result in results)
    measured = ", ".join(f"{name} {value}" for name, value in figures.items())
    text = f"{len(results) - failed} of {len(results)} passed" + (f"; {measured}" if measured else "")
    show(options.json, text, {"failed": failed, "checks": results, "figures": figures})
    if failed:
        return REFUSED
    if not is_server:
        say_next(f"carla-registry register {shlex.quote(options.policy_or_server)}", only_to_people=True)
    return DONE


Calls = Iterable[tuple[str, str, Callable[[], None]]]
"""For each check: what it shows, what it runs on, and its call."""


def _of_a_folder(options: argparse.Namespace) -> Calls:
    from ..artifact.artifact import open_artifact
    from .conformance import CHECKS
    from .subject import Subject

    backends = open_artifact(options.policy_or_server).backends
    for backend in [options.backend] if options.backend else backends:
        subject = Subject.open(options.policy_or_server, backend, options.device, options.trust)
        for check in CHECKS:
            yield _sentence(check), f"{backend} on {subject.engine.device.name}", partial(check, subject)


def _of_a_server(options: argparse.Namespace, figures: dict[str, Any]) -> Calls:
    from ..artifact.artifact import open_artifact
    from ..client.client import PolicyClient
    from .deployment import DEPLOYMENT_CHECKS, OF_AN_ARTIFACT, Deployment

    artifact = open_artifact(options.policy) if options.policy else None
    url = options.policy_or_server
    with PolicyClient(url, api_key=options.api_key) as client:
        deployment = Deployment(client, url, options.api_key, artifact, options.p99_ms, figures)
        figures |= {"name": client.card.name, "version": client.version, "digest": client.digest}
        if artifact is None:
            warn("without --policy FOLDER the served policy is not compared with an artifact")
        for check in DEPLOYMENT_CHECKS:
            if artifact is not None or check not in OF_AN_ARTIFACT:
                yield _sentence(check), "", partial(check, deployment)


def _sentence(check: Callable[..., None]) -> str:
    return check.__name__.replace("_", " ")


if __name__ == "__main__":
    sys.exit(main())
