"""What the tests share: the example policy, a registry of their own, a real server."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import httpcore
import pytest
import skops.io  # noqa: F401  before all others: it looks for numpy's 860 functions in every module that is there
from real_postgres import Postgres, running_postgres
from tests_support import EXAMPLE, Server, leave_experiment, own_cache
from told_at_once import ToldAtOnce
from torch_exporter import list_functions_once

from benchmarks.support.free_port import free_port
from benchmarks.support.mlflow_server import MlflowServer
from carla_mlflow.client.attempt import TimedBackend
from carla_mlflow.collector import ALLOCATIONS

TESTS = Path(__file__).parent

if "PYTEST_XDIST_WORKER" in os.environ:
    gc.disable()  # until all modules and tests are there, which stay
atexit.register(gc.freeze)  # nor are they looked through at the end

# As in a server's worker: one thread. Two test processes with two threads each take turns on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Images of Python may forbid compiled files. Every process of the tests would then compile all of the project anew, and
# each of pytest's rewrite every assertion.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Tests have a cache folder of their own, and matplotlib would look for fonts anew in each.
os.environ.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))

# Shells start what runs in the background deaf to Ctrl-C, and processes inherit that: those of the tests shall hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)


# pyproject.toml asks for CARLA's client where there is a build of it.
HAS_CARLA = sys.version_info < (3, 13)
collect_ignore = [] if HAS_CARLA else ["carla_agent", "toy_carla"]


def pytest_report_header() -> list[str]:
    """Says what is left out."""
    return [] if HAS_CARLA else ["left out: carla_agent and toy_carla, as CARLA's client has no build for this Python"]


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        config.pluginmanager.register(ToldAtOnce(config))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="of the conformance kit: cpu, cuda or cuda:N")


def pytest_collection_finish() -> None:
    """Spares the garbage collector the million objects of modules and tests: a twentieth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS)  # and looks at what is new less often
    gc.enable()


def pytest_runtest_setup() -> None:
    list_functions_once()


@pytest.fixture(scope="session", autouse=True)
def logs_of_stable_baselines3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where its `learn` makes a folder, which is /tmp otherwise, in this process and its children."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SB3_LOGDIR", str(tmp_path_factory.getbasetemp() / "stable-baselines3"))
        yield


@pytest.fixture(scope="session")
def example() -> Path:
    """The artifact folder of a policy that was really trained."""
    return EXAMPLE


@pytest.fixture
def copy(example: Path, tmp_path: Path) -> Path:
    """A copy of the example to be tampered with."""
    return Path(shutil.copytree(example, tmp_path / "copy"))


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file that holds MLflow's tables and nothing in them: all of its migrations take seconds, a copy none."""
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables  # a client would enter an experiment with its folder, too

    file = tmp_path_factory.mktemp("tables") / "mlflow.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    with warnings.catch_warnings(action="ignore"):  # MLflow's own
        _initialize_tables(engine)
    engine.dispose()
    return file


@pytest.fixture
def mlflow_home(new_home: Path, tables: Path) -> Path:
    """An empty SQLite store and artifact folder, the working folder of this test and of its processes."""
    shutil.copy(tables, new_home)
    return new_home


@pytest.fixture
def new_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same before anybody used MLflow there: whoever comes first makes the tables."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
    own_cache(monkeypatch, tmp_path)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    leave_experiment()
    yield home
    leave_experiment()


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts carla-serve with flags; every server is stopped with the test."""
    with servers(tmp_path_factory) as start:
        yield start


@contextlib.contextmanager
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """What starts servers, all of which are stopped at the end."""
    with _stopped_at_the_end() as started:

        def start(*flags: str) -> Server:
            port = free_port()
            started.append(_started(tmp_path_factory, f"http://127.0.0.1:{port}", "--port", str(port), *flags))
            return started[-1]

        yield start


@pytest.fixture
def start_on_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts carla-serve on a Unix socket, with further flags; every server is stopped with the test."""
    with _stopped_at_the_end() as started:

        def start(path: Path, *flags: str) -> Server:
            server = _started(tmp_path_factory, "http://localhost", "--host", f"unix:{path}", *flags)
            # The sockets of httpcore's own backend stay open when connecting fails, of which Python warns.
            backend = TimedBackend()
            backend.ends = time.monotonic() + 3600
            server.pool = httpcore.ConnectionPool(max_connections=1, uds=str(path), network_backend=backend)
            started.append(server)
            return server

        yield start


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder for Unix sockets, whose paths may have 107 bytes: pytest's own are too deep."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        yield Path(folder)


