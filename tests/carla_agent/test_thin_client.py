"""The one-file client asks as PolicyClient does, on Pythons that can't import this project, and never waits longer."""

from __future__ import annotations

import array
import ast
import json
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from episode_policies import frames, watching, written
from odd_server import OddServer, answering_oddly
from patience import PATIENCE_S
from relay import relaying
from tests_support import Server, example_as

import carla_agent
from benchmarks.policies.two_policies import small_policy, write
from carla_agent.thin_client import ThinClient, ThinClientError, _Field
from carla_mlflow import PolicyClient, SpecError, open_artifact
from carla_mlflow.artifact.golden import read_golden
from carla_mlflow.contract.field_card import FieldCard
from carla_mlflow.contract.history import frame_spec
from carla_mlflow.contract.observations import as_arrays

FILE = Path(carla_agent.__file__).parent / "thin_client.py"
FALLBACK = (0.0, 0.0, 1.0)
SEEN = {"speed": 4.25, "steering": -0.125, "sensors": [0.5] * 12}
PATIENT_MS = 20_000.0
"""A budget that no test needs: one that depends on an answer must not fail on a busy machine."""


@pytest.fixture(scope="module")
def rows(example: Path) -> list[dict[str, Any]]:
    """The golden observations of the example, one dict each."""
    artifact = open_artifact(example)
    observations = read_golden(artifact.files["golden.npz"], artifact.card).observations
    return [{name: array[row] for name, array in observations.items()} for row in range(len(observations["speed"]))]


