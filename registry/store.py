"""MLflow's Model Registry, and the only file that calls MlflowClient."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from carla_mlflow.errors import NotFoundError, RegistryError, UnreachableError
from carla_mlflow.mlflow_model import fetch_policy
from registry.asking import ask, one_at_a_time, registry_uri
from registry.journal import Entry, Link, read_entry
from registry.lifecycle import ALIASED, ARCHIVED, LEGACY, stage_of
from registry.policy_version import PolicyVersion, policy_version
from registry.reference import JOURNAL, Reference
from registry.versions import highest_matching, is_exact

P = ParamSpec("P")
R = TypeVar("R")

PAGE = 1000
ENTRY = "journal:/"
"""Begins the source of a journal's entry; unlike a tag, nobody can edit it."""


class Store:
    """Reads and moves versions. Every method may raise UnreachableError.

    Args:
        deadline_s: for one question to the registry.
    """

    def __init__(self, deadline_s: float = 30.0) -> None:
        self.uri = registry_uri()
        self._deadline_s = deadline_s
        with one_at_a_time(self.uri):
            self._client: MlflowClient = self._ask(MlflowClient)

    def names(self) -> list[str]:
        """Every registered policy."""
        models = self._all_pages(self._client.search_registered_models)
        return [model.name for model in models if not model.name.endswith(JOURNAL)]

    def versions(self, name: str) -> list[PolicyVersion]:
        """Every version of a policy that has a semantic version, oldest first; of two with the same, the first.

        Raises:
            NotFoundError: no such policy.
        """
        aliases = self._aliases(name)
        ours = [version for version in self._raw_versions(name) if is_exact(version.tags.get("semver", ""))]
        found: dict[str, PolicyVersion] = {}
        for version in ours:
            found.setdefault(version.tags["semver"], policy_version(version, aliases))
        return list(found.values())

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
            holders = [other for other in versions if other.legacy_stage == reference.value]
            # MLflow's page leaves the one before where it was: the one that has no alias for it was moved there last.
            moved = [other for other in holders if reference.value.lower() not in other.aliases]
            return version in (moved or holders)[-1:]
        if reference.kind == "version":
            return reference.value == version.semver
        live = [other.semver for other in versions if other.stage != ARCHIVED]
        return version.semver == highest_matching(reference.value, live)

    def holders(self, name: str) -> dict[str, str]:
        """Staging and production → the semantic version that holds it; `MLflow version N` for one that has none."""
        numbers = {alias: number for number, held in self._aliases(name).items() for alias in held if alias in ALIASED}
        known = {version.number: version.semver for version in self.versions(name)} if numbers else {}
        return {alias: known.get(number, f"MLflow version {number}") for alias, number in numbers.items()}

    def create_version(self, name: str, uri: str, tags: dict[str, str]) -> PolicyVersion:
        """Registers a logged model, and the policy's name when it is new."""
        with contextlib.redirect_stderr(io.StringIO()):  # MLflow tells there what our own command tells better
            version = self._ask(mlflow.register_model, uri, name, tags=tags)
        return policy_version(version, {})

    def delete_version(self, version: PolicyVersion) -> None:
        """Takes back a version that lost a race for its semantic version."""
        self._ask(self._client.delete_model_version, version.name, version.number)

    def set_alias(self, version: PolicyVersion, alias: str) -> None:
        """Gives the alias to a version; its stages are mirrored by `mirror_stages`."""
        self._ask(self._client.set_registered_model_alias, version.name, alias, version.number)

    def delete_alias(self, name: str, alias: str) -> None:
        """Takes the alias from whoever holds it."""
        self._ask(self._client.delete_registered_model_alias, name, alias)

    def tag(self, version: PolicyVersion, key: str, value: str) -> None:
        """Writes a tag that people see on the version's page."""
        self._set_tag(version.name, version.number, key, value)

    def model_tags(self, name: str) -> dict[str, str]:
        """The tags of the policy itself."""
        return dict(self._ask(self._client.get_registered_model, name).tags)

    def mirror_stages(self, name: str, archived: Collection[str] = ()) -> None:
        """Brings tag and legacy stage of each version in line with the aliases, which are the truth.

        Args:
            name: of the policy.
            archived: semantic versions.
        """
        aliases = self._aliases(name)
        for version in self._raw_versions(name):
            number = str(version.version)
            tag = ARCHIVED if version.tags.get("semver") in archived else None
            stage = stage_of(aliases.get(number, ()), tag)
            if version.tags.get("stage") != stage:
                self._set_tag(name, number, "stage", stage)
            if version.current_stage != LEGACY[stage]:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)  # stages are deprecated; MLflow's UI shows them
                    self._ask(self._client.transition_model_version_stage, name, number, LEGACY[stage])

    def journal(self, name: str) -> list[Entry]:
        """Every entry of a policy's journal, those that lost a race too, in the order of their numbers."""
        return [
            read_entry(int(v.version), v.tags.get("entry", ""), v.tags.get("hash", ""), "applied" in v.tags)
            for v in self._raw_versions(name + JOURNAL)
            if (v.source or "").startswith(ENTRY)  # and not a model that somebody logged under that name
        ]

    def append(self, name: str, link: Link, text: str) -> int:
        """Writes an entry; its number tells whether another was written before it (see `journal.chain`)."""
        tags = {"entry": link.to_bytes().decode(), "hash": link.hash}
        source = f"{ENTRY}{name}/{link.after}"  # names nothing: an entry has no files
        create = self._client.create_model_version
        try:
            made = self._ask(create, name + JOURNAL, source, tags=tags, description=text, await_creation_for=0)
        except NotFoundError:
            self._create_journal(name)
            made = self._ask(create, name + JOURNAL, source, tags=tags, description=text, await_creation_for=0)
        return int(made.version)

    def say_void(self, name: str, number: int) -> None:
        """Says on its page that an entry lost a race, and so never counted.

        It is not deleted: while MLflow does so, others read it without its tags, as if it had been edited.
        """
        text = "void: another entry was written before it"
        self._ask(self._client.update_model_version, name + JOURNAL, str(number), description=text)

    def mark_applied(self, name: str, number: int) -> None:
        """Says that an entry's move was carried out."""
        self._set_tag(name + JOURNAL, str(number), "applied", "true")

    def _create_journal(self, name: str) -> None:
        text = f"The history of {name}: an entry a version. Read it with carla-registry history {name}."
        with contextlib.suppress(RegistryError):  # another process made it at the same moment
            self._ask(self._client.create_registered_model, name + JOURNAL, description=text)

    def fetch(self, version: PolicyVersion, folder: Path) -> Path:
        """Downloads a version's policy artifact into a new folder. Not verified yet, and without a deadline."""
        return fetch_policy(version.uri, folder)

    def _set_tag(self, name: str, number: str, key: str, value: str) -> None:
        try:
            self._ask(self._client.set_model_version_tag, name, number, key, value)
        except UnreachableError:
            raise
        except RegistryError:  # MLflow fails where two set the same new tag at the same moment
            self._ask(self._client.set_model_version_tag, name, number, key, value)

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
