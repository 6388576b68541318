"""The only caller of MlflowClient: each call has a deadline, and MLflow's exceptions become ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from carla_mlflow.errors import NotFoundError, RegistryError
from carla_mlflow.flavor.database import make_database
from registry.rules.canary import CANARY_SHARE, parse_share
from registry.rules.reference import JOURNAL
from registry.rules.versions import is_exact
from registry.store.calls import call_with_deadline, one_at_a_time, registry_uri

P = ParamSpec("P")
R = TypeVar("R")

PAGE = 1000


@dataclass(frozen=True)
class Model:
    """A registered model without its versions, which costs the same to read however many there are.

    Attributes:
        aliases: alias → MLflow's number.
        share: the canary's, in percent; None where none is set, or what is set is no share.
        updated: when a version was created, deleted or moved to another legacy stage, milliseconds since 1970.
    """

    name: str
    aliases: dict[str, str]
    updated: int
    share: float | None = None


def _of_this_folder() -> str:
    """Where the registry lies when nobody has said so: whoever is in another folder than before finds an empty one."""
    if any(os.environ.get(name) for name in ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI")):
        return ""
    return "; MLFLOW_TRACKING_URI is not set, so this is the registry of the folder that you are in"


class RegistryClient:
    """The calls of MLflow that the store and the journal share. Every method may raise UnreachableError.

    Args:
        deadline_s: for one call of the registry.
    """

    def __init__(self, deadline_s: float = 30.0) -> None:
        self.uri = registry_uri()
        self._deadline_s = deadline_s
        with one_at_a_time(self.uri):
            self._call(make_database, self.uri)
            self._client: MlflowClient = self._call(MlflowClient)

    def names(self) -> list[str]:
        """The names of all registered policies."""
        models = self._all_pages(self._client.search_registered_models)
        return [model.name for model in models if not model.name.endswith(JOURNAL)]

    def _set_tag(self, name: str, number: str, key: str, value: str) -> None:
        self._insist(self._client.set_model_version_tag, name, number, key, value)

    def _insist(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> None:
        """Writes a tag or an alias; tries twice, as MLflow fails when two processes write the same one at once."""
        try:
            self._call(function, *args, **kwargs)
        except RegistryError:
            self._call(function, *args, **kwargs)

    def _raw_versions(self, name: str, semver: str | None = None, after: int = 0) -> list[ModelVersion]:
        """MLflow's versions in the order of their numbers: all, those with one semantic version, or above a number."""
        if semver is not None and not is_exact(semver):
            return []
        quoted = f'"{name}"' if "'" in name else f"'{name}'"
        query = f"name = {quoted}" + (f" AND tags.semver = '{semver}'" if semver is not None else "")
        query += f" AND version_number > {after}" if after else ""
        # Ordered by what never changes: a version written while the pages are read would otherwise move between them.
        versions = self._all_pages(self._client.search_model_versions, query, order_by=["version_number ASC"])
        return sorted(versions, key=lambda version: int(version.version))  # int from SQLite, text over HTTP

    def _model(self, name: str) -> Model:
        try:
            model = self._call(self._client.get_registered_model, name)
        except NotFoundError as error:
            known = ", ".join(self.names()) or f"none{_of_this_folder()}"
            raise NotFoundError(f"{self.uri}: no policy named {name}; registered: {known}") from error
        # search_model_versions leaves a version's aliases empty
        aliases = {alias: str(number) for alias, number in model.aliases.items()}
        share = parse_share(model.tags.get(CANARY_SHARE))
        return Model(name, aliases, int(model.last_updated_timestamp or 0), share)

    def _all_pages(self, search: Callable[..., Any], *arguments: Any, **options: Any) -> list[Any]:
        items: list[Any] = []
        token = None
        while True:
            page = self._call(search, *arguments, max_results=PAGE, page_token=token, **options)
            items += page
            token = page.token
            if not token:
                return items

    def _call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return call_with_deadline(self.uri, self._deadline_s, function, *args, **kwargs)
