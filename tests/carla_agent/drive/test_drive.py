"""The drive command, through the real carla client, in the toy world."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import carla
import numpy as np
import psutil
import pytest
from patience import PATIENCE_S
from PIL import Image
from registry_policies import changed
from tests_support import EXAMPLE, ROOT, Finished, Server, registry_here
from toy_carla import ToyCarla

from benchmarks.support.free_port import free_port
from benchmarks.support.mlflow_server import MlflowServer
from carla_agent.__main__ import main
from carla_mlflow.interrupt import Interrupt

pytestmark = pytest.mark.xdist_group("toy_carla")
PATIENT = ("--budget-ms", "5000")
"""A budget that is enough on a machine on which other tests run, too."""


@pytest.fixture(scope="module")
def started() -> Iterator[ToyCarla]:
    with ToyCarla() as toy:
        yield toy


@pytest.fixture
def toy(started: ToyCarla) -> Iterator[ToyCarla]:
    """The ring; afterwards nothing of ours may be left in it."""
    before = left_in(started)
    yield started
    assert left_in(started) == before


def left_in(toy: ToyCarla) -> tuple[Any, ...]:
    """Town, actors and settings."""
    world = client_of(toy).get_world()
    settings = world.get_settings()
    actors = [actor.id for actor in world.get_actors() if actor.type_id.startswith(("vehicle.", "sensor.", "walker."))]
    return world.get_map().name, actors, settings.synchronous_mode, settings.fixed_delta_seconds


def client_of(toy: ToyCarla) -> carla.Client:
    client = carla.Client(toy.host, toy.port)
    client.set_timeout(10.0)
    return client


def drive(toy: ToyCarla, *flags: str) -> Finished:
    """Runs the command in this process."""
    out, err = io.StringIO(), io.StringIO()
    command = ("drive", "--carla", f"{toy.host}:{toy.port}", *flags)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(command)
    return Finished(code, out.getvalue(), err.getvalue())


@pytest.fixture
def start_drive(toy: ToyCarla) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command as a user would, for as long as it takes."""
    started = []

    def start(*flags: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "carla_agent", "drive", "--carla", f"{toy.host}:{toy.port}", "--json"]
        command += ["--seconds", "100000", *PATIENT, *flags]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT))
        return started[-1]

    yield start
    for driving in started:
        if driving.poll() is None:
            driving.terminate()  # which leaves nothing behind either
        driving.communicate()


def wait_for_car(toy: ToyCarla, driving: subprocess.Popen[str], metres: float = 5.0) -> carla.Vehicle:
    """Waits until our car has driven some way, and returns it."""
    world, ends = client_of(toy).get_world(), time.monotonic() + PATIENCE_S
    start = None
    while time.monotonic() < ends:
        assert driving.poll() is None, driving.communicate()
        cars = [actor for actor in world.get_actors() if actor.attributes.get("role_name") == "hero"]
        if cars:
            place = cars[0].get_location()
            start = start or place
            if place.distance(start) > metres:
                return cars[0]
        time.sleep(0.05)
    raise AssertionError("the car does not move")


def interrupt(driving: subprocess.Popen[str]) -> dict[str, Any]:
    driving.send_signal(signal.SIGINT)
    out, err = driving.communicate(timeout=PATIENCE_S)
    assert driving.returncode == 130, (out, err)
    assert "Traceback" not in err
    figures: dict[str, Any] = json.loads(out)
    return figures


def test_the_example_drives_sixty_seconds_and_stays_on_the_road(toy: ToyCarla, server: Server):
    done = drive(toy, "--url", server.url, "--seconds", "60", "--json", *PATIENT)
    assert done.code == 0, done.err
    figures = json.loads(done.out)
    assert (figures["ticks"], figures["off_road_ticks"], figures["collisions"]) == (1200, 0, 0)
    assert (figures["decisions"], figures["fallbacks"]) == (600, {})
    assert figures["driven_by"] == [{"version": "0.1.0", "decisions": 600}]
    assert figures["distance_m"] > 300
    assert len(figures["episode_id"]) == 32


def test_in_process_it_drives_as_served(toy: ToyCarla, server: Server):
    served = drive(toy, "--url", server.url, "--seconds", "5", "--json", *PATIENT)
    local = drive(toy, "--model", str(EXAMPLE), "--seconds", "5", "--json", *PATIENT)
    compared = ("ticks", "distance_m", "speed_mps_mean", "speed_mps_max", "decisions")
    assert [json.loads(served.out)[key] for key in compared] == [json.loads(local.out)[key] for key in compared]


