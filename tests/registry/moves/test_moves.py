"""Register, promote, resolve, over MLflow's real registry."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import msgspec
import pytest
from registry_policies import NAME, registered

from carla_mlflow import open_artifact, write_artifact
from carla_mlflow.artifact.artifact import seal
from carla_mlflow.contract.card import identity_of
from carla_mlflow.errors import IntegrityError, NotFoundError, RefusedError
from registry.moves.judge import promotion_gates
from registry.moves.promotion import promote as promote_policy
from registry.moves.registration import register as register_policy
from registry.moves.terms import MoveOptions, MoveResult
from registry.rules.policy_version import PolicyVersion
from registry.rules.reference import Reference, parse_reference
from registry.store.cache import cached_path, default_cache, fetch_to_cache
from registry.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture
def store(mlflow_home: Path) -> Store:
    return Store()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def register(store: Store, source: str, bump: str | None = None) -> tuple[PolicyVersion, bool]:
    return register_policy(store, source, default_cache(), bump=bump)


def promote(store: Store, reference: Reference, to: str, cache: Path, expect: str | None = None) -> MoveResult:
    return promote_policy(store, reference, to, cache, MoveOptions(expect), promotion_gates("staging"))


def test_a_registered_version_carries_semver_digest_and_contract(store: Store, example: Path):
    version, new = register(store, str(example))
    card = open_artifact(example).card
    assert new
    assert (version.name, version.semver, version.stage) == (NAME, "0.1.0", "candidate")
    tags = mlflow.MlflowClient().get_model_version(NAME, "1").tags
    assert tags == {
        "semver": "0.1.0",
        "digest": open_artifact(example).digest,
        "content": card.content,
        "contract": card.contract,
        "weights": card.weights,
        "identity": identity_of(card),
        "stage": "candidate",
    }


def test_the_same_artifact_twice_is_the_same_version(store: Store, example: Path):
    first, _ = register(store, str(example))
    again, new = register(store, str(example))
    assert not new
    assert again.number == first.number


def test_a_version_is_taken_once(store: Store, example: Path, tmp_path: Path):
    register(store, str(example))
    artifact = open_artifact(example)
    card = msgspec.structs.replace(artifact.card, description="another artifact of the same version")
    files = {name: data for name, data in artifact.files.items() if name in card.files}
    other = write_artifact(tmp_path / "other", seal(card, files)).path
    with pytest.raises(RefusedError, match=r"0\.1\.0 is taken by another artifact"):
        register(store, str(other))
    assert len(store.versions(NAME)) == 1


def test_a_damaged_artifact_is_not_registered(store: Store, example: Path, tmp_path: Path):
    damaged = Path(shutil.copytree(example, tmp_path / "damaged"))
    (damaged / "model.onnx").write_bytes((damaged / "model.onnx").read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        register(store, str(damaged))
    assert store.names() == []


def test_promotion_moves_the_alias_and_both_mirrors(store: Store, tmp_path: Path, cache: Path):
    registered(store, tmp_path, "0.1.0", "0.2.0")
    client = mlflow.MlflowClient()

    def stages() -> dict[str, tuple[str, str, tuple[str, ...]]]:
        found = {}
        for v in store.versions(NAME):
            raw = client.get_model_version(NAME, v.number)
            found[v.semver] = (raw.tags["stage"], raw.current_stage, v.aliases)
        return found

    promote(store, parse_reference(f"{NAME}@0.1.0"), "production", cache)
    assert stages() == {
        "0.1.0": ("production", "Production", ("production",)),
        "0.2.0": ("candidate", "None", ()),
    }
    promote(store, parse_reference(f"{NAME}@0.2.0"), "staging", cache)
    promotion = promote(store, parse_reference(f"{NAME}@staging"), "production", cache, expect="0.1.0")
    promoted = promotion.version
    assert promotion.displaced == "0.1.0"
    assert promoted.semver == "0.2.0"
    assert promoted.stage == "production"
    assert stages()["0.1.0"] == ("candidate", "None", ())
    assert stages()["0.2.0"][0:2] == ("production", "Production")
    with pytest.raises(RefusedError, match=r"held by 0\.2\.0, not by 0\.1\.0"):
        promote(store, parse_reference(f"{NAME}@0.1.0"), "production", cache, expect="0.1.0")


def test_every_kind_of_reference_resolves(store: Store, tmp_path: Path):
    registered(store, tmp_path, "0.1.0", "0.2.0", "1.0.0", production="0.2.0")
    for reference, semver in (
        ("@production", "0.2.0"),
        ("@0.1.0", "0.1.0"),
        ("@^0.1", "0.1.0"),
        ("@0.x", "0.2.0"),
        ("@>=0.1", "1.0.0"),
        ("/Production", "0.2.0"),
        ("/1", "0.1.0"),
    ):
        assert store.resolve(parse_reference(NAME + reference)).semver == semver, reference
    for reference in ("@staging", "@3.0.0", "@^3", "/Staging", "/9"):
        with pytest.raises(NotFoundError, match=r"1\.0\.0|no version"):
            store.resolve(parse_reference(NAME + reference))


def test_what_the_registry_holds_is_fetched_once_and_held_against_its_pin(store, example, cache, mlflow_home):
    version, _ = register(store, str(example))
    artifact = fetch_to_cache(store, version, cache)
    assert artifact.path == cached_path(cache, version.digest)
    # Someone swaps the file in MLflow's artifact store: the cached copy still serves, an empty cache refuses.
    [stored] = mlflow_home.rglob("artifacts/policy/model_card.yaml")
    stored.write_text(stored.read_text().replace("description: ", "description: forged "))
    assert fetch_to_cache(store, version, cache).digest == version.digest
    shutil.rmtree(cache)
    with pytest.raises(IntegrityError, match=r"model_card\.yaml: its digest is"):
        fetch_to_cache(store, version, cache)
    assert not cached_path(cache, version.digest).exists()


def test_a_damaged_cache_entry_is_fetched_again(store: Store, example: Path, cache: Path):
    version, _ = register(store, str(example))
    path = fetch_to_cache(store, version, cache).path
    (path / "model.onnx").write_bytes(b"nonsense")
    assert fetch_to_cache(store, version, cache).digest == version.digest


def test_a_promotion_brings_both_mirrors_back_in_line_with_aliases_moved_in_the_ui(store, tmp_path, cache):
    registered(store, tmp_path, "0.1.0", "0.2.0", production="0.2.0")
    mlflow.MlflowClient().set_registered_model_alias(NAME, "production", "1")  # as the UI does
    promote(store, parse_reference(f"{NAME}@0.1.0"), "production", cache)
    assert store.resolve(parse_reference(f"{NAME}/Production")).semver == "0.1.0"
    promote(store, parse_reference(f"{NAME}@0.1.0"), "staging", cache)
    assert store.resolve(parse_reference(f"{NAME}/Production")).semver == "0.1.0"
    assert store.resolve(parse_reference(f"{NAME}@production")).stage == "production"


def test_expect_sees_a_version_that_has_no_semantic_version(store: Store, example: Path, cache: Path):
    register(store, str(example))
    client = mlflow.MlflowClient()
    client.create_model_version(NAME, client.get_model_version(NAME, "1").source)
    client.set_registered_model_alias(NAME, "production", "2")
    with pytest.raises(RefusedError, match="held by MLflow version 2, not by none"):
        promote(store, parse_reference(f"{NAME}@0.1.0"), "production", cache, expect="none")
