"""Opens the policy that a command's argument names: a folder, a registered version, or a logged model."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..artifact.artifact import open_artifact
from ..artifact.naming import is_artifact_folder
from ..errors import RegistryError, UnreachableError
from ..exit_codes import UNREACHABLE
from ..inference.engine import Engine
from ..preprocessing.trust_types import operators_types


@dataclass(frozen=True)
class PolicyIdentity:
    """The evaluated policy: its name, semantic version, and the digest by which the gates find its evidence."""

    name: str
    version: str
    digest: str


def open_engine(model: str, scratch: Path) -> Engine:
    """Loads a policy.

    Args:
        model: an artifact folder; a reference such as name@1.4.2, whose digest has to be the one in the registry;
            a version in a folder of artifacts, folder/@^1.4; or MLflow's own URI, such as runs:/ID/policy or
            models:/name@alias.
        scratch: where to download to.
    """
    folder = Path(model)
    if is_artifact_folder(model):
        return Engine.open(folder, trusted=operators_types())
    from .model import fetch_policy  # imports mlflow, which a folder does not need

    if model.startswith(("runs:/", "models:/")):
        return Engine.open(fetch_policy(model, scratch / "fetched"), trusted=operators_types())
    version = _resolve(model)
    if "folder" in version:
        return Engine.open(version["folder"], version["digest"], trusted=operators_types())
    folder = fetch_policy(f"models:/{version['name']}/{version['number']}", scratch / "fetched")
    return Engine.open(folder, version["digest"], trusted=operators_types())


def identify(model: str, scratch: Path) -> PolicyIdentity:
    """Which policy `model` names, as for `open_engine`; runs nothing, and fetches nothing of a registered version."""
    if not is_artifact_folder(model) and not model.startswith(("runs:/", "models:/")):
        version = _resolve(model)
        return PolicyIdentity(version["name"], version["semver"], version["digest"])
    folder = Path(model)
    if not is_artifact_folder(model):
        from .model import fetch_policy

        folder = fetch_policy(model, scratch / "fetched")
    artifact = open_artifact(folder)
    return PolicyIdentity(artifact.card.name, artifact.card.version, artifact.digest)


def _resolve(reference: str) -> dict[str, str]:
    """A version's name, number, semver and digest, by the registry's command; of one in a folder also `folder`.

    The registry is a layer above this package, which therefore can't import it.

    Raises:
        UnreachableError: the registry does not answer.
        RegistryError: there is no such version.
    """
    command = [sys.executable, "-m", "registry", "resolve", reference, "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        message = (done.stderr.strip().splitlines() or ["the registry's command failed"])[-1].partition(": ")[2]
        raise (UnreachableError if done.returncode == UNREACHABLE else RegistryError)(message)
    version: dict[str, str] = json.loads(done.stdout)
    return version
