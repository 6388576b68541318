"""A policy's registry as read at one moment: its journal, its versions, and which version holds what."""

from __future__ import annotations

from dataclasses import dataclass, replace

from carla_mlflow.errors import NotFoundError
from registry.rules.chain import chain
from registry.rules.journal import Entry
from registry.rules.lifecycle import CANARY, PRODUCTION
from registry.rules.listing import Listed
from registry.rules.policy_version import PolicyVersion
from registry.rules.replay import Holders, holders
from registry.rules.ui_moves import seen_moves, seen_share
from registry.store.store import Store


@dataclass(frozen=True)
class RegistryState:
    """A policy's registry as read at one moment.

    Attributes:
        name: the policy's name.
        entries: the journal's chain.
        holders: which version holds what; after `sync`, the journal and MLflow agree.
        versions: oldest first.
        found: what MLflow listed; None when the policy is not registered yet, and from `read_state`.
        undescribed: versions that `sync` saw moved, and left to its caller to describe.
    """

    name: str
    entries: list[Entry]
    holders: Holders
    versions: list[PolicyVersion]
    found: Listed | None = None
    undescribed: tuple[str, ...] = ()

    def is_current(self, store: Store) -> bool:
        """Whether nothing has been moved since it was read."""
        after = self.entries[-1].number if self.entries else 0
        return (
            self.found is not None and not store.journal(self.name, after) and store.is_unchanged(self.name, self.found)
        )

    def holder(self, alias: str) -> str | None:
        return self.holders.aliases.get(alias)

    @property
    def champion(self) -> PolicyVersion | None:
        """The last version in production that is still there, so that removing the alias lowers no bar."""
        holders = [*self.holders.before.get(PRODUCTION, ()), self.holder(PRODUCTION)]
        known = {version.semver: version for version in self.versions}
        driven = [known[semver] for semver in holders if semver in known]
        return driven[-1] if driven else None

    def stage(self, semver: str) -> str:
        """A version's stage in the journal, whatever its tags say."""
        return self.holders.stage(semver)

    def version(self, semver: str) -> PolicyVersion:
        """The version with that semantic version; raises NotFoundError when it was deleted."""
        for version in self.versions:
            if version.semver == semver:
                return version
        raise NotFoundError(f"{self.name}: {semver} is no longer there")


def read_state(store: Store, name: str) -> RegistryState:
    """Reads a policy's registry and writes nothing; where the journal differs, MLflow's aliases are taken.

    Raises:
        NotFoundError: there is no such policy.
    """
    entries = chain(store.journal(name))
    journal, found = holders(entries), store.listed(name)
    if seen_moves(journal, found.holders, found.versions, found.share):
        canary = found.holders.get(CANARY, "")
        share, is_known = seen_share(journal, canary, found.share), canary == journal.aliases.get(CANARY)
        journal = replace(journal, aliases=found.holders, share=share, is_vetted=is_known and journal.is_vetted)
    return RegistryState(name, entries, journal, found.versions)
