"""MLflow's Model Registry, and the only file that calls MlflowClient."""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from carla_mlflow.errors import NotFoundError, RefusedError, RegistryError, UnreachableError
from carla_mlflow.flavor.model import fetch_policy
from registry.rules.journal import WRITER, Entry, Link, read_entry
from registry.rules.lifecycle import ALIASED, ARCHIVED, LEGACY, stage_of
from registry.rules.listing import UNKNOWN, Listed, choose, listed, missing
from registry.rules.policy_version import PolicyVersion, policy_version
from registry.rules.reference import JOURNAL, Reference
from registry.rules.versions import is_exact
from registry.store.calls import ask, one_at_a_time, registry_uri

P = ParamSpec("P")
R = TypeVar("R")

PAGE = 1000
ENTRY = "journal:/"
"""Begins the source of a journal's entry; unlike a tag, nobody can edit it."""


FRESH_S = 60.0
"""For so long at most the versions of a model are not read again that says itself that nothing has changed: MLflow does
not count a tag that is edited."""
VOID = "void"
"""Begins the description of an entry that lost a race."""


@dataclass(frozen=True)
class _Model:
    """A registered model itself: what can be asked at the same price however many versions it has.

    Attributes:
        aliases: alias → MLflow's number.
        updated: when a version was made, deleted or moved to another legacy stage, milliseconds since 1970.
    """

    name: str
    aliases: dict[str, str]
    updated: int


