"""carla-registry doctor: looks at everything that commonly goes wrong, and says what to do."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from carla_mlflow.cli import DONE, REFUSED, UNREACHABLE, progress
from carla_mlflow.command_parser import add_command
from carla_mlflow.look import show, styled
from registry.commands.options import say_asking

if TYPE_CHECKING:
    from registry.checks.finding import Finding


def doctor(options: argparse.Namespace) -> int:
    findings = []
    for finding in _findings(options.source):
        findings.append(finding)
        if not options.json:
            show(False, _say(finding), None)
    problems = [finding for finding in findings if not finding.ok]
    if options.json:
        show(True, "", {"ok": not problems, "checks": findings})
    else:
        show(False, f"{len(problems)} of {len(findings)} have a problem" if problems else "all is well", None)
    if any(finding.no_answer for finding in problems):
        return UNREACHABLE
    return REFUSED if problems else DONE


def _findings(source: str | None) -> Iterator[Finding]:
    from registry.checks.machine_health import machine_findings

    progress("looking at this machine")
    yield from machine_findings()
    say_asking()
    from registry.checks.registry_health import registry_findings

    yield from registry_findings()
    if source is not None:
        progress(f"verifying {source}")
        yield _artifact(source)


def _artifact(source: str) -> Finding:
    """Whether an artifact, or the version that a reference means, acts on this machine as the trained policy did."""
    from carla_mlflow.errors import CarlaMlflowError
    from carla_mlflow.escaping import one_line
    from carla_mlflow.preprocessing.trust_types import operators_types
    from registry.checks.finding import Finding
    from registry.checks.verify import verify_apart
    from registry.commands.artifact import located

    try:
        path, digest = located(source)
        lines = list(verify_apart(path, digest, "cpu", operators_types(None)))
    except CarlaMlflowError as error:
        todo = f"carla-registry verify {source} says more; export or fetch it again"
        return Finding("artifact", False, one_line(error), todo)
    return Finding("artifact", True, f"{source}: {len(lines)} checks passed, parity among them")


def _say(finding: Finding) -> str:
    from carla_mlflow.escaping import escaped

    word = styled("ok     ", "good") if finding.ok else styled("problem", "bad")
    todo = f"; {finding.todo}" if finding.todo else ""
    return f"{word}  {finding.check:<11}  {escaped(finding.found + todo)}"


def add_doctor_command(commands: Any) -> None:
    command = add_command(
        commands,
        "doctor",
        "look at everything that commonly goes wrong, and say what to do",
        ["carla-registry doctor", "carla-registry doctor carla-policy@production", "carla-registry doctor --json"],
        description="Looks at this machine and its registry, one line each: ok, or the problem and what to do. Changes "
        "nothing. Exit code 1 with a problem, 3 where the registry does not answer.",
    )
    command.add_argument(
        "source", nargs="?", metavar="FOLDER|REF", help="also check that this artifact or version acts as trained here"
    )
    command.set_defaults(run=doctor)
