"""MLflow's webhook: a hint to look at the registry now, believed only when it is signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from following_support import Registry, served, until
from tests_support import Server, run_command

from benchmarks.policies.bad_policies import publish
from benchmarks.policies.two_policies import NAME
from benchmarks.support.free_port import free_port
from benchmarks.support.mlflow_server import MlflowServer
from serve.errors import ApiError
from serve.limits import MAX_HOOK_DELIVERIES
from serve.web.webhook import Hook

pytestmark = [pytest.mark.xdist_group("following"), pytest.mark.filterwarnings("ignore")]  # MLflow's own warnings

SECRET = "of-the-hook"
BODY = b'{"entity":"model_version_alias","action":"created"}'


def signed(delivery: str, body: bytes = BODY, secret: str = SECRET, age_s: float = 0.0) -> dict[str, str]:
    stamp = str(int(time.time() - age_s))
    digest = hmac.new(secret.encode(), f"{delivery}.{stamp}.".encode() + body, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    return {"X-MLflow-Delivery-Id": delivery, "X-MLflow-Timestamp": stamp, "X-MLflow-Signature": signature}


def test_a_delivery_is_news_once():
    hook = Hook(SECRET)
    assert hook.is_news(signed("a"), BODY)
    assert not hook.is_news(signed("a"), BODY)
    assert hook.is_news(signed("b"), BODY)
    for number in range(MAX_HOOK_DELIVERIES + 10):
        assert hook.is_news(signed(f"n{number}"), BODY)
    assert len(hook._seen) == MAX_HOOK_DELIVERIES


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, BODY),
        (signed("a", secret="another"), BODY),
        (signed("a"), BODY + b" "),
        (signed("a", age_s=4000), BODY),
        (signed("a", age_s=-4000), BODY),
        ({**signed("a"), "X-MLflow-Delivery-Id": "b"}, BODY),
        ({**signed("a"), "X-MLflow-Timestamp": "now"}, BODY),
        ({**signed("a"), "X-MLflow-Signature": "v1,é"}, BODY),
    ],
)
def test_what_is_not_signed_now_with_our_secret_is_refused(headers: dict[str, str], body: bytes):
    with pytest.raises(ApiError) as caught:
        Hook(SECRET).is_news(headers, body)
    assert (caught.value.code, caught.value.status) == ("unauthorized", 401)


def test_without_a_secret_there_is_no_such_route(server: Server):
    assert server.post("/hooks/mlflow", BODY, **signed("a")).status == 404


@pytest.mark.parametrize("kind", ["loop", "gthread"])
def test_a_signed_delivery_needs_no_key_beside_its_signature(
    start_server: Callable[..., Server], example: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.setenv("POLICY_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("POLICY_API_KEY", "of-the-server")
    server = start_server("--model", str(example), "--worker-class", kind)
    server.wait_ready()
    assert server.post("/hooks/mlflow", BODY, **signed("a")).status == 200
    assert server.post("/hooks/mlflow", BODY, **signed("b", secret="another")).status == 401
    assert server.post("/metadata", b"").status == 401
    described = server.send("GET", "/openapi.json", headers={"Authorization": "Bearer of-the-server"}).json
    assert described["paths"]["/hooks/mlflow"]["post"]["security"] == []
    assert described["paths"]["/readyz"]["get"]["security"] == []


def test_the_secret_is_no_flag_and_is_never_shown():
    helped = run_command("carla-serve", "--help", env={"POLICY_WEBHOOK_SECRET": SECRET})
    assert SECRET not in helped.out
    assert "POLICY_WEBHOOK_SECRET" in helped.out
    assert run_command("carla-serve", "--webhook-secret", "x").code == 2


def test_a_promotion_is_followed_at_mlflows_own_word(
    start_server: Callable[..., Server], registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fresh, port = MlflowServer(tmp_path), free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh.uri)
    monkeypatch.setenv("POLICY_WEBHOOK_SECRET", SECRET)
    try:
        client, url = mlflow.MlflowClient(), f"http://127.0.0.1:{port}"
        events = [
            "model_version_alias.created"
        ]  # before the first event: MLflow remembers for a minute that none hears
        client.create_webhook(name="hook", url=f"{url}/hooks/mlflow", events=events, secret=SECRET)
        for artifact in registry.artifacts:
            publish(artifact, fresh.home)
        registry.point("hooked", "1")
        server = start_server("--model", f"{NAME}@hooked", "--workers", "2", "--poll-s", "600", "--port", str(port))
        server.url = url
        server.wait_ready()
        for number, version in (("2", "1.1.0"), ("1", "1.0.0")):
            registry.point("hooked", number)
            until(lambda version=version: served(server) == {version}, server)
        answer = server.post("/hooks/mlflow", BODY, **signed("x", secret="guessed"))
        assert answer.status == 401
        assert answer.json["error"]["code"] == "unauthorized"
        assert SECRET.encode() not in server.get("/metadata").body
        assert SECRET not in server.log.read_text()
    finally:
        fresh.kill()


def test_a_hook_is_heard_by_hand_too(start_server: Callable[..., Server], registry: Registry, monkeypatch):
    monkeypatch.setenv("POLICY_WEBHOOK_SECRET", SECRET)
    registry.point("by-hand", "1")
    server = start_server("--model", f"{NAME}@by-hand", "--poll-s", "600")
    server.wait_ready()
    registry.point("by-hand", "2")
    assert server.post("/hooks/mlflow", BODY, **signed("1")).status == 200
    until(lambda: served(server) == {"1.1.0"}, server)
    registry.point("by-hand", "1")
    assert server.post("/hooks/mlflow", BODY, **signed("1")).status == 200  # said before: nobody looks
    time.sleep(2)
    assert served(server) == {"1.1.0"}
    assert server.post("/hooks/mlflow", BODY, **signed("2")).status == 200
    until(lambda: served(server) == {"1.0.0"}, server)
