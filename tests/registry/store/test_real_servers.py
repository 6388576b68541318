"""The registry over MLflow's own server: on SQLite, on PostgreSQL, and behind a password."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from registry_policies import cache_folder, changed, enter
from tests_support import registry_here

from benchmarks.support.mlflow_server import MlflowServer
from carla_mlflow import open_artifact
from carla_mlflow.errors import IntegrityError, NotFoundError
from registry.moves.promotion import promote
from registry.moves.terms import GateResult, MoveOptions
from registry.rules.reference import parse_reference
from registry.store.cache import cached_path, fetch_to_cache
from registry.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow's own warnings
KINDS = [
    pytest.param(kind, marks=[pytest.mark.xdist_group(kind), *more])
    for kind, more in (("sqlite", []), ("postgres", [pytest.mark.postgres]), ("basic-auth", []))
]


@pytest.fixture(scope="module", params=KINDS)
def mlflow_server(request: pytest.FixtureRequest, start_mlflow: Callable[..., MlflowServer]) -> Iterator[MlflowServer]:
    server = start_mlflow(request.param)
    yield server
    server.kill()


@pytest.fixture
def name() -> str:
    """Of a policy that no other test has registered."""
    return f"policy-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def registry(mlflow_server: MlflowServer, mlflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    """The server, as the registry of this process and of the commands that it starts."""
    for variable, value in mlflow_server.client.items():
        monkeypatch.setenv(variable, value)
    return mlflow_server


def carla_registry(*arguments: str) -> dict:
    done = registry_here(*arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_the_commands_take_a_policy_from_a_folder_to_production(registry: MlflowServer, name: str, example: Path):
    registered = carla_registry("register", str(example), "--name", name)
    assert (registered["semver"], registered["new"]) == ("0.1.0", True)
    assert registered["digest"] == open_artifact(example).digest
    assert carla_registry("register", str(example), "--name", name)["new"] is False
    moved = carla_registry(
        "promote", f"{name}@0.1.0", "--to", "production", "--expect", "none", "--force", "--reason", "a test"
    )
    assert moved["version"]["stage"] == "production"
    [listed] = carla_registry("list", name)["versions"]
    assert (listed["semver"], listed["aliases"]) == ("0.1.0", ["production"])
    assert carla_registry("resolve", f"models:/{name}@production")["digest"] == registered["digest"]
    assert carla_registry("verify", f"{name}@production")["verified"] is True


def test_every_kind_of_reference_means_the_same_over_http(registry: MlflowServer, name: str, tmp_path: Path):
    store = Store()
    first, _ = enter(store, changed(tmp_path, "0.1.0"), name)
    tags = MlflowClient().get_model_version(name, first.number).tags
    for version in ("0.1.3", "0.2.0", "1.0.0-rc.1"):  # the same files: what is resolved has nothing to do with them
        store.create_version(name, f"runs:/{first.run_id}/policy", {**tags, "semver": version})
    for version, stage in (("0.1.3", "production"), ("0.2.0", "staging")):
        promote(
            store, parse_reference(f"{name}@{version}"), stage, cache_folder(), MoveOptions(), lambda *_: GateResult()
        )
    wanted = {
        "@production": "0.1.3",
        "@staging": "0.2.0",
        "@0.1.0": "0.1.0",
        "@1.0.0-rc.1": "1.0.0-rc.1",
        "@^0.1": "0.1.3",
        "@~0.1.1": "0.1.3",
        "@0.x": "0.2.0",
        "@>=0.1,<2": "0.2.0",
        "/Production": "0.1.3",
        "/staging": "0.2.0",
        "/1": "0.1.0",
    }
    found = {text: store.resolve(parse_reference(f"models:/{name}{text}")).semver for text in wanted}
    assert found == wanted
    for nobody in ("@archived", "@2.0.0", "@^2", "/9"):
        with pytest.raises(NotFoundError):
            store.resolve(parse_reference(name + nobody))


def test_a_server_that_follows_an_alias_asks_the_registry_twice_a_poll(
    registry: MlflowServer, name: str, tmp_path: Path
):
    store, followed = Store(), parse_reference(f"{name}@production")
    version, _ = enter(store, changed(tmp_path, "0.1.0"), name)
    store.set_alias(version, "production")
    log = registry.home / "mlflow-server.log"
    assert store.resolve(followed).aliases == ("production",)
    before = log.read_text().count(f"name={name}")
    assert store.resolve(followed).aliases == ("production",)
    text = log.read_text()
    assert text.count(f"name={name}") - before == 1, text[-2000:]  # by its alias
    assert text.rstrip().rpartition("\n")[2].count("model-versions/search") == 1  # who else has its semantic version


def test_a_fetched_policy_is_held_against_the_digest_that_the_registry_pins(
    registry: MlflowServer, name: str, example: Path, tmp_path: Path
):
    store = Store()
    version, _ = enter(store, str(example), name)
    cache = tmp_path / "cache"
    assert fetch_to_cache(store, version, cache).digest == open_artifact(example).digest
    logged = MlflowClient().get_model_version(name, version.number).source.removeprefix("models:/")
    [kept] = registry.home.glob(f"artifacts/*/models/{logged}/**/golden.npz")
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError, match=r"golden\.npz"):
        fetch_to_cache(store, version, tmp_path / "another-machine")
    assert not cached_path(tmp_path / "another-machine", version.digest).exists()


def test_the_server_keeps_the_artifacts_and_hands_them_out_itself(registry: MlflowServer, name: str, example: Path):
    version, _ = enter(Store(), str(example), name)
    assert MlflowClient().get_run(version.run_id).info.artifact_uri.startswith("mlflow-artifacts:")
    assert not list(Path.cwd().glob("mlruns*"))
