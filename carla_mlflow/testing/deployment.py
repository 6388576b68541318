"""The smoke test of a deployment: sends a running server the requests that a car would send."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpcore
import msgspec
import numpy as np
from msgspec import UnsetType

from ..artifact.artifact import Artifact
from ..artifact.golden import check_parity, largest_difference, read_golden
from ..client.client import PolicyClient
from ..client.wire import Remote
from ..contract.answer import fallback_answer
from ..errors import UnreachableError
from ..inference.rollouts import answers_of, run_freely
from .conformance import outside
from .remote_memory import acting_in_episodes, deciding_episode, rows_have_the_same_bits_at_two_steps
from .subject import Batch, expect

ROWS, REQUESTS, TIMEOUT_S = 16, 500, 10.0


@dataclass
class Deployment:
    """A server under test.

    Attributes:
        client: connected to the server.
        url: the server's, or the address of its Unix socket.
        api_key: the key that the server requires, or empty.
        artifact: the artifact that the server should serve; None skips the checks that need it.
        p99_ms: limit of the 99th percentile of one-row requests, milliseconds; None only measures.
        figures: what was measured, for people and for --json.
    """

    client: PolicyClient
    url: str
    api_key: str = ""
    artifact: Artifact | None = None
    p99_ms: float | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> Batch:
        """Observations within the bounds, the same each time."""
        rng = np.random.default_rng(6)
        return {spec.name: spec.sample(rng, ROWS) for spec in self.client.card.observation_spec}

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON of one request sent without the client, which refuses to send invalid ones."""
        sent: dict[bytes | str, bytes | str] = {"Content-Type": "application/json"}
        if self.api_key:
            sent["Authorization"] = f"Bearer {self.api_key}"
        extensions = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_S)}
        try:
            remote = Remote(self.url, self.api_key, None)
            with httpcore.ConnectionPool(uds=remote.socket) as pool:
                answer = pool.request("POST", remote.origin + path, headers=sent, content=body, extensions=extensions)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise UnreachableError(f"{self.url}{path}: no answer: {str(error) or type(error).__name__}") from error
        try:
            return answer.status, msgspec.json.decode(answer.content)
        except msgspec.DecodeError:
            return answer.status, None


def the_server_serves_the_artifact(deployment: Deployment) -> None:
    assert deployment.artifact is not None
    there, wanted = deployment.client.digest, deployment.artifact.digest
    expect(there == wanted, f"the server serves {deployment.client.version} with {there}, not {wanted}")


def its_golden_rows_are_answered_as_the_trained_policy_did(deployment: Deployment) -> None:
    assert deployment.artifact is not None
    card = deployment.artifact.card
    golden = read_golden(deployment.artifact.files[card.parity.file], card)
    if golden.rollouts is None:
        actions = deployment.client.act(golden.observations)
        expect(not actions.fallback, "the server gave the card's fallback: its own budget was over")
        actual, wanted, atol = answers_of(actions), golden.answers, card.parity.atol
    else:
        actual, wanted = run_freely(acting_in_episodes(deployment.client), golden)
        assert not isinstance(card.parity.free_running, UnsetType)  # a card with a memory states it
        atol = card.parity.free_running
    deployment.figures["golden_rows"] = len(actual["raw"])
    deployment.figures["largest_difference"] = largest_difference(actual, wanted)
    check_parity(actual, wanted, atol, card.parity.rtol, f"{card.name} {card.version}")


def a_row_gets_the_same_bits_alone_and_in_a_batch(deployment: Deployment) -> None:
    if deployment.client.card.states:
        rows_have_the_same_bits_at_two_steps(deployment.rows, deployment.post)
        return
    rows = deployment.rows
    together = deployment.client.act(rows).control
    for index in range(ROWS):
        alone = deployment.client.act({name: array[index : index + 1] for name, array in rows.items()}).control
        expect(alone.tobytes() == together[index : index + 1].tobytes(), f"row {index} alone gives other bits")


def what_does_not_fit_is_refused_with_the_field_at_fault(deployment: Deployment) -> None:
    one = {name: array[0].tolist() for name, array in deployment.rows.items()}
    for spec in deployment.client.card.observation_spec:
        for bad, _ in (each for each in outside(spec) if np.isfinite(each[0])):
            value = np.asarray(one[spec.name], dtype=np.float64)
            value.reshape(-1)[-1:] = bad
            body = msgspec.json.encode({"observations": [{**one, spec.name: value.tolist()}]})
            status, answer = deployment.post("/predict", body)
            where = str((answer or {}).get("error", {}).get("field", ""))
            fits = status == 422 and where.startswith(f"observations[0].{spec.name}")
            expect(fits, f"{bad:g} in {spec.name} got status {status}, field {where!r}")


def an_invalid_request_is_refused_without_a_5xx(deployment: Deployment) -> None:
    one = msgspec.json.encode({"observations": [{name: row[0].tolist() for name, row in deployment.rows.items()}]})
    for path, body, wanted in (
        ("/predict", b"{", 400),
        ("/predict", b'{"observations": []}', 400),
        ("/predict", one[:-1] + b', "surprise": 1}', 400),
        ("/predict?version=0.0.0-never.1", one, 404),
        ("/nothing-is-here", b"{}", 404),
    ):
        status, answer = deployment.post(path, body)
        shaped = isinstance(answer, dict) and "error" in answer
        expect(status == wanted and shaped, f"{path} with {body[:40]!r} got status {status}, expected {wanted}")


def a_budget_that_is_over_gets_the_fallback_of_the_card(deployment: Deployment) -> None:
    one = {name: array[0].tolist() for name, array in deployment.rows.items()}
    status, answer = deployment.post("/predict", msgspec.json.encode({"observations": [one], "budget_ms": 0}))
    expect(status == 504, f"a budget of 0 ms got status {status}, expected 504")
    wanted = fallback_answer(deployment.client.card.action)
    expect(answer.get("fallback") == wanted, f"the fallback was {answer.get('fallback')}, the card's is {wanted}")


def a_request_of_one_row_is_answered_in_time(deployment: Deployment) -> None:
    client, one = deployment.client, {name: array[:1] for name, array in deployment.rows.items()}
    ask = deciding_episode(client).act if client.card.states else client.act
    took = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        ask(one)
        took.append((time.perf_counter() - began) * 1e3)
    p50, p99 = (float(np.quantile(took, q)) for q in (0.5, 0.99))
    deployment.figures |= {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "requests": REQUESTS}
    allowed = deployment.p99_ms
    expect(allowed is None or p99 <= allowed, f"p99 is {p99:.2f} ms of {REQUESTS} requests, allowed are {allowed} ms")


OF_AN_ARTIFACT = (the_server_serves_the_artifact, its_golden_rows_are_answered_as_the_trained_policy_did)
DEPLOYMENT_CHECKS: tuple[Callable[[Deployment], None], ...] = (
    *OF_AN_ARTIFACT,
    a_row_gets_the_same_bits_alone_and_in_a_batch,
    what_does_not_fit_is_refused_with_the_field_at_fault,
    an_invalid_request_is_refused_without_a_5xx,
    a_budget_that_is_over_gets_the_fallback_of_the_card,
    a_request_of_one_row_is_answered_in_time,
)
