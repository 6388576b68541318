"""MLflow's Model Registry as versions of policies: creates, moves, tags and fetches them."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import mlflow

from carla_mlflow.flavor.model import fetch_policy
from registry.rules.canary import CANARY_SHARE, share_text
from registry.rules.chain import chain
from registry.rules.going_back import goes_back
from registry.rules.lifecycle import ALIASED, ARCHIVED, LEGACY, stage_of
from registry.rules.listing import listed
from registry.rules.policy_version import PolicyVersion, policy_version
from registry.rules.reference import Reference
from registry.store.version_reader import VersionReader


class Store(VersionReader):
    """Reads and moves versions. Every method may raise UnreachableError.

    Args:
        deadline_s: for one call of the registry.
    """

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
        self._insist(self._client.set_registered_model_alias, version.name, alias, version.number)

    def delete_alias(self, name: str, alias: str) -> None:
        """Removes the alias from the version that holds it."""
        self._insist(self._client.delete_registered_model_alias, name, alias)

    def set_share(self, name: str, share: float) -> None:
        """Sets the canary's share, in percent."""
        self._insist(self._client.set_registered_model_tag, name, CANARY_SHARE, share_text(share))

    def delete_share(self, name: str) -> None:
        """Removes the canary's share, if there is one."""
        self._insist(self._client.delete_registered_model_tag, name, CANARY_SHARE)

    def tag(self, version: PolicyVersion, key: str, value: str) -> None:
        """Writes a tag that people see on the version's page."""
        self._set_tag(version.name, version.number, key, value)

    def description(self, version: PolicyVersion) -> str:
        """The text on the version's page; empty for none."""
        return self._call(self._client.get_model_version, version.name, version.number).description or ""

    def set_description(self, version: PolicyVersion, text: str) -> None:
        """Writes the text on the version's page."""
        self._call(self._client.update_model_version, version.name, version.number, description=text)

    def model_tags(self, name: str) -> dict[str, str]:
        """The tags of the policy itself."""
        return dict(self._call(self._client.get_registered_model, name).tags)

    def set_model_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """Writes tags of the policy itself; an empty value removes one."""
        for key, value in tags.items():
            if value:
                self._insist(self._client.set_registered_model_tag, name, key, value)
            else:
                self._insist(self._client.delete_registered_model_tag, name, key)

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

    def fetch(self, version: PolicyVersion, folder: Path) -> Path:
        """Downloads a version's policy artifact into a new folder, unverified and without a deadline."""
        return fetch_policy(version.uri, folder)

    def goes_back(self, reference: Reference, semver: str) -> bool:
        """Whether a staging or production means this version again, by the journal; False for other references."""
        stage = reference.value.lower()
        if reference.kind not in {"alias", "stage"} or stage not in ALIASED:
            return False
        return goes_back(chain(self.journal(reference.name)), stage, semver)

    def is_live(self, name: str, semver: str, digest: str) -> bool:
        """Whether the registry has this version with this digest, not archived."""
        version = self.find(name, semver)
        return version is not None and version.digest == digest and version.stage != ARCHIVED
