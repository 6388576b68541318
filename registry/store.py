"""MLflow's Model Registry, and the only file that calls MlflowClient."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from carla_mlflow.errors import NotFoundError, UnreachableError
from carla_mlflow.mlflow_model import fetch_policy
from registry.asking import is_silence, registry_error, registry_uri, within
from registry.lifecycle import ALIASED, CANDIDATE, LEGACY
from registry.reference import Reference
from registry.versions import highest_matching

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class PolicyVersion:
    """One version of a policy as the registry has it.

    Attributes:
        number: MLflow's own.
        semver: semantic version; unique per policy.
        digest: the artifact's, pinned at registration.
        stage: candidate, staging, production or archived.
        aliases: every MLflow alias that it holds.
        run_id: the run that logged it.
        created: seconds since 1970.
    """

    name: str
    number: str
    semver: str
    digest: str
    contract: str
    stage: str
    aliases: tuple[str, ...]
    run_id: str
    created: float

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.number}"


class Store:
    """Reads and moves versions. Every method may raise UnreachableError.

    Args:
        deadline_s: for one question to the registry. MLflow itself retries a database for minutes.
    """

    def __init__(self, deadline_s: float = 30.0) -> None:
        self.uri = registry_uri()
        self._deadline_s = deadline_s
        self._client: MlflowClient = self._call(MlflowClient)

    def names(self) -> list[str]:
        """Every registered policy."""
        return [model.name for model in self._call(self._client.search_registered_models)]

    def versions(self, name: str) -> list[PolicyVersion]:
        """Every version of a policy that has a semantic version, oldest first.

        Raises:
            NotFoundError: no such policy.
        """
        aliases = self._aliases(name)
        found = self._call(self._client.search_model_versions, f"name = '{name}'", max_results=10_000)
        # Version is int from SQLite, text over HTTP.
        ours = [version for version in found if "semver" in version.tags]
        return [_policy_version(v, aliases) for v in sorted(ours, key=lambda version: int(version.version))]

    def resolve(self, reference: Reference) -> PolicyVersion:
        """The one version that a reference means now.

        Raises:
            NotFoundError: it means none.
        """
        versions = self.versions(reference.name)
        if reference.kind in {"version", "range"}:
            wanted = reference.value
            if reference.kind == "range":
                live = [version.semver for version in versions if version.stage != "archived"]
                wanted = self._named(reference, highest_matching, reference.value, live)
            matching = [version for version in versions if version.semver == wanted]
        elif reference.kind == "alias":
            matching = [version for version in versions if reference.value in version.aliases]
        elif reference.kind == "number":
            matching = [version for version in versions if version.number == reference.value]
        else:
            latest = self._call(self._client.get_latest_versions, reference.name, [reference.value])
            numbers = {str(version.version) for version in latest}
            matching = [version for version in versions if version.number in numbers]
        if not matching:
            has = ", ".join(f"{v.semver} ({', '.join(v.aliases) or v.stage})" for v in versions) or "no version"
            raise NotFoundError(f"{reference}: there is no such {reference.kind}; {reference.name} has {has}")
        return matching[-1]

    @staticmethod
    def _named(reference: Reference, select: Callable[..., str], *arguments: Any) -> str:
        try:
            return select(*arguments)
        except NotFoundError as error:
            raise NotFoundError(f"{reference}: {error}") from error

    def holder(self, name: str, alias: str) -> PolicyVersion | None:
        """The version that holds an alias."""
        return next((version for version in self.versions(name) if alias in version.aliases), None)

    def create_version(self, name: str, uri: str, tags: dict[str, str]) -> PolicyVersion:
        """Registers a logged model, and the policy's name when it is new."""
        version = self._call(mlflow.register_model, uri, name, tags=tags)
        return _policy_version(version, {})

    def move_alias(self, version: PolicyVersion, alias: str, displaced: PolicyVersion | None) -> None:
        """Gives the alias to a version; mirrors tag and legacy stage for it and for the one displaced."""
        self._call(self._client.set_registered_model_alias, version.name, alias, version.number)
        if displaced and displaced.number != version.number:
            self.mirror(displaced, next((a for a in ALIASED if a in displaced.aliases and a != alias), CANDIDATE))
        self.mirror(version, alias)

    def mirror(self, version: PolicyVersion, stage: str) -> None:
        """Writes a version's stage to its tag and to MLflow's legacy stage."""
        self._call(self._client.set_model_version_tag, version.name, version.number, "stage", stage)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # stages are deprecated; MLflow's UI still shows them
            self._call(self._client.transition_model_version_stage, version.name, version.number, LEGACY[stage])

    def fetch(self, version: PolicyVersion, folder: Path) -> Path:
        """Downloads a version's policy artifact into a new folder. Not verified yet."""
        return fetch_policy(version.uri, folder)  # takes as long as the artifact is large

    def _aliases(self, name: str) -> dict[str, list[str]]:
        try:
            model = self._call(self._client.get_registered_model, name)
        except NotFoundError as error:
            known = ", ".join(self.names()) or "none"
            raise NotFoundError(f"{self.uri}: no policy named {name}; registered: {known}") from error
        numbers: dict[str, list[str]] = {}
        for alias, number in model.aliases.items():  # search_model_versions leaves a version's aliases empty
            numbers.setdefault(str(number), []).append(alias)
        return numbers

    def _call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        started = time.monotonic()
        try:
            return within(self._deadline_s, function, *args, **kwargs)
        except (MlflowException, TimeoutError) as error:
            if isinstance(error, MlflowException) and not is_silence(error):
                raise registry_error(error) from error
            raise UnreachableError(
                f"{self.uri}: the registry does not answer (tried for {time.monotonic() - started:.0f} s)"
            ) from error


def _policy_version(version: ModelVersion, aliases: dict[str, list[str]]) -> PolicyVersion:
    number, tags = str(version.version), version.tags
    held = tuple(sorted(aliases.get(number, [])))
    # The alias is the truth; the tag tells apart only what has none.
    stage = next((alias for alias in reversed(ALIASED) if alias in held), tags.get("stage", CANDIDATE))
    if stage in ALIASED and stage not in held:
        stage = CANDIDATE
    return PolicyVersion(
        version.name,
        number,
        tags["semver"],
        tags.get("digest", ""),
        tags.get("contract", ""),
        stage,
        held,
        version.run_id or "",
        version.creation_timestamp / 1e3,
    )
