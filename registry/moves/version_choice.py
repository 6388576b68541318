"""Which version an artifact is registered under: its card's, or the next one that its changes require."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from carla_mlflow.artifact.artifact import Artifact, seal
from carla_mlflow.contract.card import identity_of
from carla_mlflow.errors import RefusedError
from registry.checks.comparison import step_due
from registry.moves.state import RegistryState
from registry.rules.versions import STEPS, Step, is_step_enough, next_version, ordered, steps_of
from registry.store.cache import fetch_to_cache
from registry.store.store import Store


def claims(state: RegistryState) -> dict[str, str]:
    """Semantic version → the identity of the artifact that has it, or that claimed it and was not registered."""
    moves = (entry.link.move for entry in state.entries if entry.link)
    claimed = {move.version: move.identity for move in moves if move.kind == "register"}
    return claimed | {version.semver: version.identity or version.digest for version in state.versions}


def with_version(store: Store, state: RegistryState, artifact: Artifact, cache: Path, bump: str | None) -> Artifact:
    """The artifact with the version that it is to have; raises RefusedError when it may not have it."""
    card, taken = artifact.card, claims(state)
    if bump is None:
        if taken.get(card.version, identity_of(card)) != identity_of(card):
            raise RefusedError(
                f"{state.name} {card.version} is taken by another artifact; export with another --version, or "
                "register with --bump auto"
            )
        _check_step(store, state, artifact, cache)
        return artifact
    unfinished = [version for version, identity in taken.items() if identity == identity_of(card)]
    version = unfinished[0] if unfinished else _bumped(store, state, artifact, cache, bump)
    if version == card.version:
        return artifact
    files = {name: artifact.files[name] for name in card.files}
    return replace(seal(msgspec.structs.replace(card, version=version), files), path=artifact.path)


def _bumped(store: Store, state: RegistryState, artifact: Artifact, cache: Path, bump: str) -> str:
    taken = ordered(claims(state))
    if not taken:
        return artifact.card.version
    required = _RequiredSteps(store, state, artifact, cache)
    for step in STEPS if bump == "auto" else (bump,):
        version = next_version(taken[-1], step)  # type: ignore[arg-type]
        short = required.shortfall(version)
        if short is None:
            return version
    raise RefusedError(f"--bump {bump} is {short}")


def _check_step(store: Store, state: RegistryState, artifact: Artifact, cache: Path) -> None:
    version = artifact.card.version
    short = _RequiredSteps(store, state, artifact, cache).shortfall(version)
    if short is not None:
        raise RefusedError(f"{version} is {short}; export with another --version, or register with --bump auto")


@dataclass(frozen=True)
class _RequiredSteps:
    """The version steps that are required between an artifact and the registered versions next to it."""

    store: Store
    state: RegistryState
    artifact: Artifact
    cache: Path
    known: dict[str, tuple[Step, str]] = field(default_factory=dict)

    def shortfall(self, version: str) -> str | None:
        """Why the artifact may not have a version, in words; None when it may."""
        for old, new in steps_of(version, [known.semver for known in self.state.versions]):
            if is_step_enough(old, new, "major"):
                continue
            other = old if new == version else new
            required_step, words = self.known.get(other) or self._compare(other, is_before=other == old)
            if not is_step_enough(old, new, required_step):
                where = f"from {old}" if other == old else f"before {new}"
                return f"too small a version step {where}: a {required_step} step is required, as {words}"
        return None

    def _compare(self, other: str, is_before: bool) -> tuple[Step, str]:
        registered = fetch_to_cache(self.store, self.state.version(other), self.cache)
        pair = (registered, self.artifact) if is_before else (self.artifact, registered)
        return self.known.setdefault(other, step_due(*pair))
