"""compose.yaml's services, started by hand as it says: PostgreSQL, MLflow with passwords, ours, Prometheus.

Once as processes; once MLflow and ours in the containers that compose would build.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpcore
import msgspec
import pytest
import yaml
from patience import PATIENCE_S
from podman_images import CONFINED, IMAGE, LIMITS, RUNTIME, build, make_base, need_podman
from real_postgres import Postgres
from tests_support import EXAMPLE, ROOT, missing, registry_here

from benchmarks.support.free_port import free_port

pytestmark = [pytest.mark.slow, pytest.mark.postgres]
SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
BIN = Path(sys.executable).parent
REGISTRY = "localhost/carla-mlflow-registry"
Run = Callable[[str, dict[str, str], Path], list[str]]
ROW = {"speed": 6.0, "steering": 0.1, "sensors": [0.5] * 12}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """As deploy/compose/secrets draws them."""
    script = shutil.copy(ROOT / "deploy" / "compose" / "secrets", tmp_path)
    done = subprocess.run([script], capture_output=True, text=True, check=True)
    first = {path.name: path.read_text() for path in Path(done.stdout.strip()).iterdir()}
    subprocess.run([script], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in Path(done.stdout.strip()).iterdir()} == first
    return Path(done.stdout.strip())


@contextlib.contextmanager
def started(command: list[str], environment: dict[str, str], folder: Path, ready: Callable[[], Any]) -> Iterator[None]:
    """A process, from the moment on that it is ready."""
    folder.mkdir(exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "POLICY_"))}
    given = inherited | environment | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            command, env=given, cwd=folder, stdout=log, stderr=log, start_new_session=True, stdin=subprocess.DEVNULL
        )
    try:
        ends = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(httpcore.NetworkError, httpcore.ProtocolError):
                if ready():
                    break
            assert process.poll() is None, (folder / "log").read_text()[-3000:]
            assert time.monotonic() < ends, (folder / "log").read_text()[-3000:]
            time.sleep(0.1)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE_S)


def get(url: str) -> httpcore.Response:
    return httpcore.request("GET", url)


def environment_of(service: str, secrets: Path, **places: str) -> dict[str, str]:
    """What compose.yaml gives it, with this machine's places."""
    found = {name: str(value) for name, value in SERVICES[service]["environment"].items()} | places
    return {name: value.replace("/run/secrets", str(secrets)) for name, value in found.items()}


def as_process(service: str, environment: dict[str, str], secrets: Path) -> list[str]:
    """The command of a service; it finds its environment in its own."""
    return {"mlflow": [str(ROOT / "deploy" / "mlflow" / "start")], "policy": [str(BIN / "carla-serve")]}[service]


def in_container(service: str, environment: dict[str, str], secrets: Path) -> list[str]:
    """The command that runs the image of a service, secrets mounted one by one as compose does it."""
    given = SERVICES[service]
    image = IMAGE if service == "policy" else REGISTRY
    command = ["podman", "--runtime", RUNTIME, "run", "--rm", "--network", "host", *LIMITS]
    limits = given["deploy"]["resources"]["limits"]
    command += ["--memory", limits["memory"], "--cpus", limits["cpus"]]
    command += CONFINED[: CONFINED.index("--memory")] if given.get("read_only") else []
    for name in given["secrets"]:
        command += ["-v", f"{secrets / name}:/run/secrets/{name}:ro"]
    if "DATABASE_HOST" in environment:
        command += ["-v", "{0}:{0}".format(environment["DATABASE_HOST"])]
    own = {"SECRETS", "ARTIFACTS", "POLICY_CACHE_DIR"}  # are in the image
    for name, value in environment.items():
        command += [] if name in own else ["-e", f"{name}={value.replace(str(secrets), '/run/secrets')}"]
    return [*command, image]


@pytest.fixture
def images() -> None:
    """Those that compose builds."""
    need_podman()
    make_base()
    build(IMAGE)
    build(REGISTRY, "-f", str(ROOT / "deploy" / "mlflow" / "Dockerfile"))


def test_the_whole_path_works_over_the_services(postgres: Postgres, secrets: Path, tmp_path: Path):
    walk_the_path(as_process, postgres, secrets, tmp_path)


