"""Registers an artifact under its card's version, or under the next one that its changes demand.

A journal entry claims the semantic version before anything is logged to MLflow, so of two processes at the same moment
the later finds the claim, and leaves nothing behind. A claim left by a process that died is used by the next
registration of the same artifact.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from carla_mlflow.artifact.artifact import Artifact, open_artifact, seal
from carla_mlflow.cli import progress, warn
from carla_mlflow.contract.card import Card, identity_of
from carla_mlflow.contract.control import unstated_scales
from carla_mlflow.errors import NotFoundError, RefusedError
from carla_mlflow.flavor.model import fetch_policy, log_policy
from carla_mlflow.flavor.runs import expand_latest, logging_run
from carla_mlflow.preprocessing.skops_file import operators_types
from registry.checks.comparison import step_due
from registry.checks.verify import verify_apart
from registry.moves.sync import RegistryState, append, sync, whoami
from registry.rules.changes import STEPS, Step
from registry.rules.journal import Move, chain
from registry.rules.lifecycle import CANDIDATE
from registry.rules.policy_version import PolicyVersion
from registry.rules.reference import Reference, check_name, parse_reference
from registry.rules.replay import Holders
from registry.rules.versions import is_step_enough, next_version, ordered, steps_of
from registry.store.cache import fetch_to_cache
from registry.store.store import Store

ATTEMPTS = 100
"""How many claims may fail; each fails because another process succeeded."""
NO_HOLDERS = Holders({}, frozenset(), {})


def register(
    store: Store, source: str, cache: Path, name: str | None = None, bump: str | None = None
) -> tuple[PolicyVersion, bool]:
    """Registers an artifact.

    Args:
        store: the registry.
        source: an artifact folder, which is logged to MLflow first; `runs:/<run_id>/policy`; or a version that MLflow
            has already, `models:/<name>/<number>`, which is tagged in place unless `name` or `bump` changes it.
        cache: the folder that neighbouring versions are fetched to, to compare with.
        name: the policy's name; None takes the registered model's, else the card's.
        bump: `major`, `minor`, `patch`, or `auto` for the smallest step that the changes demand; the card is then
            rewritten with that version. None takes the card's.

    Returns:
        The version, and whether it is new: registering the same artifact again returns its version.

    Raises:
        RefusedError: another artifact has that version, or the step to it is smaller than the changes demand.
        ArtifactError: it is damaged, its card names other weights than its graph has, or it does not act here as the
            trained policy did.
    """
    source, theirs = expand_latest(source), _registered_version(store, source)
    if theirs is not None:
        source = f"models:/{theirs.name}/{theirs.value}"
    is_uri = source.startswith(("runs:/", "models:/"))
    progress(f"opening {source}")
    with tempfile.TemporaryDirectory() as scratch:
        artifact = open_artifact(fetch_policy(source, Path(scratch) / "policy") if is_uri else Path(source))
        name = check_name(name or (theirs.name if theirs else artifact.card.name))
        for found in verify_apart(artifact.path, artifact.digest, trusted=operators_types()):
            progress(found)  # a failed check raises
    number = theirs.value if theirs is not None and theirs.name == name else None
    for text in unstated_scales(artifact.card.action):
        warn(text)
    for _ in range(ATTEMPTS):
        state = _current_state(store, name)
        known = _registered_as(state, artifact, bump)
        if known:
            if number is not None and number != known.number and known.digest == artifact.digest:
                store.adopt(name, number, _tags(artifact))  # the same artifact under another number
            return known, False
        versioned = _with_version(store, state, artifact, cache, bump)
        if _claim(store, state, versioned.card):
            if versioned is not artifact:  # with another version in its card it is another artifact
                return _create(store, name, versioned)
            return _create(store, name, artifact, source if is_uri else None, number)
    raise RefusedError(f"{name}: others register faster than a version can be claimed; try again")


def _registered_version(store: Store, source: str) -> Reference | None:
    """The registered version that a source names, by MLflow's number; None when it names no registered version."""
    if not source.startswith("models:/"):
        return None
    try:
        reference = parse_reference(source)
    except RefusedError:  # a logged model that is not registered
        return None
    return Reference(reference.name, "number", store.number_of(reference))


def _current_state(store: Store, name: str) -> RegistryState:
    try:
        return sync(store, name)
    except NotFoundError:
        return RegistryState(name, chain(store.journal(name)), NO_HOLDERS, [])


def _registered_as(state: RegistryState, artifact: Artifact, bump: str | None) -> PolicyVersion | None:
    """The version that this artifact is registered as, or None; with a bump, the version in its card is ignored."""
    identity = identity_of(artifact.card)
    for version in state.versions:
        if version.digest == artifact.digest or (bump and version.identity == identity):
            return version
    return None


def _claims(state: RegistryState) -> dict[str, str]:
    """Semantic version → the identity of the artifact that has it, or that claimed it and was not registered."""
    moves = (entry.link.move for entry in state.entries if entry.link)
    claimed = {move.version: move.identity for move in moves if move.kind == "register"}
    return claimed | {version.semver: version.identity or version.digest for version in state.versions}


def _with_version(store: Store, state: RegistryState, artifact: Artifact, cache: Path, bump: str | None) -> Artifact:
    """The artifact with the version that it is to have; raises RefusedError when it may not have it."""
    card, taken = artifact.card, _claims(state)
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
    taken = ordered(_claims(state))
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
            demanded, words = self.known.get(other) or self._compare(other, is_before=other == old)
            if not is_step_enough(old, new, demanded):
                where = f"from {old}" if other == old else f"before {new}"
                return f"too small a version step {where}: a {demanded} step is required, as {words}"
        return None

    def _compare(self, other: str, is_before: bool) -> tuple[Step, str]:
        registered = fetch_to_cache(self.store, self.state.version(other), self.cache)
        pair = (registered, self.artifact) if is_before else (self.artifact, registered)
        return self.known.setdefault(other, step_due(*pair))


def _claim(store: Store, state: RegistryState, card: Card) -> bool:
    """Enters the version into the journal; returns whether the claim succeeded."""
    identity = identity_of(card)
    if _claims(state).get(card.version) == identity:
        return True  # an unfinished registration of this artifact
    move = Move("register", card.version, CANDIDATE, None, whoami(), time.time(), identity=identity)
    return append(store, state.name, state.entries, move) is not None


def _create(
    store: Store, name: str, artifact: Artifact, uri: str | None = None, number: str | None = None
) -> tuple[PolicyVersion, bool]:
    """Creates the version from what is logged at `uri` (None logs it), or tags MLflow's version of that number."""
    progress("writing to MLflow")
    tags, is_made = _tags(artifact), number is None
    if number is None:
        number = store.create_version(name, uri or _log(artifact), tags).number
    else:
        store.adopt(name, number, tags)
    known = store.find(name, artifact.card.version)
    assert known is not None  # just written
    if known.number != number and is_made:  # another process registered the same artifact first
        store.delete_version(name, number)
    return known, known.number == number


def _tags(artifact: Artifact) -> dict[str, str]:
    card = artifact.card
    return {
        "semver": card.version,
        "digest": artifact.digest,
        "content": card.content,
        "contract": card.contract,
        "weights": card.weights,
        "identity": identity_of(card),
        "stage": CANDIDATE,
    }


def _log(artifact: Artifact) -> str:
    name = f"register {artifact.card.name} {artifact.card.version}"
    # MLflow prints links to stdout, where they would spoil --json.
    with contextlib.redirect_stdout(sys.stderr), logging_run(name=name):
        return log_policy(artifact)
