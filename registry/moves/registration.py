"""Registers an artifact under its card's version, or under the next one that its changes require.

A journal entry claims the semantic version before anything is logged to MLflow, so of two processes at the same moment
the later finds the claim, and leaves nothing behind. A claim left by a process that died is used by the next
registration of the same artifact.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path

import mlflow

from carla_mlflow.artifact.artifact import Artifact, open_artifact
from carla_mlflow.cli import progress, warn
from carla_mlflow.contract.card import Card, identity_of
from carla_mlflow.contract.control import unstated_scales
from carla_mlflow.errors import NotFoundError, RefusedError
from carla_mlflow.flavor.model import fetch_policy, log_policy
from carla_mlflow.flavor.runs import STEP_TAG, expand_latest, logging_run
from carla_mlflow.preprocessing.trust_types import operators_types
from registry.checks.verify import verify_apart
from registry.moves.append import append, whoami
from registry.moves.compare_runs import show_comparison
from registry.moves.describe import describe
from registry.moves.state import RegistryState
from registry.moves.sync import sync
from registry.moves.version_choice import claims, with_version
from registry.rules.chain import chain
from registry.rules.journal import Move
from registry.rules.lifecycle import CANDIDATE
from registry.rules.policy_version import PolicyVersion
from registry.rules.reference import Reference, check_name, parse_reference
from registry.rules.replay import Holders
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
        bump: `major`, `minor`, `patch`, or `auto` for the smallest step that the changes require; the card is then
            rewritten with that version. None takes the card's.

    Returns:
        The version, and whether it is new: registering the same artifact again returns its version.

    Raises:
        RefusedError: another artifact has that version, or the step to it is smaller than the changes require.
        ArtifactError: it is damaged, its card names other weights than its graph has, or it does not act here as the
            trained policy did.
    """
    source, registered = expand_latest(source), _registered_version(store, source)
    if registered is not None:
        source = f"models:/{registered.name}/{registered.value}"
    uri = source if source.startswith(("runs:/", "models:/")) else None
    artifact, name = _verified(source, uri, name or (registered.name if registered else None))
    number = registered.value if registered is not None and registered.name == name else None
    for _ in range(ATTEMPTS):
        state = _current_state(store, name)
        known = _registered_as(state, artifact, bump)
        if known:
            _adopt_copy(store, known, artifact, number)
            return known, False
        versioned = with_version(store, state, artifact, cache, bump)
        if _claim(store, state, versioned.card):
            if versioned is not artifact:  # with another version in its card it is another artifact
                uri = number = None
            return _enter(store, state, cache, versioned, uri, number)
    raise RefusedError(f"{name}: other processes register faster than a version can be claimed; try again")


def _verified(source: str, uri: str | None, name: str | None) -> tuple[Artifact, str]:
    """Opens the artifact in a folder, or at MLflow's URI, and verifies it; returns it and the policy's name."""
    progress(f"opening {source}")
    with tempfile.TemporaryDirectory() as scratch:
        artifact = open_artifact(Path(source) if uri is None else fetch_policy(uri, Path(scratch) / "policy"))
        name = check_name(name or artifact.card.name)
        for passed in verify_apart(artifact.path, artifact.digest, trusted=operators_types()):
            progress(passed)  # a failed check raises
    for text in unstated_scales(artifact.card.action):
        warn(text)
    return artifact, name


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


def _adopt_copy(store: Store, known: PolicyVersion, artifact: Artifact, number: str | None) -> None:
    """Tags MLflow's version of that number, if it is the same artifact as a known version under another number."""
    if number is not None and number != known.number and known.digest == artifact.digest:
        store.adopt(known.name, number, _tags(artifact))


def _claim(store: Store, state: RegistryState, card: Card) -> bool:
    """Enters the version into the journal; returns whether the claim succeeded."""
    identity = identity_of(card)
    if claims(state).get(card.version) == identity:
        return True  # an unfinished registration of this artifact
    move = Move("register", card.version, CANDIDATE, None, whoami(), time.time(), identity=identity)
    return append(store, state.name, state.entries, move) is not None


def _enter(
    store: Store, state: RegistryState, cache: Path, artifact: Artifact, uri: str | None, number: str | None
) -> tuple[PolicyVersion, bool]:
    """Creates the version as `_create` does, and then what people look at in MLflow."""
    version, is_new = _create(store, state.name, artifact, uri, number)
    if is_new:
        describe(store, state.name, [version.semver], state.entries, card=artifact.card)
        show_comparison(store, state, version, cache, artifact)
    return version, is_new


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
        uri = log_policy(artifact)
        identity = {"policy": artifact.card.name, "semver": artifact.card.version, "digest": artifact.digest}
        mlflow.set_tags({STEP_TAG: "register", **identity})
        return uri
