"""/dashboard tells what the server's page shows: also while nothing is served, and names only to holders of the key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests_support import Server

from carla_mlflow.errors import UnreachableError
from registry.rules.chain import chain, next_link
from registry.rules.journal import Move
from registry.store.store import Store
from serve.errors import STATUS
from serve.following.last_moves import MAX_MOVES, MovesReader
from serve.policy.slot import Slot
from serve.run_folder import Followed, Status
from serve.settings import Settings
from serve.web.dashboard import show

NAME = "racetrack-policy"
KEY = {"Authorization": "Bearer s3cret"}
BODY = {"observations": [{"speed": 6.0, "steering": 0.0, "sensors": [0.5] * 12}]}


def told(server: Server, query: str = "") -> dict[str, Any]:
    return server.get(f"/dashboard{query}").json


def counted(server: Server, section: str, name: str) -> int:
    """How often something was counted in the whole history."""
    slots = told(server)["history"]["counts"].values()
    return sum(sum(slot.get(section, {}).get(name, ())) for slot in slots)


def test_the_history_has_what_was_asked_and_answered(server: Server):
    before = {name: counted(server, "codes", name) for name in ("200", "422", "504")}
    actions = counted(server, "actions", "steer")
    for _ in range(3):
        assert server.post("/predict", BODY).status == 200
    assert server.post("/predict", BODY | {"budget_ms": 0}).status == 504
    assert server.post("/predict", {"observations": [{"speed": 1}]}).status == 422
    after = {name: counted(server, "codes", name) for name in before}
    assert {name: after[name] - before[name] for name in before} == {"200": 3, "422": 1, "504": 1}
    assert counted(server, "actions", "steer") - actions == 3
    history = told(server)["history"]
    latencies = [slot["latency"]["total"] for slot in history["counts"].values() if "latency" in slot]
    assert {len(buckets) for buckets in latencies} == {len(history["bounds"]["latency"]) + 1}


def test_a_page_that_asks_again_gets_what_is_new(server: Server):
    server.post("/predict", BODY)
    first = told(server)
    now, digest = first["history"]["now"], first["metadata"]["digest"]
    again = told(server, f"?after={now}&card={digest}")
    assert all(int(slot) > now for slot in again["history"]["counts"])
    assert (first["metadata"]["card"]["name"], "card" in again["metadata"]) == ("racetrack-policy", False)
    assert again["columns"] == first["columns"]
    assert [each["key"] for each in first["columns"]] == ["throttle", "brake", "steer"]


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "9" * 30, "%C2%B2"])
def test_what_is_no_slot_is_a_bad_request(server: Server, after: str):
    answer = server.get(f"/dashboard?after={after}")
    assert (answer.status, answer.json["error"]["field"]) == (400, "after")


def test_it_answers_while_nothing_is_served_and_says_why(tmp_path: Path):
    body = show(Slot(tmp_path), Settings())
    assert (body["ready"], body["reason"], body["metadata"], body["columns"]) == (False, "starting", None, [])
    assert {code for codes in body["errors"].values() for code in codes} == STATUS.keys()


def enter(store: Store, *moves: Move) -> None:
    """Adds moves to the policy's journal, as carla-registry does."""
    for move in moves:
        store.append(NAME, next_link(chain(store.journal(NAME)), move), "")


def a_move(version: str, **changed: Any) -> Move:
    return replace(Move("promote", version, "production", "0.1.0", "ada@desk", 1.8e9, "brakes earlier"), **changed)


@pytest.mark.filterwarnings("ignore")  # MLflow's own warnings
def test_names_and_reasons_are_for_holders_of_the_key(mlflow_home: Path, tmp_path: Path):
    store, slot, reader = Store(), Slot(tmp_path), MovesReader(f"{NAME}@production", tmp_path)
    followed = Followed(answers=(Status(wanted="sha256:1"),))
    enter(store, a_move("0.2.0", evidence=("overruled: driving: worse\u202e",)))
    assert show(slot, Settings())["moves"] is None
    reader.look(lambda: store, followed)
    [move] = show(slot, Settings(api_key="s3cret"))["moves"]["moves"]
    assert (move["version"], move["who"], move["why"]) == ("0.2.0", "ada@desk", "brakes earlier")
    assert list(move["waived"]) == ["overruled: driving: worse\\u202e"]  # nothing on the page is turned around
    assert show(slot, Settings())["moves"]["moves"] == [move | {"who": None, "why": None, "waived": []}]


@pytest.mark.filterwarnings("ignore")
def test_the_journal_is_read_again_when_another_version_is_followed_and_only_its_last_moves_are_kept(
    mlflow_home: Path, tmp_path: Path
):
    store, slot, reader = Store(), Slot(tmp_path), MovesReader(f"{NAME}@production", tmp_path)

    def versions(wanted: str, registry: str = "ok") -> list[str]:
        reader.look(lambda: store, Followed(answers=(Status(wanted=wanted),), registry=registry))
        return [move["version"] for move in show(slot, Settings())["moves"]["moves"]]

    enter(store, a_move("0.1.0"))
    assert versions("sha256:1") == ["0.1.0"]
    enter(store, *(a_move(f"0.{minor}.0") for minor in range(2, 16)))
    assert versions("sha256:1") == ["0.1.0"]  # not due
    assert versions("sha256:2", "unreachable") == ["0.1.0"]
    assert versions("sha256:2") == [f"0.{minor}.0" for minor in range(15, 15 - MAX_MOVES, -1)]


def test_a_registry_without_an_answer_stops_nothing(tmp_path: Path):
    def silent() -> Store:
        raise UnreachableError("no answer")

    MovesReader(f"{NAME}@production", tmp_path).look(silent, Followed(answers=(Status(wanted="sha256:1"),)))
    assert show(Slot(tmp_path), Settings())["moves"] is None


def test_the_static_page_is_open_and_sent_once_and_its_data_is_not(
    start_server: Callable[..., Server], example: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POLICY_API_KEY", "s3cret")
    for kind in ("loop", "gthread"):
        server = start_server("--model", str(example), "--worker-class", kind)
        server.wait_ready()
        for path in ("/", "/docs", "/pages/status.js", "/pages/status.css"):
            answer = server.get(path)
            assert (answer.status, answer.headers["x-content-type-options"]) == (200, "nosniff"), path
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'self';"), policy
            assert "unsafe" not in policy
            known = {"If-None-Match": answer.headers["etag"]}
            assert [(again.status, again.body) for again in [server.send("GET", path, None, known)]] == [(304, b"")]
            assert server.send("GET", path, None, {"If-None-Match": '"another"'}).body == answer.body
        assert server.get("/pages/nothing.js").status == 404
        assert server.post("/", BODY).status == 405
        for path in ("/dashboard", "/pages", "/metadata", "/openapi.json", "/metrics"):
            assert server.get(path).status == 401, path
        assert server.send("GET", "/dashboard", headers=KEY).json["has_key"] is True
        described = server.send("GET", "/openapi.json", headers=KEY).json["paths"]
        assert (described["/"]["get"]["security"], "security" in described["/dashboard"]["get"]) == ([], False)