def test_the_file_is_python_3_7_and_needs_nothing_but_its_library():
    tree = ast.parse(FILE.read_text(), feature_version=(3, 7))
    imported = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in ([ast.alias(node.module or "")] if isinstance(node, ast.ImportFrom) else node.names)
    }
    assert imported <= sys.stdlib_module_names
    vermin = [str(Path(sys.executable).parent / "vermin"), "--no-tips", "--target=3.7-", "--violations", str(FILE)]
    done = subprocess.run(vermin, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_actions_are_policy_clients_bit_by_bit(server: Server, rows: list[dict[str, Any]]):
    with ThinClient(server.url, PATIENT_MS) as thin, PolicyClient(server.url) as client:
        for row in rows:
            throttle, brake, steer = client.act({name: value[None] for name, value in row.items()}).control[0]
            assert struct.pack("<3f", *thin.act(row)) == struct.pack("<3f", throttle, steer, brake)
            assert thin.fell_back is None
        assert (thin.version, thin.digest) == (client.version, client.digest)


@pytest.mark.parametrize("version", ["3.7", "3.8"])
def test_old_pythons_get_the_same_actions(version: str, server: Server, rows: list[dict[str, Any]], tmp_path: Path):
    shutil.copy(FILE, tmp_path)
    lines = [
        {name: np.ravel(value).tolist() if value.ndim else float(value) for name, value in row.items()} for row in rows
    ]
    (tmp_path / "ask.py").write_text(
        "import thin_client\n"
        f"client = thin_client.ThinClient({server.url!r}, {PATIENT_MS})\n"
        f"for row in {lines!r}:\n"
        "    print(*(number.hex() for number in client.act(row)), client.fell_back)\n"
    )
    python = old_python(version)
    done = subprocess.run([python, "ask.py"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stderr == ""
    with ThinClient(server.url, PATIENT_MS) as thin:
        expected = [" ".join([*(number.hex() for number in thin.act(row)), "None"]) for row in rows]
    assert done.stdout.splitlines() == expected


def old_python(version: str) -> str:
    """An interpreter of that version, by its name or among pyenv's."""
    found = shutil.which(f"python{version}")
    for python in [*([found] if found else []), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]:
        if subprocess.run([python, "-c", ""], capture_output=True).returncode == 0:
            return str(python)
    pytest.skip(f"Python {version} is not installed")


@pytest.mark.parametrize(
    "sensors",
    [
        np.full(12, 0.5, np.float32),
        array.array("f", [0.5] * 12),
        np.full(12, 0.5, np.float32).tobytes(),
        (0.5,) * 12,
    ],
    ids=["numpy", "array", "bytes", "tuple"],
)
def test_every_form_of_a_field_is_the_same_observation(sensors: Any, server: Server):
    with ThinClient(server.url, PATIENT_MS) as thin:
        expected = thin.act(SEEN)
        assert thin.act({**SEEN, "speed": np.float32(4.25), "sensors": sensors}) == expected
        assert thin.fell_back is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sensors": [0.5] * 11}, "observations.sensors: expected float32 [12], got a list of 11"),
        ({"sensors": np.zeros(12)}, "observations.sensors: expected float32 [12], got float64 [12]"),
        ({"sensors": np.zeros((1, 12), np.float32)}, "expected float32 [12], got float32 [1, 12]"),
        ({"sensors": array.array("d", [0.5] * 12)}, "expected float32 [12], got an array of typecode d"),
        ({"sensors": b"1234"}, "expected float32 [12], got 4 bytes, not 48"),
        ({"speed": "fast"}, "observations.speed: expected float32 [], must be real number, not str"),
        ({"speeds": 1.0}, "observations has an unknown field speeds; the card's are speed, steering, sensors"),
    ],
)
def test_a_field_that_does_not_fit_is_named(changed: dict[str, Any], said: str, server: Server):
    with ThinClient(server.url, PATIENT_MS) as thin:
        with pytest.raises(ThinClientError, match=re.escape(said)):
            thin.act({**SEEN, **changed})
        with pytest.raises(ThinClientError, match=r"observations.sensors: is missing"):
            thin.act({"speed": 1.0, "steering": 0.0})
        thin.act(SEEN)
        assert thin.fell_back is None


def test_a_value_outside_the_bounds_is_answered_by_the_fallback_and_not_sent(server: Server):
    with relaying(server.url) as relay, ThinClient(relay.url, PATIENT_MS) as thin:
        assert thin.act({**SEEN, "speed": 61.0}) == FALLBACK
        assert (thin.fell_back, thin.error) == ("refused", "observations.speed: 61 is outside [0, 60] m/s")
        assert thin.act({**SEEN, "sensors": [0.5] * 11 + [float("inf")]}) == FALLBACK
        assert (thin.fell_back, thin.error) == ("refused", "observations.sensors[11]: inf is not a finite float32")
        assert b"/infer" not in relay.asked
        assert thin.act(SEEN) != FALLBACK


def test_a_bad_value_at_a_tick_that_an_action_holds_spoils_no_later_decision(
    start_server: Callable[..., Server], tmp_path: Path
):
    server = start_server("--model", str(written(tmp_path, watching())))
    server.wait_ready()
    with PolicyClient(server.url) as policy, ThinClient(server.url, PATIENT_MS) as thin:
        episode, held = policy.start_episode(), FALLBACK
        for at, tick in enumerate(frames(12)):
            if at in {3, 7}:  # an action holds
                assert thin.act(tick | {"speed": float("nan") if at == 3 else 61.0}) == held
                assert "observations.speed[0]: " in str(thin.error)
                episode.skip()
            else:
                held = episode.act(tick).vehicle_control()
                assert thin.act(tick) == held
            assert thin.fell_back is None


def test_a_bad_value_in_a_request_that_would_be_late_spoils_no_later_decision(
    start_server: Callable[..., Server], tmp_path: Path
):
    server = start_server("--model", str(written(tmp_path, watching(repeat=1))))
    server.wait_ready()
    ticks = frames(8)
    with relaying(server.url) as relay, ThinClient(relay.url, PATIENT_MS) as thin:
        thin.act(ticks[0])
        relay.cut()
        assert thin.act(ticks[1] | {"speed": float("nan")}) == FALLBACK
        relay.connect()
        for tick in ticks[2:]:
            thin.act(tick)
            assert thin.fell_back is None


def test_a_tick_that_is_skipped_is_policy_clients(start_server: Callable[..., Server], tmp_path: Path):
    server = start_server("--model", str(written(tmp_path, watching())))
    server.wait_ready()
    with PolicyClient(server.url) as policy, ThinClient(server.url, PATIENT_MS) as thin:
        episode = policy.start_episode()
        thin.start_episode()
        for at, tick in enumerate(frames(12)):
            if at in {1, 4, 7}:
                seen = tick if at == 4 else None
                episode.skip(seen)
                thin.skip(seen)
            else:
                assert thin.act(tick) == episode.act(tick).vehicle_control()
        with pytest.raises(ThinClientError, match="nan is not a finite float32"):
            thin.skip(tick | {"speed": float("nan")})


BOUNDED = [
    ({"dtype": "float32", "shape": [2], "low": [0.0, None], "high": 1.0}, [0.0, -9.0], [-0.5, 0.0], "[0]"),
    ({"dtype": "float32", "shape": [1, 2], "high": [[1.0, 2.0]]}, [[1.0, 2.0]], [[1.0, 2.5]], "[0][1]"),
    ({"dtype": "float32", "shape": [2, 2], "low": [[0.1], [1]]}, [[0.1, 1], [1, 2]], [[0.1, 1], [1, 0.9]], "[1][1]"),
    ({"dtype": "float32", "shape": [], "low": 0, "high": 5, "choices": 6}, 5.0, 2.5, ""),
    ({"dtype": "uint8", "shape": [], "low": 0, "high": 5, "choices": 6}, 5, 6, ""),
    ({"dtype": "uint8", "shape": [2], "low": [1, 0]}, [1, 0], [0, 255], "[0]"),
    (
        {
            "dtype": "float32",
            "shape": [2],
            "low": [0, 1],
            "high": [3, 2],
            "history": [-1, 0],
            "history_start": "repeat",
        },
        [2.0],
        [2.5],
        "[0]",
    ),
]


@pytest.mark.parametrize(("stated", "right", "wrong", "place"), BOUNDED)
def test_bounds_of_every_form_are_the_servers(stated: dict[str, Any], right: Any, wrong: Any, place: str):
    spec = frame_spec({"it": msgspec.convert(stated, FieldCard)})
    field = _Field("it", stated)
    spec.validate(as_arrays(spec, {"it": [right]}))
    field.encode(right)
    with pytest.raises(SpecError) as told:
        spec.validate(as_arrays(spec, {"it": [wrong]}))
    with pytest.raises(ThinClientError) as said:
        field.encode(wrong)
    assert str(said.value) == str(told.value).replace("observations[0]", "observations")
    assert f"it{place}: " in str(said.value)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("wrong", [float("nan"), 7.0, -9.0])
def test_a_control_that_no_car_can_do_is_answered_by_the_fallback(place: int, wrong: float, server: Server):
    with relaying(server.url) as relay, ThinClient(relay.url, PATIENT_MS) as thin:
        control = list(thin.act(SEEN))
        sent = struct.pack("<3f", *control)
        control[place] = wrong
        relay.replaced = (sent, struct.pack("<3f", *control))
        assert thin.act(SEEN) == FALLBACK
        assert thin.fell_back == "refused"
        assert "the answer holds no usable action" in thin.error


@pytest.mark.parametrize(("way", "reason"), [("head", "late"), ("body", "late"), ("broken", "unreachable")])
def test_an_answer_that_does_not_end_is_not_waited_for(way: str, reason: str, server: Server):
    budget_ms = 200.0 if reason == "late" else PATIENT_MS
    with answering_oddly(server, way) as odd, ThinClient(odd.url, budget_ms) as thin:
        assert thin.act(SEEN) == FALLBACK
        assert thin.fell_back == reason
        assert odd.questions == 1


def test_a_silent_server_is_late_and_its_late_answer_is_not_taken_for_the_next(server: Server):
    with relaying(server.url) as relay, ThinClient(relay.url, 200.0) as thin:
        relay.is_silent = True
        assert thin.act({**SEEN, "speed": 9.0}) == FALLBACK
        assert thin.fell_back == "late"
        relay.is_silent = False
        with ThinClient(server.url, PATIENT_MS) as other:
            expected = other.act(SEEN)
        assert answered(thin) == expected


def test_a_server_that_is_gone_is_the_fallback_until_it_is_back(server: Server):
    with relaying(server.url) as relay, ThinClient(relay.url, 200.0) as thin:
        expected = answered(thin)
        relay.cut()
        for _ in range(3):
            assert thin.act(SEEN) == FALLBACK
            assert thin.fell_back == "unreachable"
        relay.connect()
        assert answered(thin) == expected


def answered(thin: ThinClient) -> tuple[float, float, float]:
    """The policy's action; on a busy machine the first may come too late."""
    for _ in range(50):
        action = thin.act(SEEN)
        if thin.fell_back is None:
            return action
    raise AssertionError(thin.error)


def test_a_connection_that_the_server_closed_meanwhile_costs_no_action(server: Server):
    with relaying(server.url) as relay, ThinClient(relay.url, PATIENT_MS) as thin:
        expected = thin.act(SEEN)
        relay.drop()
        assert thin.act(SEEN) == expected
        assert thin.fell_back is None


def test_another_version_of_the_same_contract_drives_at_once(
    server: Server, start_server: Callable[..., Server], tmp_path: Path
):
    other = start_server("--model", str(example_as(tmp_path, "0.1.1")))
    other.wait_ready()
    with relaying(server.url) as relay, ThinClient(relay.url, PATIENT_MS) as thin:
        thin.act(SEEN)
        assert thin.version == "0.1.0"
        relay.target = other.url
        relay.drop()
        thin.act(SEEN)
        assert (thin.fell_back, thin.version, thin.card["version"]) == (None, "0.1.1", "0.1.1")


def test_a_policy_of_another_contract_does_not_drive(start_server: Callable[..., Server], tmp_path: Path):
    slow, fast = small_policy("1.0.0", 1, rate_hz=10.0), small_policy("2.0.0", 1, rate_hz=20.0)
    servers = [start_server("--model", str(write(each, tmp_path))) for each in (slow, fast)]
    for each in servers:
        each.wait_ready()
    with relaying(servers[0].url) as relay, ThinClient(relay.url, PATIENT_MS) as thin:
        assert thin.act({"state": [0.0] * 16}) != FALLBACK
        relay.target = servers[1].url
        relay.drop()
        for _ in range(2):
            assert thin.act({"state": [0.0] * 16}) == FALLBACK
            assert thin.fell_back == "contract"
        relay.target = servers[0].url
        relay.drop()
        assert thin.act({"state": [0.0] * 16}) != FALLBACK


def test_an_episode_is_named_in_every_request(server: Server):
    with relaying(server.url) as relay, ThinClient(relay.url, PATIENT_MS) as thin:
        thin.act(SEEN)
        assert b"X-Episode-Id" not in relay.asked
        assert thin.start_episode("route-7") == "route-7"
        thin.act(SEEN)
        assert relay.asked.count(b"X-Episode-Id: route-7\r\n") == 1
        name = thin.start_episode()
        thin.act(SEEN)
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name)
        assert relay.asked.count(f"X-Episode-Id: {name}\r\n".encode()) == 1