def _started(tmp_path_factory: pytest.TempPathFactory, url: str, *flags: str) -> Server:
    log = tmp_path_factory.mktemp("server") / "log"
    with open(log, "wb") as output:
        command = [str(Path(sys.executable).parent / "carla-serve"), *flags]
        # A session of its own: Linux shares the cores out by session first (sched_autogroup), so that a process of
        # idle priority in it, as a shadow is, gives way to its own server and not to every other test.
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        return Server(process, url, log)


@contextlib.contextmanager
def _stopped_at_the_end() -> Iterator[list[Server]]:
    started: list[Server] = []
    yield started
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()
        server.pool.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, example: Path) -> Iterator[Server]:
    """A server of the example policy, shared by tests that only ask it."""
    with servers(tmp_path_factory) as start:
        running = start("--model", str(example))
        running.wait_ready()
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL cluster of this test process; each user asks it for a database."""
    with running_postgres() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def start_mlflow(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[..., MlflowServer]]:
    """Starts an empty `mlflow server` of a kind: sqlite, postgres or basic-auth; each is stopped at the end."""
    started: list[MlflowServer] = []

    def start(kind: str) -> MlflowServer:
        database = request.getfixturevalue("postgres").new_database() if kind == "postgres" else None
        folder = tmp_path_factory.mktemp(f"mlflow-{kind}")
        if kind != "postgres":
            shutil.copy(request.getfixturevalue("tables"), folder)
        server = MlflowServer(folder, database, with_password=kind == "basic-auth")
        started.append(server)
        return server

    yield start
    for server in started:
        server.kill()


LONGEST = (
    "test_readme::test_every_command",
    "container",
    "following",
    "test_benchmarks::test_nothing_hostile_is_mishandled",
    "states",
    "ray",
    "toy_carla",
    "training_export/training/test_train::test_training_is_logged",
    "registry/commands/test_next_commands::",
    "browser",
    "training_export/sources/sb3/test_algorithms",
    "training_export/sources/sb3/test_source",
    "test_compose_by_hand::",
    "beside-mlflow",
    "serve/policy/test_slow_policies",
    "registry/moves/test_promotions",
    "training_export/sources/test_sources",
)
"""What takes longest (see --durations of a whole run), about the longest first: how the name of a group or test begins.

Ray's clusters begin when the containers are built: each of the two fills a small machine.
"""


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Makes the tests of a file a group, and puts what takes longest first.

    One worker runs the tests of a file, so that what they share is made once; slow tests are spread. What began last
    would keep one worker busy while the others have nothing to do.
    """
    order = {}
    for item in items:
        file, marker = str(item.path.relative_to(TESTS).with_suffix("")), item.get_closest_marker("xdist_group")
        is_slow = item.get_closest_marker("slow") is not None
        if marker is None and not is_slow:
            item.add_marker(pytest.mark.xdist_group(file))
        name = marker.args[0] if marker else f"{file}::{item.name}" if is_slow else file
        place = next((at for at, begins in enumerate(LONGEST) if name.startswith(begins)), len(LONGEST))
        order[id(item)] = (place, not is_slow)
    yield  # pytest-xdist adds the groups to the node ids, of which an item's hash is made
    items.sort(key=lambda item: order[id(item)])