@pytest.mark.container
@pytest.mark.xdist_group("container")
@pytest.mark.usefixtures("images")
def test_the_whole_path_works_over_the_containers(postgres: Postgres, secrets: Path, tmp_path: Path):
    postgres.folder.chmod(0o755)  # a container's user comes to the socket
    walk_the_path(in_container, postgres, secrets, tmp_path)


def walk_the_path(run: Run, postgres: Postgres, secrets: Path, tmp_path: Path) -> None:
    """From an empty database to a counted decision."""
    password = (secrets / "database-password").read_text()
    with contextlib.closing(postgres.connect()) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("DROP DATABASE IF EXISTS mlflow")
            cursor.execute("DROP ROLE IF EXISTS mlflow")
            cursor.execute(f"CREATE ROLE mlflow LOGIN SUPERUSER PASSWORD '{password}'")
            cursor.execute("CREATE DATABASE mlflow OWNER mlflow")
    ports = {name: str(free_port()) for name in ("mlflow", "policy", "prometheus")}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    places = {"DATABASE_HOST": str(postgres.folder), "SECRETS": str(secrets), "ARTIFACTS": str(tmp_path / "artifacts")}
    places |= {"HOST": "127.0.0.1", "PORT": ports["mlflow"], "ALLOWED_HOSTS": f"127.0.0.1:{ports['mlflow']}"}
    of_mlflow = environment_of("mlflow", secrets, **places)
    registry = started(
        run("mlflow", of_mlflow, secrets),
        of_mlflow,
        tmp_path / "mlflow",
        lambda: get(urls["mlflow"] + "/health").status == 200,
    )
    follows = {"MLFLOW_TRACKING_URI": urls["mlflow"], "POLICY_MODEL": "mine@production", "POLICY_PORT": ports["policy"]}
    follows |= {"POLICY_CACHE_DIR": str(tmp_path / "cache"), "POLICY_POLL_S": "0.5"}
    of_policy = environment_of("policy", secrets, **follows)
    policy = started(
        run("policy", of_policy, secrets),
        of_policy,
        tmp_path / "policy",
        lambda: get(urls["policy"] + "/healthz").status == 200,
    )
    with registry:
        assert get(urls["mlflow"] + "/api/2.0/mlflow/registered-models/search").status == 401
        admin = {"MLFLOW_TRACKING_URI": urls["mlflow"], "MLFLOW_TRACKING_USERNAME": "admin"}
        admin["MLFLOW_TRACKING_PASSWORD_FILE"] = str(secrets / "admin-password")
        admin["XDG_CACHE_HOME"] = str(tmp_path / "mine")
        for command in (
            ["register", str(EXAMPLE), "--name", "mine"],
            ["promote", "mine@0.1.0", "--to", "production", "--force", "--reason", "a test"],
        ):
            done = registry_here(*command, env=admin)
            assert done.code == 0, done.err
        with policy:
            ends = time.monotonic() + PATIENCE_S
            while get(urls["policy"] + "/readyz").status != 200:
                assert time.monotonic() < ends, (tmp_path / "policy" / "log").read_text()[-3000:]
                time.sleep(0.1)
            body = msgspec.json.encode({"observations": [ROW]})
            headers = {"Host": "localhost", "Content-Type": "application/json"}
            answer = httpcore.request("POST", urls["policy"] + "/predict", headers=headers, content=body)
            assert answer.status == 200
            scraped(ports, urls, tmp_path)


def scraped(ports: dict[str, str], urls: dict[str, str], folder: Path) -> None:
    """Prometheus with compose's configuration finds the server and its requests."""
    program = shutil.which("prometheus") or missing("Prometheus", "prometheus")
    home = folder / "prometheus"
    shutil.copytree(ROOT / "deploy" / "prometheus", home)
    text = (home / "compose.yml").read_text().replace("policy:8080", f"127.0.0.1:{ports['policy']}")
    (home / "compose.yml").write_text(text.replace(": 5s", ": 1s"))
    command = [program, f"--config.file={home}/compose.yml", f"--storage.tsdb.path={home}/data"]
    command += [f"--web.listen-address=127.0.0.1:{ports['prometheus']}"]
    query = urllib.parse.urlencode({"query": 'policy_requests_total{route="/predict",code="200"}'})

    def counted() -> bool:
        answer = get(f"{urls['prometheus']}/api/v1/query?{query}")
        return answer.status == 200 and bool(msgspec.json.decode(answer.content)["data"]["result"])

    with started(command, {}, home, counted):
        pass