def test_episodes_are_policy_clients_bit_by_bit(start_server: Callable[..., Server], tmp_path: Path):
    server = start_server("--model", str(written(tmp_path, watching())))
    server.wait_ready()
    with PolicyClient(server.url) as policy, ThinClient(server.url, PATIENT_MS) as thin:
        assert thin.tick_hz == 20.0
        for seed in (0, 1):
            thin.start_episode()
            episode = policy.start_episode()
            for tick in frames(11, seed):
                wanted = episode.act(tick).vehicle_control()
                assert thin.act(tick | {"view": tick["view"].tolist()}) == wanted
                assert thin.fell_back is None


def test_a_frame_that_is_refused_leaves_no_trace(start_server: Callable[..., Server], tmp_path: Path):
    server = start_server("--model", str(written(tmp_path, watching(repeat=1))))
    server.wait_ready()
    ticks = frames(5)
    with PolicyClient(server.url) as policy, ThinClient(server.url, PATIENT_MS) as thin:
        episode = policy.start_episode()
        for tick in ticks[:2]:
            assert thin.act(tick) == episode.act(tick).vehicle_control()
        with pytest.raises(ThinClientError, match=r"observations.view: expected uint8 \[2, 4, 4\]"):
            thin.act(ticks[2] | {"view": np.zeros((6, 4, 4), np.uint8)})
        assert thin.act(ticks[2] | {"speed": float("nan")}) == FALLBACK
        assert thin.fell_back == "refused"
        episode.skip()
        episode.skip()
        for tick in ticks[3:]:
            assert thin.act(tick) == episode.act(tick).vehicle_control()


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "route/7", "a\r\nX-Evil: 1", "a\n", "ä", 7])
def test_an_episode_with_another_name_is_not_started(name: Any, server: Server):
    with ThinClient(server.url, PATIENT_MS) as thin:
        with pytest.raises(ThinClientError, match="episode_id: expected 1 to 64 characters"):
            thin.start_episode(name)
        thin.act(SEEN)
        assert thin.fell_back is None


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0, "fast", None])
def test_a_time_that_is_none_is_refused_at_the_start(number: Any, server: Server):
    for name in ("budget_ms", "timeout_s"):
        with pytest.raises(ThinClientError, match=f"{name}: expected a number of at least 0, got"):
            ThinClient(server.url, **{name: number})