class Store:
    """Reads and moves versions. Every method may raise UnreachableError.

    Args:
        deadline_s: for one question to the registry.
    """

    def __init__(self, deadline_s: float = 30.0) -> None:
        self.uri = registry_uri()
        self._deadline_s = deadline_s
        self._choices: dict[Reference, tuple[_Model, float, PolicyVersion | None]] = {}
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
        return self.listed(name).versions

    def listed(self, name: str) -> Listed:
        """Every version of a policy, ours and others.

        Raises:
            NotFoundError: no such policy.
        """
        model = self._model(name)
        return replace(listed(self._raw_versions(name), model.aliases), updated=model.updated)

    def is_as(self, name: str, found: Listed) -> bool:
        """Whether all aliases and versions are still as they were; an edited tag does not count."""
        model = self._model(name)
        return (model.aliases, model.updated) == (found.aliases, found.updated)

    def resolve(self, reference: Reference) -> PolicyVersion:
        """The one version that a reference means now.

        Raises:
            NotFoundError: it means none.
            NotOursError: it means one without a semantic version and digest.
        """
        name, value = reference.name, reference.value
        if reference.kind == "version":
            found = self.find(name, value)
        elif reference.kind == "alias":
            found = self._ours(self._client.get_model_version_by_alias, name, value)
        elif reference.kind == "number":
            found = self._ours(self._client.get_model_version, name, value)
        else:
            found = self._chosen(reference)
        if found is None:
            raise missing(reference, self.listed(reference.name))
        return found

    def _ours(self, get: Callable[[str, str], ModelVersion], name: str, which: str) -> PolicyVersion | None:
        """The version that one of MLflow's is; None when there is none, or when it is not ours."""
        try:
            version = self._ask(get, name, which)
        except (NotFoundError, RefusedError):  # MLflow refuses an alias that nobody holds
            return None
        return self._same(name, version.tags.get("semver", "")).known.get(str(version.version))

    def _same(self, name: str, semver: str) -> Listed:
        """The versions that have a semantic version: MLflow's copying may make several."""
        versions = self._raw_versions(name, semver)
        if len(versions) == 1:  # it knows its own aliases, for less than the registered model costs
            number = str(versions[0].version)
            held = self._ask(self._client.get_model_version, name, number).aliases
            return listed(versions, dict.fromkeys(held, number))
        return listed(versions, self._model(name).aliases if versions else {})

    def _chosen(self, reference: Reference) -> PolicyVersion | None:
        """The version that a range or a legacy stage means. All versions are read only where something has changed."""
        model = self._model(reference.name)
        known = self._choices.get(reference)
        if known is None or known[0] != model or time.monotonic() > known[1]:
            chosen = choose(reference, self.listed(reference.name).versions)
            known = self._choices[reference] = (model, time.monotonic() + FRESH_S, chosen)
        return known[2]

    def holders(self, name: str) -> dict[str, str]:
        """Staging and production → the semantic version that holds it; `MLflow version N` for one that has none."""
        held = {alias: number for alias, number in self._model(name).aliases.items() if alias in ALIASED}
        known = {number: self._ours(self._client.get_model_version, name, number) for number in held.values()}
        return Listed([], {number: v for number, v in known.items() if v}, [], held).holders

    def find(self, name: str, semver: str) -> PolicyVersion | None:
        """The version that has a semantic version; None when there is none."""
        return next(iter(self._same(name, semver).versions), None)

    def number_of(self, reference: Reference) -> str:
        """MLflow's number of the version that an alias, a legacy stage or a number means, ours or not.

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
        """Makes a version that MLflow has already one of ours. Last comes what it is known by."""
        for key in sorted(tags, key=lambda key: key == "semver"):
            self._set_tag(name, number, key, tags[key])

    def create_version(self, name: str, uri: str, tags: dict[str, str]) -> PolicyVersion:
        """Registers a logged model, and the policy's name when it is new."""
        with contextlib.redirect_stderr(io.StringIO()):  # MLflow tells there what our own command tells better
            version = self._ask(mlflow.register_model, uri, name, tags=tags)
        return policy_version(version)

    def delete_version(self, name: str, number: str) -> None:
        """Takes back a version that lost a race for its semantic version."""
        self._ask(self._client.delete_model_version, name, number)

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

    def mirror_stages(self, name: str, archived: Collection[str] = (), only: Collection[str] | None = None) -> None:
        """Brings tag and legacy stage of each version in line with the aliases, which are the truth.

        Args:
            name: of the policy.
            archived: semantic versions.
            only: the versions that are looked at, as `holders` names them; None for every one.
        """
        model = self._model(name)
        versions = self._raw_versions(name) if only is None else [v for o in only for v in self._called(name, o)]
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
                    self._ask(self._client.transition_model_version_stage, name, number, LEGACY[stage])

    def _called(self, name: str, holder: str) -> list[ModelVersion]:
        """The versions of MLflow's that a holder of an alias is."""
        if not holder.startswith(UNKNOWN):
            return self._raw_versions(name, holder)
        try:
            return [self._ask(self._client.get_model_version, name, holder.removeprefix(UNKNOWN))]
        except NotFoundError:
            return []

    def journal(self, name: str, after: int = 0) -> list[Entry]:
        """The entries of a policy's journal, those that lost a race too, in the order of their numbers.

        Args:
            name: of the policy.
            after: the number behind which to begin.
        """
        return [
            read_entry(
                int(v.version),
                v.tags.get("entry", ""),
                v.tags.get("hash", ""),
                "applied" in v.tags,
                is_void=(v.description or "").startswith(VOID),
                is_foreign=not (v.source or "").startswith(ENTRY),
                writers={key: text for key, text in v.tags.items() if key.startswith(WRITER)},
            )
            for v in self._raw_versions(name + JOURNAL, after=after)
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
        text = f"{VOID}: another entry was written before it"
        self._ask(self._client.update_model_version, name + JOURNAL, str(number), description=text)

    def mark_applied(self, name: str, number: int) -> None:
        """Says that an entry's move was carried out."""
        self._set_tag(name + JOURNAL, str(number), "applied", "true")

    def begin_writing(self, name: str, number: int, writer: str) -> None:
        """Says when a process began to write aliases for an entry; see `registry.moves.apply`."""
        self._set_tag(name + JOURNAL, str(number), writer, str(time.time()))

    def end_writing(self, name: str, number: int, writer: str) -> None:
        """Says that the process is done."""
        with contextlib.suppress(NotFoundError):  # another took it for dead
            self._ask(self._client.delete_model_version_tag, name + JOURNAL, str(number), writer)

    def _create_journal(self, name: str) -> None:
        text = f"The history of {name}: an entry a version. Read it with carla-registry history {name}."
        with contextlib.suppress(RegistryError, UnreachableError):  # another process made it at the same moment
            self._ask(self._client.create_registered_model, name + JOURNAL, description=text)

    def fetch(self, version: PolicyVersion, folder: Path) -> Path:
        """Downloads a version's policy artifact into a new folder. Not verified yet, and without a deadline."""
        return fetch_policy(version.uri, folder)

    def _set_tag(self, name: str, number: str, key: str, value: str) -> None:
        self._choices.clear()
        try:
            self._ask(self._client.set_model_version_tag, name, number, key, value)
        except RegistryError:  # MLflow fails where two set the same new tag at the same moment
            self._ask(self._client.set_model_version_tag, name, number, key, value)

    def _raw_versions(self, name: str, semver: str | None = None, after: int = 0) -> list[ModelVersion]:
        """MLflow's versions by their numbers: every one, or those of one semantic version, or behind a number."""
        if semver is not None and not is_exact(semver):
            return []
        quoted = f'"{name}"' if "'" in name else f"'{name}'"
        query = f"name = {quoted}" + (f" AND tags.semver = '{semver}'" if semver is not None else "")
        query += f" AND version_number > {after}" if after else ""
        # By what never changes: a version that is written while the pages are read would change its place among them.
        found = self._all_pages(self._client.search_model_versions, query, order_by=["version_number ASC"])
        return sorted(found, key=lambda version: int(version.version))  # int from SQLite, text over HTTP

    def _model(self, name: str) -> _Model:
        try:
            model = self._ask(self._client.get_registered_model, name)
        except NotFoundError as error:
            known = ", ".join(self.names()) or "none"
            raise NotFoundError(f"{self.uri}: no policy named {name}; registered: {known}") from error
        # search_model_versions leaves a version's aliases empty
        aliases = {alias: str(number) for alias, number in model.aliases.items()}
        return _Model(name, aliases, int(model.last_updated_timestamp or 0))

    def _all_pages(self, search: Callable[..., Any], *arguments: Any, **options: Any) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._ask(search, *arguments, max_results=PAGE, page_token=token, **options)
            found += page
            token = page.token
            if not token:
                return found

    def _ask(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return ask(self.uri, self._deadline_s, function, *args, **kwargs)