def test_what_happened_is_printed_for_people(toy: ToyCarla):
    done = drive(toy, "--model", str(EXAMPLE), "--seconds", "2", *PATIENT)
    lines = [line.split(maxsplit=1)[0] for line in done.out.splitlines()]
    assert lines == ["drove", "collisions", "lane", "off", "fallbacks", "driven", "latency", "episode", "next:"]
    assert "0.1.0 (20 decisions)" in done.out


@pytest.mark.parametrize(
    ("hold_s", "drove", "restarts"),
    [("300", ["0.1.0"], {}), ("0", ["0.1.0", "0.2.0"], {"episode_of_another_version": 1})],
)
def test_a_promotion_while_it_drives_changes_no_version_that_is_held_and_costs_no_decision(
    hold_s: str,
    drove: list[str],
    restarts: dict[str, int],
    toy: ToyCarla,
    start_drive: Callable[..., subprocess.Popen[str]],
    start_mlflow: Callable[..., MlflowServer],
    start_server: Callable[..., Server],
    tmp_path: Path,
):
    env = {"MLFLOW_TRACKING_URI": start_mlflow("sqlite").uri, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def ours(*command: str) -> None:
        done = registry_here(*command, env=env)
        assert done.code == 0, done.err

    def promote(version: str) -> None:
        ours("promote", f"driven@{version}", "--to", "production", "--force", "--reason", "a test")

    for version in ("0.1.0", "0.2.0"):
        ours("register", changed(tmp_path, version), "--name", "driven")
    promote("0.1.0")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in env.items():
            environment.setenv(name, value)
        server = start_server("--model", "driven@production", "--poll-s", "0.2", "--episode-hold-s", hold_s)
    server.wait_ready()
    driving = start_drive("--url", server.url)
    wait_for_car(toy, driving)
    promote("0.2.0")
    ends = time.monotonic() + PATIENCE_S
    while server.get("/metadata").json["version"] != "0.2.0":
        assert time.monotonic() < ends
        time.sleep(0.05)
    wait_for_car(toy, driving, metres=10)
    figures = interrupt(driving)
    assert [each["version"] for each in figures["driven_by"]] == drove
    assert (figures["fallbacks"], figures["restarts"]) == ({}, restarts)


def test_a_server_that_is_killed_and_comes_back_is_driven_by_again(
    toy: ToyCarla, start_drive: Callable[..., subprocess.Popen[str]], start_server: Callable[..., Server]
):
    port = str(free_port())

    def serving() -> Server:
        server = start_server("--model", str(EXAMPLE), "--port", port)
        server.url = f"http://127.0.0.1:{port}"
        server.wait_ready()
        return server

    server = serving()
    driving = start_drive("--url", server.url)
    wait_for_car(toy, driving)
    master = psutil.Process(server.process.pid)
    killed = [master, *master.children(recursive=True)]
    for process in killed:
        process.kill()
    psutil.wait_procs(killed)
    serving()
    wait_for_car(toy, driving, metres=10)
    figures = interrupt(driving)
    assert figures["fallbacks"].keys() - {"not_ready"} == {"unreachable"}
    assert sum(each["decisions"] for each in figures["driven_by"]) > 20


def test_ctrl_c_leaves_nothing_behind_and_tells_what_happened(
    toy: ToyCarla, start_drive: Callable[..., subprocess.Popen[str]]
):
    driving = start_drive("--model", str(EXAMPLE))
    wait_for_car(toy, driving)
    assert left_in(toy)[1:3] != ([], False)
    figures = interrupt(driving)
    assert figures["distance_m"] > 5  # what `toy` checks is that nothing is left


def test_in_real_time_the_world_goes_on_while_no_answer_comes(
    toy: ToyCarla, start_drive: Callable[..., subprocess.Popen[str]], start_server: Callable[..., Server]
):
    server = start_server("--model", str(EXAMPLE))
    server.wait_ready()
    driving = start_drive("--url", server.url, "--realtime", "--budget-ms", "1000")
    car = wait_for_car(toy, driving)
    master = psutil.Process(server.process.pid)
    silent = [master, *master.children(recursive=True)]
    for process in silent:
        process.suspend()
    ends = time.monotonic() + PATIENCE_S
    while car.get_velocity().length() > 0.01:  # only the fallback's brake stops it
        assert time.monotonic() < ends
        time.sleep(0.05)
    for process in silent:
        process.resume()
    wait_for_car(toy, driving)
    assert interrupt(driving)["fallbacks"]["late"] > 0


def test_under_a_latency_a_drive_is_the_same_each_time_and_others_are_others(toy: ToyCarla, tmp_path: Path):
    def driven(*flags: str) -> dict[str, Any]:
        done = drive(toy, "--model", str(EXAMPLE), "--realtime", "--seconds", "4", "--json", *flags)
        assert done.code == 0, done.err
        figures: dict[str, Any] = json.loads(done.out)
        return figures

    trace = tmp_path / "trace.parquet"
    late = driven("--latency", "300ms", "--trace", str(trace))
    assert (late["ticks"], late["decisions"], late["fallbacks"]) == (400, 14, {})
    assert late["latency"] == {
        "kind": "constant", "condition": "300ms", "budget_ms": None, "requests": 14,
        "p50_ms": 300.0, "p90_ms": 300.0, "p99_ms": 300.0, "max_ms": 300.0,
    }  # fmt: skip
    assert late["latency_ms"] == {"p50": 300.0, "p90": 300.0, "p99": 300.0, "max": 300.0}
    again = driven("--latency", str(trace))
    assert again["distance_m"] == late["distance_m"]
    assert again["latency"]["condition"].startswith("trace:")
    assert driven("--latency", "0ms")["distance_m"] != late["distance_m"]
    stands = driven("--latency", "300ms", "--budget-ms", "100")
    assert (stands["distance_m"], stands["fallbacks"]) == (0.0, {"late": 40})


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--latency", "5ms"], "--latency is for --realtime; otherwise the world waits for the answer"),
        (["--realtime", "--trace", "t.parquet"], "--trace writes the latencies of --latency"),
        (["--realtime", "--latency", "5"], "expected a time such as 35ms"),
        (["--realtime", "--latency", "5ms", "--hz", "50"], "ticks at 100 Hz or more: --hz 100"),
    ],
)
def test_flags_of_latencies_that_do_not_fit_are_refused(toy: ToyCarla, flags: list[str], complaint: str):
    done = drive(toy, "--model", str(EXAMPLE), *flags)
    assert done.code == 1
    assert complaint in done.err