def test_a_key_is_no_other_header(server: Server):
    with pytest.raises(ThinClientError, match="api_key: expected visible ASCII characters"):
        ThinClient(server.url, api_key="key\r\nX-Evil: 1")


INCOMPLETE = [
    ("card", {}),
    ("card", None),
    ("card.name", 7),
    ("card.observation", []),
    ("card.observation.speed", {}),
    ("card.observation.speed.dtype", "float64"),
    ("card.observation.sensors.shape", ["12"]),
    ("card.action", {}),
    ("contract", None),
    ("card.action.fallback", {"throttle": 0.0, "steer": 0.0}),
    ("card.action.fallback.brake", 2.0),
    ("card.action.fallback.brake", float("nan")),
]


@pytest.mark.parametrize(("place", "value"), INCOMPLETE, ids=[f"{place} {value}" for place, value in INCOMPLETE])
def test_a_card_that_is_not_whole_is_refused_at_the_start(place: str, value: Any, server: Server):
    metadata = json.loads(server.get("/metadata").body)
    *above, last = place.split(".")
    section = metadata
    for key in above:
        section = section[key]
    section[last] = value
    odd = OddServer(json.dumps(metadata).encode(), "ended", None)
    try:
        with pytest.raises(ThinClientError, match="not a policy server's metadata") as raised:
            ThinClient(odd.url)
        assert "\n" not in str(raised.value)
    finally:
        odd.close()


