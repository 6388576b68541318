"""Lists a policy's versions in MLflow's Model Registry, and resolves references to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from mlflow.entities.model_registry import ModelVersion

from carla_mlflow.errors import NotFoundError, RefusedError
from registry.rules.canary import Canary
from registry.rules.chain import chain
from registry.rules.lifecycle import ALIASED, CANARY
from registry.rules.listing import UNKNOWN, Listed, choose, listed, missing
from registry.rules.policy_version import PolicyVersion
from registry.rules.reference import Reference
from registry.rules.replay import holders as replay
from registry.store.client import Model
from registry.store.journal_entries import JournalEntries

FRESH_S = 60.0
"""How long a resolved range or legacy stage is kept while the model reports no change, as MLflow does not report an
edited tag."""
ATTEMPTS = 3
"""How often a canary is looked up that is moved again and again."""


class VersionReader(JournalEntries):
    """Finds versions; `Store` adds what changes them. Every method may raise UnreachableError.

    Args:
        deadline_s: for one call of the registry.
    """

    def __init__(self, deadline_s: float = 30.0) -> None:
        super().__init__(deadline_s)
        self._choices: dict[Reference, tuple[Model, float, PolicyVersion | None]] = {}
        self._canaries: dict[str, tuple[Model, float, Canary]] = {}

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
        found = listed(self._raw_versions(name), model.aliases)
        return replace(found, updated=model.updated, share=model.share)

    def is_unchanged(self, name: str, earlier: Listed) -> bool:
        """Whether aliases, versions and the canary's share are as in `earlier`; other edited tags are not noticed."""
        model = self._model(name)
        return (model.aliases, model.updated, model.share) == (earlier.aliases, earlier.updated, earlier.share)

    def resolve(self, reference: Reference) -> PolicyVersion:
        """The one version that a reference means now.

        Raises:
            NotFoundError: there is no such version.
            NotOursError: the version has no semantic version and digest.
        """
        name, value = reference.name, reference.value
        if reference.kind == "version":
            version = self.find(name, value)
        elif reference.kind == "alias":
            version = self._fetch_policy_version(self._client.get_model_version_by_alias, name, value)
        elif reference.kind == "number":
            version = self._fetch_policy_version(self._client.get_model_version, name, value)
        else:
            version = self._resolve_by_listing(reference)
        if version is None:
            raise missing(reference, self.listed(reference.name))
        return version

    def _fetch_policy_version(
        self, get: Callable[[str, str], ModelVersion], name: str, which: str
    ) -> PolicyVersion | None:
        """The policy version of one of MLflow's; None when that does not exist, or has no semantic version."""
        try:
            version = self._call(get, name, which)
        except (NotFoundError, RefusedError):  # MLflow refuses an alias that no version holds
            return None
        read = {str(version.version): list(version.aliases)}
        return self._with_semver(name, version.tags.get("semver", ""), read).known.get(str(version.version))

    def _with_semver(self, name: str, semver: str, read: Mapping[str, list[str]] | None = None) -> Listed:
        """MLflow's versions with this semantic version, of which its copying may make several.

        `read` has the aliases of one that was just read by its number: a search does not tell them.
        """
        versions = self._raw_versions(name, semver)
        if len(versions) == 1:  # its own aliases cost less to read than the registered model's
            number, read = str(versions[0].version), read or {}
            if number not in read:
                read = {number: self._call(self._client.get_model_version, name, number).aliases}
            return listed(versions, dict.fromkeys(read[number], number))
        return listed(versions, self._model(name).aliases if versions else {})

    def _resolve_by_listing(self, reference: Reference) -> PolicyVersion | None:
        """The version that a range or a legacy stage means; all versions are read only when something has changed."""
        model = self._model(reference.name)
        known = self._choices.get(reference)
        if known is None or known[0] != model or time.monotonic() > known[1]:
            chosen = choose(reference, self.listed(reference.name).versions)
            known = self._choices[reference] = (model, time.monotonic() + FRESH_S, chosen)
        return known[2]

    def canary_share(self, name: str) -> float | None:
        """The canary's share, in percent; None where none is set, or what is set is no share."""
        return self._model(name).share

    def canary(self, name: str) -> Canary | None:
        """The version that holds the alias canary now, and its share; None where none does.

        The journal of a canary that passed its gates is read again only when something has changed. One that seems not
        to have passed them is looked up again where it was moved between the two reads.

        Raises:
            NotFoundError: there is no such policy.
        """
        for _ in range(ATTEMPTS):
            model = self._model(name)
            found = self._canary_of(model)
            if found is None or found.is_vetted or self._model(name) == model:
                break
        return found

    def _canary_of(self, model: Model) -> Canary | None:
        """The canary of a registered model as it was read.

        While the journal's last move is being carried out, the canary from before it counts as vetted, too: alias and
        share still are, or one of them is, as before the move.
        """
        name, number = model.name, model.aliases.get(CANARY)
        if number is None:
            return None
        known = self._canaries.get(name)
        if known is not None and known[0] == model and time.monotonic() < known[1]:
            return known[2]
        version = self._fetch_policy_version(self._client.get_model_version, name, number)
        if version is None:
            return Canary(None, model.share, is_vetted=False)
        entries = chain(self.journal(name))
        if replay(entries).vetted_canary == version.semver:
            found = Canary(version, model.share, is_vetted=True)
            self._canaries[name] = (model, time.monotonic() + FRESH_S, found)
            return found
        is_under_way = bool(entries) and not entries[-1].applied
        is_before = is_under_way and replay(entries[:-1]).vetted_canary == version.semver
        return Canary(version, model.share, is_vetted=is_before)

    def holders(self, name: str) -> dict[str, str]:
        """Alias of ours → the semantic version that holds it; `MLflow version N` when that has none."""
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

    def _versions_named(self, name: str, holder: str) -> list[ModelVersion]:
        """MLflow's versions that a name from `holders` stands for."""
        if not holder.startswith(UNKNOWN):
            return self._raw_versions(name, holder)
        try:
            return [self._call(self._client.get_model_version, name, holder.removeprefix(UNKNOWN))]
        except NotFoundError:
            return []

    def _set_tag(self, name: str, number: str, key: str, value: str) -> None:
        self._choices.clear()
        super()._set_tag(name, number, key, value)
