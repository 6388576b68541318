"""MLflow's Model Registry as versions of policies: lists, resolves and moves them."""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion

from carla_mlflow.errors import NotFoundError, RefusedError
from carla_mlflow.flavor.model import fetch_policy
from registry.rules.lifecycle import ALIASED, ARCHIVED, LEGACY, stage_of
from registry.rules.listing import UNKNOWN, Listed, choose, listed, missing
from registry.rules.policy_version import PolicyVersion, policy_version
from registry.rules.reference import Reference
from registry.store.client import Model
from registry.store.journal_entries import JournalEntries

FRESH_S = 60.0
"""How long a resolved range or legacy stage is kept while the model reports no change, as MLflow does not report an
edited tag."""


class Store(JournalEntries):
    """Reads and moves versions. Every method may raise UnreachableError.

    Args:
        deadline_s: for one call of the registry.
    """

    def __init__(self, deadline_s: float = 30.0) -> None:
        super().__init__(deadline_s)
        self._choices: dict[Reference, tuple[Model, float, PolicyVersion | None]] = {}

    def versions(self, name: str) -> list[PolicyVersion]:
        """Every version of a policy that has a semantic version, oldest first; of two with the same, the first.

        Raises:
            NotFoundError: there is no such policy.
        """
        return self.listed(name).versions

    def listed(self, name: str) -> Listed:
        """Every version of a policy, with and without a semantic version.

        Raises:
            NotFoundError: there is no such policy.
        """
        model = self._model(name)
        return replace(listed(self._raw_versions(name), model.aliases), updated=model.updated)

    def is_unchanged(self, name: str, found: Listed) -> bool:
        """Whether all aliases and versions are still as in `found`; an edited tag is not noticed."""
        model = self._model(name)
        return (model.aliases, model.updated) == (found.aliases, found.updated)

    def resolve(self, reference: Reference) -> PolicyVersion:
        """The one version that a reference means now.

        Raises:
            NotFoundError: there is no such version.
            NotOursError: the version has no semantic version and digest.
        """
        name, value = reference.name, reference.value
        if reference.kind == "version":
            found = self.find(name, value)
        elif reference.kind == "alias":
            found = self._fetch_policy_version(self._client.get_model_version_by_alias, name, value)
        elif reference.kind == "number":
            found = self._fetch_policy_version(self._client.get_model_version, name, value)
        else:
            found = self._resolve_by_listing(reference)
        if found is None:
            raise missing(reference, self.listed(reference.name))
        return found

    def _fetch_policy_version(
        self, get: Callable[[str, str], ModelVersion], name: str, which: str
    ) -> PolicyVersion | None:
        """The policy version of one of MLflow's; None when that does not exist, or has no semantic version."""
        try:
            version = self._call(get, name, which)
        except (NotFoundError, RefusedError):  # MLflow refuses an alias that no version holds
            return None
        return self._with_semver(name, version.tags.get("semver", "")).known.get(str(version.version))

    def _with_semver(self, name: str, semver: str) -> Listed:
        """MLflow's versions with this semantic version; its copying may make several."""
        versions = self._raw_versions(name, semver)
        if len(versions) == 1:  # its own aliases cost less to read than the registered model's
            number = str(versions[0].version)
            held = self._call(self._client.get_model_version, name, number).aliases
            return listed(versions, dict.fromkeys(held, number))
        return listed(versions, self._model(name).aliases if versions else {})

    def _resolve_by_listing(self, reference: Reference) -> PolicyVersion | None:
        """The version that a range or a legacy stage means; all versions are read only when something has changed."""
        model = self._model(reference.name)
        known = self._choices.get(reference)
        if known is None or known[0] != model or time.monotonic() > known[1]:
            chosen = choose(reference, self.listed(reference.name).versions)
            known = self._choices[reference] = (model, time.monotonic() + FRESH_S, chosen)
        return known[2]

    def holders(self, name: str) -> dict[str, str]:
        """Staging and production → the semantic version that holds it; `MLflow version N` when that has none."""
        held = {alias: number for alias, number in self._model(name).aliases.items() if alias in ALIASED}
        known = {
            number: self._fetch_policy_version(self._client.get_model_version, name, number) for number in held.values()
        }
        return Listed([], {number: v for number, v in known.items() if v}, [], held).holders

    def find(self, name: str, semver: str) -> PolicyVersion | None:
        """The version with this semantic version; None when there is none."""
        return next(iter(self._with_semver(name, semver).versions), None)

    def number_of(self, reference: Reference) -> str:
        """MLflow's number of the version that a reference means, with or without a semantic version.

        Raises:
            NotFoundError: there is none.
        """
        model = self._model(reference.name)
        if reference.kind == "number":
            return reference.value
        if reference.kind == "alias" and reference.value in model.aliases:
            return model.aliases[reference.value]
        if reference.kind == "stage":
            held = [v for v in self._raw_versions(reference.name) if v.current_stage == reference.value]
            if held:
                return str(held[-1].version)
        return self.resolve(reference).number

    def adopt(self, name: str, number: str, tags: Mapping[str, str]) -> None:
        """Makes a policy version of one that MLflow has already; `semver`, which makes it known, is written last."""
        for key in sorted(tags, key=lambda key: key == "semver"):
            self._set_tag(name, number, key, tags[key])

    def create_version(self, name: str, uri: str, tags: dict[str, str]) -> PolicyVersion:
        """Registers a logged model, and the policy's name when it is new."""
        with contextlib.redirect_stderr(io.StringIO()):  # MLflow prints what our own command says better
            version = self._call(mlflow.register_model, uri, name, tags=tags)
        return policy_version(version)

    def delete_version(self, name: str, number: str) -> None:
        """Deletes a version that lost a race for its semantic version."""
        self._call(self._client.delete_model_version, name, number)

    def set_alias(self, version: PolicyVersion, alias: str) -> None:
        """Gives the alias to a version; `mirror_stages` updates the stages."""
        self._call(self._client.set_registered_model_alias, version.name, alias, version.number)

    def delete_alias(self, name: str, alias: str) -> None:
        """Removes the alias from the version that holds it."""
        self._call(self._client.delete_registered_model_alias, name, alias)

    def tag(self, version: PolicyVersion, key: str, value: str) -> None:
        """Writes a tag that people see on the version's page."""
        self._set_tag(version.name, version.number, key, value)

    def model_tags(self, name: str) -> dict[str, str]:
        """The tags of the policy itself."""
        return dict(self._call(self._client.get_registered_model, name).tags)

    def mirror_stages(self, name: str, archived: Collection[str] = (), only: Collection[str] | None = None) -> None:
        """Brings the tag and legacy stage of each version in line with the aliases, which are authoritative.

        Args:
            name: the policy's name.
            archived: the semantic versions that are archived.
            only: the versions to mirror, as `holders` names them; None for all.
        """
        model = self._model(name)
        if only is None:
            versions = self._raw_versions(name)
        else:
            versions = [version for holder in only for version in self._versions_named(name, holder)]
        found = listed(versions, model.aliases)
        for version in versions:
            number = str(version.version)
            known = found.known.get(number)
            tag = ARCHIVED if known and known.semver in archived else None
            held = known.aliases if known else [alias for alias, holder in model.aliases.items() if holder == number]
            stage = stage_of(held, tag)
            if version.tags.get("stage") != stage:
                self._set_tag(name, number, "stage", stage)
            if version.current_stage != LEGACY[stage]:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)  # stages are deprecated; MLflow's UI shows them
                    self._call(self._client.transition_model_version_stage, name, number, LEGACY[stage])

    def _versions_named(self, name: str, holder: str) -> list[ModelVersion]:
        """MLflow's versions that a name from `holders` stands for."""
        if not holder.startswith(UNKNOWN):
            return self._raw_versions(name, holder)
        try:
            return [self._call(self._client.get_model_version, name, holder.removeprefix(UNKNOWN))]
        except NotFoundError:
            return []

    def fetch(self, version: PolicyVersion, folder: Path) -> Path:
        """Downloads a version's policy artifact into a new folder, unverified and without a deadline."""
        return fetch_policy(version.uri, folder)

    def _set_tag(self, name: str, number: str, key: str, value: str) -> None:
        self._choices.clear()
        super()._set_tag(name, number, key, value)
