"""MLflow's Model Registry, and the only file that calls MlflowClient."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from carla_mlflow.errors import NotFoundError
from carla_mlflow.mlflow_model import fetch_policy
from registry.asking import ask, registry_uri
from registry.lifecycle import ARCHIVED, LEGACY, stage_of
from registry.reference import Reference
from registry.versions import highest_matching, is_exact

P = ParamSpec("P")
R = TypeVar("R")

PAGE = 1000


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
        deadline_s: for one question to the registry.
    """

    def __init__(self, deadline_s: float = 30.0) -> None:
        self.uri = registry_uri()
        self._deadline_s = deadline_s
        self._client: MlflowClient = self._ask(MlflowClient)

    def names(self) -> list[str]:
        """Every registered policy."""
        return [model.name for model in self._all_pages(self._client.search_registered_models)]

    def versions(self, name: str) -> list[PolicyVersion]:
        """Every version of a policy that has a semantic version, oldest first.

        Raises:
            NotFoundError: no such policy.
        """
        aliases = self._aliases(name)
        ours = [version for version in self._raw_versions(name) if is_exact(version.tags.get("semver", ""))]
        return [_policy_version(version, aliases) for version in ours]

    def resolve(self, reference: Reference) -> PolicyVersion:
        """The one version that a reference means now.

        Raises:
            NotFoundError: it means none.
        """
        versions = self.versions(reference.name)
        matching = [version for version in versions if self._means(reference, version, versions)]
        if not matching:
            has = ", ".join(f"{v.semver} ({', '.join(v.aliases) or v.stage})" for v in versions) or "no version"
            raise NotFoundError(f"{reference}: there is no such {reference.kind}; {reference.name} has {has}")
        return matching[-1]

    def _means(self, reference: Reference, version: PolicyVersion, versions: list[PolicyVersion]) -> bool:
        if reference.kind == "alias":
            return reference.value in version.aliases
        if reference.kind == "number":
            return reference.value == version.number
        if reference.kind == "stage":
            latest = self._ask(self._client.get_latest_versions, reference.name, [reference.value])
            return version.number in {str(found.version) for found in latest}
        if reference.kind == "version":
            return reference.value == version.semver
        live = [other.semver for other in versions if other.stage != ARCHIVED]
        return version.semver == highest_matching(reference.value, live)

    def holder(self, name: str, alias: str) -> str | None:
        """The semantic version that holds an alias; `MLflow version N` for one that has none."""
        numbers = [number for number, held in self._aliases(name).items() if alias in held]
        if not numbers:
            return None
        known = {version.number: version.semver for version in self.versions(name)}
        return known.get(numbers[0], f"MLflow version {numbers[0]}")

    def create_version(self, name: str, uri: str, tags: dict[str, str]) -> PolicyVersion:
        """Registers a logged model, and the policy's name when it is new."""
        version = self._ask(mlflow.register_model, uri, name, tags=tags)
        return _policy_version(version, {})

    def delete_version(self, version: PolicyVersion) -> None:
        """Takes back a version that lost a race for its semantic version."""
        self._ask(self._client.delete_model_version, version.name, version.number)

    def move_alias(self, version: PolicyVersion, alias: str) -> None:
        """Gives the alias to a version, then mirrors every version's stage."""
        self._ask(self._client.set_registered_model_alias, version.name, alias, version.number)
        self.mirror_stages(version.name)

    def mirror_stages(self, name: str) -> None:
        """Brings tag and legacy stage of each version in line with the aliases, which are the truth."""
        aliases = self._aliases(name)
        for version in self._raw_versions(name):
            number = str(version.version)
            stage = stage_of(aliases.get(number, ()), version.tags.get("stage"))
            if version.tags.get("stage") != stage:
                self._ask(self._client.set_model_version_tag, name, number, "stage", stage)
            if version.current_stage != LEGACY[stage]:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)  # stages are deprecated; MLflow's UI shows them
                    self._ask(self._client.transition_model_version_stage, name, number, LEGACY[stage])

    def fetch(self, version: PolicyVersion, folder: Path) -> Path:
        """Downloads a version's policy artifact into a new folder. Not verified yet, and without a deadline."""
        return fetch_policy(version.uri, folder)

    def _raw_versions(self, name: str) -> list[ModelVersion]:
        found = self._all_pages(self._client.search_model_versions, f"name = '{name}'")
        return sorted(found, key=lambda version: int(version.version))  # int from SQLite, text over HTTP

    def _aliases(self, name: str) -> dict[str, list[str]]:
        try:
            model = self._ask(self._client.get_registered_model, name)
        except NotFoundError as error:
            known = ", ".join(self.names()) or "none"
            raise NotFoundError(f"{self.uri}: no policy named {name}; registered: {known}") from error
        numbers: dict[str, list[str]] = {}
        for alias, number in model.aliases.items():  # search_model_versions leaves a version's aliases empty
            numbers.setdefault(str(number), []).append(alias)
        return numbers

    def _all_pages(self, search: Callable[..., Any], *arguments: Any) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._ask(search, *arguments, max_results=PAGE, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _ask(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return ask(self.uri, self._deadline_s, function, *args, **kwargs)


def _policy_version(version: ModelVersion, aliases: dict[str, list[str]]) -> PolicyVersion:
    number, tags = str(version.version), version.tags
    held = tuple(sorted(aliases.get(number, [])))
    return PolicyVersion(
        name=version.name,
        number=number,
        semver=tags["semver"],
        digest=tags.get("digest", ""),
        contract=tags.get("contract", ""),
        stage=stage_of(held, tags.get("stage")),
        aliases=held,
        run_id=version.run_id or "",
        created=version.creation_timestamp / 1e3,
    )
