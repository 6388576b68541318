"""python -m carla_mlflow.testing FOLDER | URL: runs the conformance checks on a policy or a server.

A folder is a policy artifact: every check runs on each of its graphs. A URL, or unix:/run/policy.sock, is a running
server: it gets requests as a car would send them (--policy FOLDER compares the policy it serves with that artifact).
Exits with 0 when all checks pass, with 1 when one fails, with 3 when no server answers.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec

from ..artifact.artifact import open_artifact
from ..cli import DONE, REFUSED, add_debug, positive, run_command
from ..errors import CarlaMlflowError, UnreachableError
from ..escaping import one_line

EXAMPLE = """\
examples:
  python -m carla_mlflow.testing my-policy/1.0.0
  python -m carla_mlflow.testing my-policy/1.0.0 --device cuda --backend torchscript
  python -m carla_mlflow.testing http://car-7:8080 --policy my-policy/1.0.0 --p99-ms 5
"""


def build_parser() -> argparse.ArgumentParser:
    text = (__doc__ or "").partition("\n\n")[2]
    parser = argparse.ArgumentParser(
        "python -m carla_mlflow.testing",
        description=text,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("policy_or_server", metavar="FOLDER|URL")
    parser.add_argument("--policy", metavar="FOLDER", help="for a server: the artifact that it should serve")
    parser.add_argument("--p99-ms", type=positive(float), help="for a server: limit of the 99th percentile, ms")
    parser.add_argument("--api-key", default="", help="for a server that requires one")
    parser.add_argument("--device", default="cpu", help="for a folder: auto, cpu, cuda or cuda:N (default cpu)")
    choices = ("torchscript", "onnx")
    parser.add_argument("--backend", choices=choices, help="for a folder: check this graph only (default: each it has)")
    parser.add_argument("--trust", action="append", default=[], metavar="TYPE", help="a type its preprocessor may hold")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_debug(parser)
    parser.set_defaults(run=_run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), arguments, "torch")


def _run(options: argparse.Namespace) -> int:
    is_server = options.policy_or_server.startswith(("http://", "https://", "unix:"))
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
            print(f"{'ok    ' if problem is None else 'FAILED'}  {check}{f' ({on})' if on else ''}", flush=True)
            if problem is not None:
                print(f"        {problem}")
    failed = sum(result["problem"] is not None for result in results)
    if options.json:
        print(msgspec.json.encode({"failed": failed, "checks": results, "figures": figures}).decode())
    else:
        measured = ", ".join(f"{name} {value}" for name, value in figures.items())
        print(f"{len(results) - failed} of {len(results)} passed" + (f"; {measured}" if measured else ""))
    return REFUSED if failed else DONE


Calls = Iterable[tuple[str, str, Callable[[], None]]]
"""For each check: what it shows, what it runs on, and its call."""


def _of_a_folder(options: argparse.Namespace) -> Calls:
    from .conformance import CHECKS
    from .subject import Subject

    backends = open_artifact(options.policy_or_server).backends
    for backend in [options.backend] if options.backend else backends:
        subject = Subject.open(options.policy_or_server, backend, options.device, options.trust)
        for check in CHECKS:
            yield _sentence(check), f"{backend} on {subject.engine.device.name}", partial(check, subject)


def _of_a_server(options: argparse.Namespace, figures: dict[str, Any]) -> Calls:
    from ..client.client import PolicyClient
    from .deployment import DEPLOYMENT_CHECKS, OF_AN_ARTIFACT, Deployment

    artifact = open_artifact(options.policy) if options.policy else None
    url = options.policy_or_server
    with PolicyClient(url, api_key=options.api_key) as client:
        deployment = Deployment(client, url, options.api_key, artifact, options.p99_ms, figures)
        figures |= {"name": client.card.name, "version": client.version, "digest": client.digest}
        if artifact is None:
            print("without --policy FOLDER the served policy is not compared with an artifact", file=sys.stderr)
        for check in DEPLOYMENT_CHECKS:
            if artifact is not None or check not in OF_AN_ARTIFACT:
                yield _sentence(check), "", partial(check, deployment)


def _sentence(check: Callable[..., None]) -> str:
    return check.__name__.replace("_", " ")


if __name__ == "__main__":
    sys.exit(main())