def test_a_card_that_is_not_whole_after_a_promotion_is_the_fallback(
    server: Server, start_server: Callable[..., Server], tmp_path: Path
):
    other = start_server("--model", str(example_as(tmp_path, "0.1.1")))
    other.wait_ready()
    with relaying(server.url) as relay, ThinClient(relay.url, PATIENT_MS) as thin:
        relay.target = other.url
        relay.replaced = (b'"observation":', b'"observatiom":')
        relay.drop()
        assert thin.act(SEEN) == FALLBACK
        assert thin.fell_back == "refused"
        relay.replaced = (b"", b"")
        assert thin.act(SEEN) != FALLBACK
        assert thin.version == "0.1.1"


def test_the_look_up_of_a_name_takes_no_longer_than_the_timeout(monkeypatch: pytest.MonkeyPatch):
    may_answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: may_answer.wait(20) and [])
    try:
        with pytest.raises(ThinClientError, match=r"http://policy:8080: no answer within 0\.2 s"):
            ThinClient("http://policy:8080", timeout_s=0.2)
    finally:
        may_answer.set()


def test_a_unix_socket_is_an_address_too(server: Server, tmp_path: Path):
    with relaying(server.url, tmp_path / "policy.sock") as relay, ThinClient(relay.url, PATIENT_MS) as thin:
        assert relay.url.startswith("unix:")
        with ThinClient(server.url, PATIENT_MS) as other:
            assert thin.act(SEEN) == other.act(SEEN)
        relay.cut()
        assert thin.act(SEEN) == FALLBACK
        assert thin.fell_back == "unreachable"


def test_a_server_with_a_key_wants_it(
    start_server: Callable[..., Server], example: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POLICY_API_KEY", "s3cret")
    server = start_server("--model", str(example))
    server.wait_ready()
    with ThinClient(server.url, PATIENT_MS, api_key="s3cret") as thin:
        assert thin.act(SEEN) != FALLBACK
    with pytest.raises(ThinClientError, match="status 401"), ThinClient(server.url) as thin:
        thin.act(SEEN)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1", "http://127.0.0.1:1: no policy server answers: "),
        ("unix:/nowhere/policy.sock", "unix:/nowhere/policy.sock: no policy server answers: "),
        ("https://127.0.0.1", "expected http://host:port, or unix: and a socket's path"),
        ("127.0.0.1:8080", "expected http://host:port"),
        ("http://127.0.0.1:port", "expected http://host:port"),
        ("http://127.0.0.1:99999", "expected http://host:port"),
        ("http://[::1", "expected http://host:port"),
        ("http://a host:8080", "expected http://host:port"),
        ("http://127.0.0.1:8080/\r\nX-Evil: 1", "expected http://host:port"),
        (f"http://{'a' * 70}:8080", "no policy server answers: "),
        ("http://nobody.invalid:8080", "no policy server answers: "),
        ("unix:/a\0b", "expected http://host:port, or unix: and a socket's path"),
        (f"unix:/{'a' * 200}", "no policy server answers: "),
    ],
)
def test_an_address_without_a_server_is_refused_at_the_start(url: str, said: str):
    with pytest.raises(ThinClientError, match=re.escape(said)):
        ThinClient(url)