def test_the_film_shows_the_drive(toy: ToyCarla, tmp_path: Path):
    done = drive(toy, "--model", str(EXAMPLE), "--seconds", "3", "--gif", str(tmp_path / "out.gif"), *PATIENT)
    assert done.code == 0, done.err
    with Image.open(tmp_path / "out.gif") as film:
        assert (film.size, film.n_frames, film.info["duration"]) == ((480, 270), 30, 100)
        first = np.asarray(film.convert("RGB")).astype(int)
        film.seek(29)
        assert np.abs(np.asarray(film.convert("RGB")).astype(int) - first).mean() > 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.gif"]


def test_a_drive_that_does_not_begin_leaves_no_film(toy: ToyCarla, tmp_path: Path):
    done = drive(toy, "--model", str(EXAMPLE), "--hz", "15", "--gif", str(tmp_path / "out.gif"))
    assert done.code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_simulator_that_dies_is_told_in_one_line(server: Server):
    with ToyCarla() as toy:
        command = [
            sys.executable,
            "-m",
            "carla_agent",
            "drive",
            "--carla",
            f"{toy.host}:{toy.port}",
            "--url",
            server.url,
        ]
        driving = subprocess.Popen(
            [*command, "--seconds", "100000", *PATIENT],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        wait_for_car(toy, driving)
        toy.kill()
        out, err = driving.communicate(timeout=PATIENCE_S)
    assert driving.returncode == 3, (out, err)
    assert "the simulator does not answer any more: is it still running?" in err
    assert "warning: could not restore the world's settings: " in err
    assert "Traceback" not in err
    assert out.startswith("drove")


def test_observers_that_do_not_fit_the_card_are_refused_without_a_report(toy: ToyCarla, tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("track: MAP\nobservers: [{kind: racetrack}]\n")
    done = drive(toy, "--model", str(EXAMPLE), "--config", str(tmp_path / "mine.yaml"))
    assert (done.code, done.out) == (1, "")
    assert "no observer makes sensors" in done.err


def test_another_town_is_loaded_and_afterwards_the_first_one_again_with_its_settings(toy: ToyCarla):
    world = client_of(toy).get_world()
    before = world.get_settings()
    world.apply_settings(carla.WorldSettings(no_rendering_mode=True, fixed_delta_seconds=0.1))
    try:
        done = drive(toy, "--model", str(EXAMPLE), "--town", "crossing", "--seconds", "1", *PATIENT)
        assert done.code == 0, done.err
        after = client_of(toy).get_world()
        assert after.get_map().name.endswith("ring")
        assert after.get_settings().no_rendering_mode
        assert after.get_settings().fixed_delta_seconds == pytest.approx(0.1)
    finally:
        client_of(toy).get_world().apply_settings(before)


def test_other_cars_drive_along_and_go_with_the_drive(toy: ToyCarla):
    done = drive(toy, "--model", str(EXAMPLE), "--seconds", "5", "--traffic", "3", "--json", *PATIENT)
    told = [line for line in done.err.splitlines() if not line.startswith("driving: ")]  # how far, on a slow machine
    assert (done.code, told) == (0, [])
    assert json.loads(done.out)["collisions"] == 0


def test_a_car_that_somebody_removes_ends_the_drive(toy: ToyCarla, start_drive: Callable[..., subprocess.Popen[str]]):
    driving = start_drive("--model", str(EXAMPLE))
    wait_for_car(toy, driving).destroy()
    out, err = driving.communicate(timeout=PATIENCE_S)
    assert driving.returncode == 1, (out, err)
    assert "the driven car is not in the world any more: it was removed" in err
    assert json.loads(out)["fallbacks"].get("observer", 0) <= 1


class Asked(Interrupt):
    """A Ctrl-C that comes while something is under way in the simulator."""

    def __enter__(self) -> Interrupt:
        super().__enter__()
        signal.raise_signal(signal.SIGINT)
        return self


def test_a_ctrl_c_that_comes_before_the_first_tick_leaves_nothing_behind(
    toy: ToyCarla, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("carla_mlflow.interrupt.Interrupt", Asked)
    assert drive(toy, "--model", str(EXAMPLE), "--town", "crossing").code == 130


def test_actors_of_somebody_else_are_not_lost_to_another_town(toy: ToyCarla):
    world = client_of(toy).get_world()
    blueprint = world.get_blueprint_library().filter("vehicle.*")[0]
    other = world.spawn_actor(blueprint, world.get_map().get_spawn_points()[1])
    try:
        done = drive(toy, "--model", str(EXAMPLE), "--town", "crossing")
        assert (done.code, done.out) == (1, "")
        assert "loading crossing would remove 1 actors of other clients, such as vehicle." in done.err
    finally:
        other.destroy()


TICKING = """
import carla, sys, time
world = carla.Client(sys.argv[1], int(sys.argv[2])).get_world()
while True:
    world.tick()
    time.sleep(0.05)
"""


def test_a_world_that_another_client_ticks_is_left_to_it(toy: ToyCarla):
    world = client_of(toy).get_world()
    before = world.get_settings()
    world.apply_settings(carla.WorldSettings(synchronous_mode=True, fixed_delta_seconds=0.05))
    other = subprocess.Popen([sys.executable, "-c", TICKING, toy.host, str(toy.port)])
    try:
        world.wait_for_tick(30.0)
        done = drive(toy, "--model", str(EXAMPLE))
        assert done.code == 1
        assert "another client is ticking this world, and only one can" in done.err
    finally:
        other.kill()
        other.wait()
        world.apply_settings(before)


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--town", "Town01"), 1, "the simulator has no town Town01; it has crossing, ring"),
        (("--car", "vehicle.no.such"), 1, "the simulator has no car vehicle.no.such; it has"),
        (("--spawn", "9999"), 1, "--spawn 9999: the map Carla/Maps/ring has spawn points 0 to"),
        (("--hz", "15"), 1, "the policy decides at 10 Hz and the world ticks at 15 Hz: set the world to 10 Hz"),
        (("--gif", "/no/such/folder/out.gif"), 1, "/no/such/folder/out.gif: the film can't be written there: "),
        (("--carla", "localhost:²"), 1, "localhost:²: expected HOST:PORT, such as localhost:2000"),
        (("--carla", "no.such.host.invalid:2000"), 3, "no CARLA simulator answers"),
        (("--carla", "127.0.0.1:1"), 3, "start one there, or name its address with --carla HOST:PORT"),
        (("--carla", "localhost:x"), 1, "localhost:x: expected HOST:PORT, such as localhost:2000"),
    ],
)
def test_what_can_not_be_is_said_in_one_line(toy: ToyCarla, flags: tuple[str, ...], code: int, said: str):
    done = drive(toy, "--model", str(EXAMPLE), *flags)
    assert (done.code, done.out, len(done.err.splitlines())) == (code, "", 1)
    assert said in done.err


@pytest.mark.parametrize("flags", [("--seconds", "inf"), ("--hz", "nan"), ("--budget-ms", "0"), ("--traffic", "-1")])
def test_invalid_numbers_are_usage_errors(capsys: pytest.CaptureFixture[str], flags: tuple[str, str]):
    with pytest.raises(SystemExit) as ended:
        main(("drive", "--model", str(EXAMPLE), *flags))
    assert ended.value.code == 2
    assert f"argument {flags[0]}:" in capsys.readouterr().err


def test_a_simulator_of_another_version_is_named(server: Server):
    with ToyCarla(version="0.9.15") as toy:
        done = drive(toy, "--url", server.url)
    assert done.code == 1
    assert "the simulator is CARLA 0.9.15 and this client CARLA" in done.err
    assert "this package is tested with CARLA 0.9.16: start that" in done.err
